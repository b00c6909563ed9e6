"""What every rank of `slow_link.py` runs behind its link: blocks of steps of all arms in turn, timed and counted.

The arms come as JSON: name -> {"recipe": text, or "ddp"; "batch": sequences; "block": steps}. Rank 0 writes a line of
JSON per block to the file named last.
"""

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from _language_model import task
from torch.nn.parallel import DistributedDataParallel

from sooner.link import sent_bytes
from sooner.recipe import Recipe

_PLANNED = 10_000


class Arm:
    """A model of its own, trained by one recipe."""

    def __init__(self, recipe: str, batch: int, block: int) -> None:
        self.task, self.block, self.done = task(batch), block, 0
        self.batches = self.task.batches(dist.get_rank(), "train")
        self.model = self.task.model(0)
        self.wire = None
        if recipe == "ddp":
            self.model = DistributedDataParallel(self.model)
            recipe = "adamw"
        self.training = Recipe(recipe).build(self.model, _PLANNED)
        communication = getattr(self.training, "communication", None)
        if communication is not None:
            self.wire = communication.wire

    def run(self) -> None:
        for _ in range(self.block):
            self.task.loss(self.model, self.batches[self.done]).backward()
            self.training.step()
            self.training.zero_grad()
            self.done += 1


def rounds(arms: dict[str, Arm], count: int) -> Iterator[dict[str, Any]]:
    for number in range(count + 1):  # the first is a warm-up: gloo makes its connections, buffers are filled
        names = list(arms)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            arm = arms[name]
            payload = arm.wire.traffic.wire_bytes if arm.wire else 0.0
            dist.barrier()
            sent, begun = sent_bytes(), time.perf_counter()
            arm.run()
            seconds, sent = time.perf_counter() - begun, sent_bytes() - sent
            dist.barrier()
            payload = arm.wire.traffic.wire_bytes - payload if arm.wire else None
            if number:
                yield {
                    "arm": name,
                    "seconds": seconds / arm.block,
                    "sent": sent / arm.block,
                    "payload": None if payload is None else payload / arm.block,
                    "load": os.getloadavg()[0],
                }


def real_time() -> bool:
    """Ask for a priority at which neighbours don't take the core, for gloo's threads too; say whether we got it."""
    with contextlib.suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(1))
        return True
    return False


def main(wanted: str, count: str, path: str, write: Callable[[str], None] = print) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    arms = {name: Arm(**settings) for name, settings in json.loads(wanted).items()}
    priority = real_time()
    for line in rounds(arms, int(count)):
        if dist.get_rank() == 0:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"real_time": priority}) + "\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
