"""A language model of 4.8 million parameters on the text of `charlm`, with the batch as an argument."""

from functools import partial

from torch import nn

from sooner.task import Task
from sooner.workloads._seeded import Finite, Stream, seeded
from sooner.workloads.charlm import CONTEXT, EVAL_SEQUENCES, GPT, loss, windows

WIDTH, BLOCKS = 256, 6


def model(seed: int) -> nn.Module:
    with seeded(seed):
        return GPT(WIDTH, BLOCKS)


def task(batch: int = 8, steps: int = 400) -> Task:
    """Return the task with `batch` sequences per worker and step."""

    def batches(seed: int, split: str) -> Stream:
        if split == "eval":
            return Finite(partial(windows, CONTEXT, seed, split, EVAL_SEQUENCES), 1)
        return Stream(partial(windows, CONTEXT, seed, split, batch))

    return Task(
        model, batches, loss, steps, name=f"language model, {batch} sequences", source=f"{WIDTH} {BLOCKS} {batch}"
    )
