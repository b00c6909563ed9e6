"""Runs the race of the crash test in the folder that it is given, its workers forked from this process."""

import sys
from pathlib import Path

import torch
from forked_workers import start_here
from small_races import small_plan

from sooner.race.referee import run

RECIPES = ("sgd(lr=0.02)", "sgd(lr=log(0.001, 0.05))", "adamw(lr=log(0.01, 0.3))")
OPTIONS = {"tune": 3, "looks": (8,), "steps": 150}

if __name__ == "__main__":
    torch.set_num_threads(1)
    start_here()
    run(small_plan(Path(sys.argv[1]), *RECIPES, **OPTIONS))
