"""Runs the race of the crash test in processes of their own, forked from this one, which has imported all it takes.

For each folder read from standard input it starts the race, prints its process id, and prints its end when it has one.
"""

import os
import sys
import traceback
from pathlib import Path

import torch
from small_races import small_plan

from sooner.race.referee import run

RECIPES = ("sgd(lr=0.02)", "sgd(lr=log(0.001, 0.05))", "adamw(lr=log(0.01, 0.3))")
OPTIONS = {"tune": 3, "looks": (8,), "steps": 150}


def race(folder):
    try:
        run(small_plan(Path(folder), *RECIPES, **OPTIONS))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            race(line.strip())
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
