"""Processes that are killed while they write lazy checkpoints, and what they leave: run by the claim of `lazy_saver`.

python -m sooner.claims._killed FOLDER TIMES SEED

A process of its own, without threads, forks every victim, so that PyTorch is loaded once.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from sooner.error import SoonerError
from sooner.memory.lazy_saver import LazySaver

NUMBERS = 1_000_000
"""Weights of a victim: a file takes several milliseconds, so that most are killed while one is written."""


def train(folder: Path) -> None:
    """Count in the weights, with a checkpoint before every step, until killed."""
    p = torch.nn.Parameter(torch.zeros(NUMBERS))
    optimizer = torch.optim.SGD([p], lr=1.0, momentum=0.5)
    saver = LazySaver(optimizer, keep=2)
    p.grad = torch.full_like(p, -1.0)
    for step in itertools.count():
        saver.save(folder / f"{step}.pt", p=p, optimizer=optimizer, step=step, sum=float(p.detach()[0]))
        optimizer.step()


def check(folder: Path) -> dict[str, int]:
    """Return how many files have their name, how many of them are damaged, and how many were under way."""
    finished, broken = sorted(folder.glob("*.pt")), 0
    for path in finished:
        try:
            content = torch.load(path, weights_only=True)
            right = bool((content["p"] == content["sum"]).all()) and content["step"] == int(path.stem)
        except Exception:  # whatever a damaged file leads to
            right = False
        broken += not right
    return {"finished": len(finished), "broken": broken, "under_way": len(list(folder.glob("*.incomplete")))}


def main(folder: Path, times: int, seed: int) -> None:
    """Print what the killed processes have left, all in all."""
    torch.set_num_threads(1)
    chance = random.Random(seed)
    total = {"finished": 0, "broken": 0, "under_way": 0}
    for number in range(times):
        place = folder / str(number)
        place.mkdir()
        victim = os.fork()
        if victim == 0:
            try:
                train(place)
            except SoonerError as error:
                print(error, file=sys.stderr)
            os._exit(1)
        while not list(place.glob("*.pt")):
            if os.waitpid(victim, os.WNOHANG)[0]:
                raise SystemExit("a process ended before it was killed")
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 0.1))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        found = check(place)
        total = {key: total[key] + found[key] for key in total}
        for left in place.iterdir():
            left.unlink()
    print(json.dumps(total))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
