"""A race of commands over a GPT of ten million parameters: what the referee costs, and what is left of it when killed.

    python benchmarks/command_race.py [--steps 12] [--seeds 6]

The script is the one of the tests (`tests/command/gpt.py`), 8 layers of width 256 and a vocabulary of 8,192, at two
learning rates, one job. Told are the processor and wall time of the whole race beside those of its runs, and whether
a second race that is killed at three moments, and begun again each time, ends with the same result.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "tests" / "command" / "gpt.py"
SIZE = "8192 64 256 8"
TIMED = """
import resource, subprocess, sys, time
folder, *command = sys.argv[1:]
began = time.perf_counter()
code = subprocess.call(command)
wall = time.perf_counter() - began
used = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
file = open(f"{folder}/{time.time_ns()}", "w")  # of every run one, though tries share folders
print(sum(one.ru_utime + one.ru_stime for one in used), wall, file=file)
sys.exit(code)
"""
"""Counts what a run takes from its interpreter's first moment to its last: PyTorch is not gone within a second."""
UNEQUAL = ("cost", "seconds", "started", "finished", "machine", "environment", "provenance", "folder", "out", "command")
"""Parts of a result that differ between two races of the same runs: what was timed, when, and where."""


def command(folder: Path, name: str, steps: int, seeds: int) -> list[str]:
    """Return the race as it is typed."""
    script, timed = shlex.quote(str(SCRIPT)), shlex.quote(str(folder / "timed.py"))
    words = [sys.executable, "-m", "sooner", "race", "--metric", "val_loss", "--steps", str(steps), "--tune", "1"]
    words += ["--seeds", str(seeds), "--jobs", "1", "--json", "--out", str(folder / name)]
    for arm, low, high in (("slow", "1e-5", "1e-4"), ("fast", "3e-4", "3e-3")):
        python = shlex.quote(sys.executable)
        own = f"{python} -I -S {timed} {shlex.quote(str(folder / 'own'))} {python} {script} --size {SIZE}"
        words += ["--command", f"{arm}: {own} --lr {{lr:log({low},{high})}} --seed {{seed}} --steps {{steps}}"]
    return words


def own_seconds(folder: Path) -> tuple[int, float, float]:
    """Return how many runs there were, and their own processor and wall seconds."""
    rows = [tuple(map(float, path.read_text().split())) for path in (folder / "own").iterdir()]
    return len(rows), sum(row[0] for row in rows), sum(row[1] for row in rows)


def killed(words: list[str], journal: Path, lines: int) -> bool:
    """Start the race and kill all of it when its journal has so many lines; False where it ended before."""
    begun = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while begun.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            os.killpg(begun.pid, signal.SIGKILL)
            begun.wait()
            return True
        time.sleep(0.2)
    return False


def same(one: Any, other: Any) -> bool:
    """Whether two results tell the same, but for what was timed, when and where."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            same(one[name], other[name]) for name in one if not any(part in name for part in UNEQUAL)
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=6)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "timed.py").write_text(TIMED)
        (folder / "own").mkdir()
        words = command(folder, "whole", asked.steps, asked.seeds)
        began = time.perf_counter()
        whole = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
        wall = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        runs, theirs, walls = own_seconds(folder)
        all_of_it = used.ru_utime + used.ru_stime
        print(f"{runs} runs: {theirs:.1f} s of processor time are their own, of {all_of_it:.1f} s")
        more, longer = (all_of_it - theirs) / theirs, (wall - walls) / walls
        print(f"beside them: {more:.2%} of processor time, {longer:.2%} of wall time")
        lines = sum(path.read_bytes().count(b"\n") for path in (folder / "whole").glob("journal.jsonl"))
        words = command(folder, "killed", asked.steps, asked.seeds)
        journal = folder / "killed" / "journal.jsonl"
        times = [killed(words, journal, lines * share // 10) for share in (2, 5, 8)]
        again = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
        told = "the same" if same(whole, again) else "ANOTHER result"
        print(f"killed {sum(times)} times at 2, 5 and 8 tenths of its journal, begun again: {told}")


if __name__ == "__main__":
    main()
