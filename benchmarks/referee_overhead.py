"""What a race of commands costs beside the commands: processor time of the referee over that of its runs.

    python benchmarks/referee_overhead.py [--seconds 10] [--runs 6]

Races a script that computes for so many seconds a run and prints 25 evaluations, with one job. Told are the seconds of
processor time that worker, guard and shell take beside the script's own, and the wall time between runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from sooner.command.plan import program_of
from sooner.command.template import read
from sooner.race.engines.processes import Processes
from sooner.race.pool import Cell

SCRIPT = """
import resource, sys, time
seed, seconds = int(sys.argv[1]), float(sys.argv[2])
start, began = time.process_time(), time.perf_counter()
for step in range(26):
    while time.process_time() - start < seconds * step / 25:
        sum(range(2000))
    print(f"step {step}: val loss {1 / (step + seed):.6f}", flush=True)
used = resource.getrusage(resource.RUSAGE_SELF)
print("own", used.ru_utime + used.ru_stime, time.perf_counter() - began, file=open(sys.argv[3] + "/own", "w"))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=6)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "busy.py")
        script.write_text(SCRIPT)
        command = read(f"busy: {sys.executable} {script} {{seed}} {asked.seconds} {{out}}")
        program = program_of([command], "val_loss")
        payloads = [program.payload(command, seed, None, Path(folder, str(seed))) for seed in range(1, asked.runs + 1)]
        cells = [Cell(f"run {n}", payload) for n, payload in enumerate(payloads)]
        with Processes(1) as pool:
            pool.run(cells[:1], lambda *_: None)  # the worker imports what it needs once
            before, start = _processor(), time.perf_counter()
            pool.run(cells[1:], lambda *_: None)
            wall = time.perf_counter() - start
        used = _processor() - before
        own = [Path(payload["folder"], "out", "own").read_text().split()[1:] for payload in payloads]
    start_up = float(own[0][0])  # of the first run, which the worker's first look has cost nothing
    theirs, walls = (sum(float(one[i]) for one in own[1:]) for i in range(2))
    print(f"{len(own) - 1} runs of {asked.seconds:g} s: {theirs:.2f} s of processor time are the runs' own")
    print(
        f"all that the race used beside them: {used - theirs - start_up:.2f} s, "
        f"{(used - theirs - start_up) / theirs:.2%} of theirs (with starting the worker)"
    )
    print(f"wall time beside the runs' own: {wall - walls:.2f} s, {(wall - walls) / walls:.2%}, python's start in it")


def _processor() -> float:
    """Return the seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
