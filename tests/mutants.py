"""Are the tests of the foundation awake? Changes one line at a time and says whether they notice.

    python tests/mutants.py                     all mutants, on the files as they are in the working tree
    python tests/mutants.py --at REVISION       the same mutants against code and tests of a commit
    python tests/mutants.py decay               only those whose text holds this word

Each mutant lives in a copy of the tree. Its tests run until the first failure, in a process forked from one that has
imported PyTorch. A mutant that survives is a test that is missing. The exit code is the number of survivors.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 1800
"""Seconds after which a mutant counts as caught, as it hangs."""

TESTS = {
    "transform.py": ("execute/test_chain.py", "update/test_optimizer_contract.py", "execute/test_shards.py"),
    "partition.py": ("recipe/test_recipe.py", "recipe/test_training.py"),
    "objective.py": ("loop/test_token_weights.py", "loop/test_loop.py", "update/test_closures.py"),
    "_saved_state.py": ("update/test_optimizer_contract.py", "update/test_edited_optimizers.py"),
}
"""Which tests hold a file, the quickest first."""

PLACES = {
    "transform.py": ("src/sooner/transform.py",),
    "partition.py": ("src/sooner/recipe/partition.py", "src/sooner/partition.py"),
    "objective.py": ("src/sooner/objective/*.py", "src/sooner/objective.py"),
    "_saved_state.py": ("src/sooner/update/_saved_state.py",),
}
"""Where a file, or what has become of it, is or was in earlier commits."""

MUTANTS = (
    ("transform.py", "own = shape if piece is None else piece", "own = shape"),
    ("transform.py", 'shape if rule.grain == "tensor" else own) if slot', "own) if slot"),
    ("transform.py", 'for rule in self.rules if rule.grain != "tensor" for slot', "for rule in self.rules for slot"),
    ("transform.py", "return any(rule.reads_theta for", "return all(rule.reads_theta for"),
    ("transform.py", "return (*rule.slots, *rule.memory) if", "return rule.slots if"),
    ("transform.py", "if len(set(made.slots)) != len(made.slots):", "if False:"),
    ("transform.py", "return u + self.weight_decay * theta, state", "return u - self.weight_decay * theta, state"),
    ("transform.py", "return Decay(weight_decay) if weight_decay else None", "return Decay(weight_decay)"),
    ("transform.py", "return -clock.learning_rate * u, state", "return -abs(clock.learning_rate) * u * 1.001, state"),
    ("partition.py", "if not trained:", "if False:"),
    ("partition.py", 'negated, glob = pattern.startswith("!")', "negated, glob = False"),
    ("partition.py", "fnmatch.fnmatchcase(n, glob) is not negated", "fnmatch.fnmatchcase(n, glob)"),
    ("partition.py", 'pattern.removeprefix("!")', "pattern"),
    ("partition.py", "if not owners}", "if owners}"),
    ("partition.py", "if not chosen[i] & trained:", "if False:"),
    ("partition.py", "if len(names) > 4 else", "if len(names) > 5 else"),
    ("partition.py", "        if len(owners) > 1:", "        if len(owners) > 2:"),
    ("objective.py", "0 <= count < math.inf", "0 <= count"),
    (
        "objective.py",
        "isinstance(value, numbers.Real) and not isinstance(value, bool)",
        "isinstance(value, numbers.Real)",
    ),
    ("objective.py", "return torch.where(count > 0, count, 1)", "return count"),
    ("objective.py", "return count if count > 0 else 1.0", "return count"),
    ("objective.py", "aside.end(expected / positive(self._total))", "aside.end(1.0)"),
    ("objective.py", "part = loss / number if count is None", "part = loss if count is None"),
    ("objective.py", "if averaging is not None and averaging.at_once:", "if False:"),
    ("objective.py", "if known and len(known) < len(counts):", "if False:"),
    ("objective.py", "            module.training = mode", "            module.training = True"),
    ("objective.py", "                before.add_(p.grad)", "                pass"),
    ("objective.py", "            p.grad = before", "            pass"),
    ("objective.py", "torch.random.fork_rng(sorted(devices)), evaluating", "evaluating"),
    ("objective.py", "return [1 / number] * number", "return [1.0] * number"),
    ("objective.py", "if len(sizes) < 2:", "if True:"),
    ("_saved_state.py", "        if theirs != ours:", "        if False:"),
    ("_saved_state.py", 'and group.get("weight_decay"):', "and True:"),
    ("_saved_state.py", "if tuple(kept[slot].shape) != shape:", "if False:"),
    ("_saved_state.py", "set(shapes[p]) <= slots <=", "slots <="),
    ("_saved_state.py", "state_dtype(p.dtype), copy=True", "p.dtype, copy=True"),
    ("_saved_state.py", "state_dtype(p.dtype), copy=True", "state_dtype(p.dtype)"),
    ("_saved_state.py", 'saved.get("step", 1)', 'saved.get("step", 0)'),
    ("_saved_state.py", "        optimizer.param_groups = before", "        pass"),
    ("_saved_state.py", "for ours, theirs in zip(before, saved", "for theirs, ours in zip(before, saved"),
)
"""(file, what stands in it once, what stands there in the mutant)"""


def copied(revision, folder):
    """Put the tree as it is, or as it was at a commit, into a folder."""
    if revision:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        return
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    there = b"\0".join(name for name in names.split(b"\0") if name and (ROOT / os.fsdecode(name)).is_file())
    archive = subprocess.run(["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=there, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)


def noticed(tree, tests):
    """Return how the tests ended in a forked process: "caught", "survived", or "broken" where they did not run."""
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.chdir(tree)
        os.environ["PYTHONPATH"] = f"{tree}/src"
        sys.path.insert(0, f"{tree}/src")
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)])))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "caught"  # it hung, or took the interpreter with it
    return {0: "survived", 1: "caught", 2: "caught"}.get(os.WEXITSTATUS(status), "broken")


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("word", nargs="?", default="")
    asked.add_argument("--at", metavar="REVISION", help="of git; the working tree if left out")
    asked = asked.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import pytest  # noqa: F401, so that what is forked need not
    import torch

    torch.set_num_threads(1)
    counts = {"caught": 0, "survived": 0, "broken": 0}
    with tempfile.TemporaryDirectory() as tree:
        copied(asked.at, tree)
        for number, (name, old, new) in enumerate(MUTANTS):
            if asked.word not in f"{name} {old} {new}":
                continue
            files = [
                path for place in PLACES[name] for path in Path(tree).glob(place) if old in path.read_text("utf-8")
            ]
            if len(files) != 1 or (text := files[0].read_text(encoding="utf-8")).count(old) != 1:
                how = "broken"
            else:
                (file,) = files
                file.write_text(text.replace(old, new), encoding="utf-8")
                os.utime(file, (10**9 + 100 * number,) * 2)  # a time of its own, which bytecode is compared by
                how = noticed(tree, TESTS[name])
                file.write_text(text, encoding="utf-8")
                os.utime(file, (10**9 + 100 * number + 50,) * 2)
            counts[how] += 1
            print(f"{how:9} {name}: {old.strip()} -> {new.strip()}", flush=True)
    print(", ".join(f"{count} {how}" for how, count in counts.items() if count))
    return counts["survived"] + counts["broken"]


if __name__ == "__main__":
    sys.exit(main())
