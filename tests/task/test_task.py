"""Reading a task from a file, and trying it out: every way to fall short gets one sentence with the remedy."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sooner
from sooner.task import Task, check, derived_seed, from_file

GOOD = '''
"""Fit a line.

More words that a table does not show.
"""
import torch
from torch import nn

steps = 20


def model(seed):
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


class Batches:
    def __init__(self, seed, count=None):
        self.seed, self.count = seed, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(self.seed % 1000 + index)
        return torch.randn(4, 3, generator=generator)


def batches(seed, split):
    return Batches(seed, 2 if split == "eval" else None)


def loss(model, batch):
    return model(batch).square().mean()
'''


def write(folder, text, name="line.py"):
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def changed(*replacements):
    text = GOOD
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return text


# reading


def test_a_file_becomes_a_task(tmp_path):
    text = changed(("steps = 20", "steps = 20\nmetric = 'size'\nhigher_is_better = True\nevaluations = 4"))
    text += "\n\ndef metrics(model, batch):\n    return {'size': 1.0}\n\n\ndef fingerprint():\n    return 'made up'\n"
    task = from_file(write(tmp_path, text))
    assert (task.name, task.spec) == ("line", str((tmp_path / "line.py").resolve()))
    assert task.description == "Fit a line."
    assert (task.steps, task.metric, task.higher_is_better, task.evaluations) == (20, "size", True, 4)
    assert task.fingerprint() == "made up"
    assert task.source == text
    plain = from_file(write(tmp_path, GOOD))
    assert (plain.metric, plain.higher_is_better, plain.evaluations, plain.metrics) == ("loss", False, 25, None)


def test_a_file_finds_its_neighbours_and_leaves_the_path_as_it_was(tmp_path):
    write(tmp_path, "WIDTH = 3", "neighbour_of_line.py")
    before = list(sys.path)
    text = changed(("steps = 20", "from neighbour_of_line import WIDTH\nsteps = 20"), ("Linear(3", "Linear(WIDTH"))
    assert from_file(write(tmp_path, text)).model(0).in_features == 3
    assert sys.path == before


def test_what_a_file_defines_can_be_pickled(tmp_path):
    task = from_file(write(tmp_path, GOOD))
    assert pickle.loads(pickle.dumps(task.batches(1, "train"))).seed == 1


def test_the_encoding_that_a_file_declares_is_respected(tmp_path):
    file = tmp_path / "line.py"
    file.write_bytes(b"# -*- coding: latin-1 -*-\n# gr\xfc\xdfe\n" + GOOD.encode())
    assert "grüße" in from_file(file).source


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import torch\nsteps = (1\n", r"line.py does not import: line 2: SyntaxError: '\(' was never closed"),
        ("import torch\n\nprint(1 / 0)\n", "line.py does not import: line 3: ZeroDivisionError: division by zero"),
        ("\ndef f():\n    return g()\n\n\ndef g():\n    return {}['key']\n\n\nf()", "line 7: KeyError: 'key'"),
        ("import no_such_module_here", "line 1: ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("raise SystemExit(3)", "line 1: SystemExit: 3; make `python .*line.py` run"),
        ("\n\nimport broken_neighbour", "line 3: SyntaxError"),
        ("\n\nimport failing_neighbour", "line 3: ZeroDivisionError"),
        (changed(("def loss", "def los")), r"defines no function loss \(did you mean 'los'\?\); a task needs model"),
        (changed(("def model", "def make_net")), r"defines no function model; a task needs model\(seed\)"),
        (changed(("def batches(", "batches = 3\n\n\ndef data(")), "defines no function batches"),
        (
            changed(("steps = 20", "step = 20")),
            r"sets no budget \(did you mean 'step'\?\); add a line such as steps = 400",
        ),
        (changed(("steps = 20", "")), "sets no budget; add a line such as steps = 400"),
        (changed(("steps = 20", "steps = 1e3")), r"task line: steps = 1000.0 must be a whole number of at least 1"),
        (changed(("steps = 20", "steps = 0")), "task line: steps = 0 must be"),
        (changed(("steps = 20", "steps = True")), "task line: steps = True must be"),
        (changed(("steps = 20", "steps = 20\nevaluations = 0")), "evaluations = 0 must be a whole number"),
        (changed(("steps = 20", "steps = 20\nmetrics = {'a': 1}")), r"metrics = \{'a': 1\} must be a function"),
        (
            changed(("steps = 20", "steps = 20\nfingerprint = 'x'")),
            "fingerprint = 'x' must be a function; define it or",
        ),
    ],
)
def test_a_file_that_defines_no_task_is_told_where_and_why(tmp_path, monkeypatch, text, sentence):
    write(tmp_path, "x = (", "broken_neighbour.py")
    write(tmp_path, "\n\n\n\n1 / 0", "failing_neighbour.py")
    file = write(tmp_path, text)
    before = (list(sys.path), set(sys.modules))
    monkeypatch.chdir(tmp_path)
    for path in (file, Path("line.py")):  # as people write it, and as the command line passes it
        with pytest.raises(sooner.SoonerError, match=sentence):
            from_file(path)
    assert sys.path == before[0]
    if "does not import" in sentence:
        assert not {m for m in set(sys.modules) - before[1] if m.startswith("sooner_task_")}


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "nothing.py", tmp_path):
        with pytest.raises(sooner.SoonerError, match=f"there is no file {path}; give the path of a Python file"):
            from_file(path)
    with pytest.raises(sooner.SoonerError, match="is not a Python file; a task is a file that ends in"):
        from_file(write(tmp_path, GOOD, "notes.txt"))


# trying out


def identity(tmp_path, text=GOOD):
    return check(from_file(write(tmp_path, text)))


def test_a_good_task_gets_an_identity(tmp_path):
    found = identity(tmp_path)
    assert found["parameters"] == 4
    assert found["data"] == ""
    assert len(found["fingerprint"]) == len("sha256:") + 16
    assert identity(tmp_path) == found


def test_the_fingerprint_changes_with_the_data_and_with_the_source(tmp_path):
    table = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "table.npy", table)
    reading = changed(
        ("import torch\n", "import numpy as np\nimport torch\nfrom pathlib import Path\n"),
        (
            "return torch.randn(4, 3, generator=generator)",
            "return torch.from_numpy(np.load(Path(__file__).parent / 'table.npy')) + index",
        ),
    )
    before = identity(tmp_path, reading)["fingerprint"]
    assert identity(tmp_path, reading)["fingerprint"] == before
    table[3, 2] += 1e-3
    np.save(tmp_path / "table.npy", table)
    after = identity(tmp_path, reading)["fingerprint"]
    assert after != before
    assert identity(tmp_path, reading + "\n# a remark\n")["fingerprint"] not in (before, after)


def test_trying_out_leaves_the_global_random_state(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    identity(tmp_path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    "batch",
    ["x", "(x, x.long())", "{'a': x, 'b': [1, 'two', None]}", "(x.numpy(), x.bfloat16(), x > 0, x[:0], x.sum())"],
)
def test_a_batch_may_be_anything(tmp_path, batch):
    text = changed(
        (
            "return torch.randn(4, 3, generator=generator)",
            f"x = torch.randn(4, 3, generator=generator)\n        return {batch}",
        ),
        ("model(batch).square().mean()", "model(torch.ones(1, 3)).square().mean()"),
    )
    assert identity(tmp_path, text) == identity(tmp_path, text)


def test_a_list_of_exactly_enough_batches_will_do(tmp_path):
    text = changed(
        ("steps = 20", "steps = 3"),
        (
            "    return Batches(seed, 2",
            "    return [Batches(seed)[i] for i in range(2 if split == 'eval' else 3)]\n    return (0, 2",
        ),
    )
    assert identity(tmp_path, text)["parameters"] == 4


RAND = ("return torch.randn(4, 3, generator=generator)", "return torch.randn(4, 3)")
FALLS_SHORT = {
    "model of another type": (
        [("return nn.Linear(3, 1)", "return 3")],
        r"model\(seed\) returned a int; return a torch.nn.Module",
    ),
    "model raises": (
        [("return nn.Linear(3, 1)", "raise RuntimeError('no such layer')")],
        r"model\(\d+\) raised RuntimeError: no such layer; make it run on its own first",
    ),
    "model unseeded": (
        [("    torch.manual_seed(seed)\n", "")],
        r"model\(seed\) gave two different models for one seed; begin it with torch.manual_seed\(seed\)",
    ),
    "batches raise": (
        [("return Batches(", "raise OSError('disk')\n    return Batches(")],
        r"batches\(\d+, 'train'\) raised OSError: disk",
    ),
    "training batches unseeded": (
        [RAND],
        r"batches\(seed, 'train'\)\[3\] gave two different batches for one seed and step; draw from torch.Generator",
    ),
    "order of numpy": (
        [
            (
                "generator = torch",
                "import numpy\n        index = int(numpy.random.rand() * 1e6)\n        generator = torch",
            )
        ],
        r"batches\(seed, 'train'\)\[3\] gave two different batches",
    ),
    "evaluation batches unseeded": (
        [("generator=generator)", "generator=None if self.count else generator)")],
        r"batches\(seed, 'eval'\)\[0\] gave two different batches",
    ),
    "order drawn once, unseeded": (
        [("self.seed, self.count = seed, count", "self.seed, self.count = int(torch.randint(99, ()) + 1), count")],
        r"batches\(seed, 'train'\)\[3\] gave two different batches",
    ),
    "seed without effect": (
        [("manual_seed(seed)", "manual_seed(0)"), ("self.seed % 1000 + index", "index")],
        r"neither model\(seed\) nor batches\(seed, split\) depends on its seed, so all runs would be the same; use it",
    ),
    "no index": (
        [("return Batches(seed, 2", "return 12\n    return (0, 2")],
        r"batches\(seed, 'train'\) returned a int that can't be indexed by step; return an object where",
    ),
    "too short": (
        [("return Batches(seed, 2", "return [Batches(seed)[i] for i in range(19)]\n    return (0, 2")],
        r"batches\(seed, 'train'\) has no batch 19 \(list index out of range\); return an object that gives",
    ),
    "index raises": (
        [("generator = torch", "assert index < 7, 'enough'\n        generator = torch")],
        r"batches\(seed, 'train'\)\[19\] raised AssertionError: enough; make it return the batch of that step",
    ),
    "no evaluation length": (
        [("def __len__(self):\n        return self.count", "")],
        r'batches\(seed, "eval"\) has no length of at least 1; return a list of batches',
    ),
    "empty evaluation": (
        [("return Batches(seed, 2 if", "return [] if split == 'eval' else Batches(seed, 2 if")],
        r'batches\(seed, "eval"\) has no length of at least 1',
    ),
    "evaluation shorter than its length": (
        [("generator = torch", "if self.count and index > 0: raise IndexError('one')\n        generator = torch")],
        r"batches\(seed, 'eval'\) has no batch 1 \(one\); make its length the number of batches it gives",
    ),
    "loss raises": (
        [("model(batch).square()", "model(batch[:, :2]).square()")],
        r"loss\(…, …\) raised RuntimeError: mat1 and mat2",
    ),
    "loss not scalar": (
        [(".square().mean()", ".square()")],
        r"loss\(model, batch\) returned shape \(4, 1\); return a 0-d tensor",
    ),
    "loss a number": (
        [(".square().mean()", ".square().mean().item()")],
        r"loss\(model, batch\) returned a float; return a 0-d tensor",
    ),
    "loss not finite": (
        [(".square().mean()", ".square().mean() * float('nan')")],
        r"loss\(model, batch\) is nan at step 0; make the untrained model's loss finite",
    ),
    "loss detached": (
        [(".square().mean()", ".square().mean().detach()")],
        r"loss\(model, batch\) does not depend on the model's parameters; compute it from model",
    ),
    "loss of something else": (
        [("model(batch).square().mean()", "torch.zeros((), requires_grad=True) * 2")],
        r"loss\(model, batch\) does not depend on the model's parameters",
    ),
    "loss without a way back": (
        [
            (
                "    return model(batch).square().mean()",
                "    value = model(batch).square().mean()\n    value.backward()\n    return value",
            )
        ],
        r"loss\(model, batch\) can't be differentiated \(.*second time",
    ),
    "no parameters": (
        [("nn.Linear(3, 1)", "nn.Flatten()"), ("self.seed % 1000", "self.seed")],
        r"loss\(model, batch\) does not depend on the model's parameters",
    ),
    "metric missing": (
        [("steps = 20", "steps = 20\nmetric = 'error'")],
        r"metric 'error' is not among what metrics\(model, batch\) returns \(nothing\); return it or set metric",
    ),
    "metric mistyped": (
        [
            (
                "steps = 20",
                "steps = 20\nmetric = 'error'\n\n\ndef metrics(model, batch):\n    return {'eror': 0.0, 'size': 1}",
            )
        ],
        r"metric 'error' is not among what metrics\(model, batch\) returns \(eror, size\)",
    ),
    "metrics raise although the loss is raced": (
        [("steps = 20", "steps = 20\n\n\ndef metrics(model, batch):\n    return {}['a']")],
        r"metrics\(…, …\) raised KeyError: 'a'",
    ),
    "metrics no dict": (
        [("steps = 20", "steps = 20\nmetric = 'a'\n\n\ndef metrics(model, batch):\n    return 0.5")],
        r"metrics\(model, batch\) returned a float; return a dict of numbers",
    ),
    "metric of many numbers": (
        [("steps = 20", "steps = 20\n\n\ndef metrics(model, batch):\n    return {'a': torch.zeros(2)}")],
        r"metric 'a' is not one number \(.*\); return a 0-d tensor",
    ),
    "fingerprint raises": (
        [("steps = 20", "steps = 20\n\n\ndef fingerprint():\n    return 1 / 0")],
        r"fingerprint\(\) raised ZeroDivisionError",
    ),
}


@pytest.mark.parametrize("case", FALLS_SHORT)
def test_a_task_that_falls_short_is_told_how(tmp_path, case):
    replacements, sentence = FALLS_SHORT[case]
    with pytest.raises(sooner.SoonerError, match=f"task line: {sentence}"):
        identity(tmp_path, changed(*replacements))


def test_a_full_batch_that_ignores_the_seed_is_fine_as_long_as_the_model_does_not(tmp_path):
    assert identity(tmp_path, changed(("self.seed % 1000 + index", "7")))["parameters"] == 4


# tasks made in Python


def net(seed):
    torch.manual_seed(seed)
    return nn.Linear(2, 1)


class Rows:
    def __init__(self, seed):
        self.seed = seed

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return torch.full((2, 2), 1.0 + self.seed % 7 + index)


def rows(seed, split):
    return Rows(seed)


def mean(model, batch):
    return model(batch).mean()


def test_a_task_made_in_python_can_be_sent_to_other_processes():
    task = Task(net, rows, mean, steps=9)
    found = check(task)
    assert found["parameters"] == 3
    assert check(pickle.loads(pickle.dumps(task))) == found


def test_a_task_that_no_import_finds_travels_by_value_and_asks_for_what_that_needs(monkeypatch):
    pytest.importorskip("cloudpickle")
    task = Task(net, rows, lambda model, batch: mean(model, batch), steps=9, name="mine")
    assert check(task) == check(Task(net, rows, mean, steps=9))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        sooner.SoonerError,
        match=r"task mine can't be sent to worker processes.*pip install 'sooner\[notebook\]', or define model",
    ):
        check(task)


def test_the_evaluation_split_is_always_asked_for_with_the_same_seed():
    asked = []

    def batches(seed, split):
        asked.append((split, seed))
        return Rows(seed)

    for seed in (1, 2):
        sooner.train(Task(net, batches, mean, steps=1), "sgd", seed=seed)
    assert [seed for split, seed in asked if split == "eval"] == [0, 0]
    assert [seed for split, seed in asked if split == "train"] == [derived_seed(1, "order"), derived_seed(2, "order")]
