"""Parts known not to go together, said before a run rather than after it, with the cost where it was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch.optim import Optimizer

from sooner.communication._codec import Codec
from sooner.communication._memory import Memory, NoMemory
from sooner.communication._outer import Outer
from sooner.communication.dense import Dense
from sooner.communication.dgc import DGC
from sooner.communication.econtrol import EControl
from sooner.communication.ef import EF
from sooner.communication.ef21 import EF21
from sooner.communication.ef21_momentum import EF21Momentum
from sooner.communication.random_k import RandomK
from sooner.communication.sign import Sign
from sooner.communication.top_k import TopK
from sooner.error import SoonerError
from sooner.part import Part

_FLOAT16 = 2
"""Bytes of a number."""


def doubts(parts: Sequence[Part], optimizers: Sequence[Optimizer], workers: int) -> list[str]:
    """Return what speaks against these parts in front of these optimizers, a sentence each; nothing where all is well.

    Args:
        parts: the communication parts of a recipe.
        optimizers: those that step on what the parts deliver.
        workers: how many there are.
    """
    codec = next((part for part in parts if isinstance(part, Codec)), Dense())
    memory = next((part for part in parts if isinstance(part, Memory)), NoMemory())
    found = list(_of_the_pair(codec, memory))
    found += _of_the_workers(codec, workers)
    if not any(isinstance(part, Outer) for part in parts):  # else the optimizers never see what was exchanged
        found += _of_the_optimizers(codec, memory, optimizers)
    return found


def break_even(codec: Codec) -> int | None:
    """Return above how many workers a gathered payload is more to send than an all-reduce of float16; None for never.

    A worker sends a gathered payload to n - 1 others, and 2 (n - 1) / n of one that adds up.
    """
    if codec.reducible:
        return None
    return math.floor(2 * _FLOAT16 / codec.bytes_per_number)


def _of_the_pair(codec: Codec, memory: Memory) -> Iterator[str]:
    name = codec.name()
    forgetful = isinstance(memory, NoMemory)
    if forgetful and codec.contractive and not getattr(codec, "unbiased", False):
        yield (
            f"{name} without a memory never sends what it leaves out: with different data on the workers, top-k alone "
            "stopped at 0.7 of the loss that there was to lose (benchmarks/simulated_cluster.py); add ef or "
            "ef21_momentum"
        )
    if not forgetful and isinstance(codec, RandomK) and codec.unbiased:
        yield (
            f"random_k(unbiased=True) in front of {memory.name()} makes errors larger from exchange to exchange: the "
            "scale d / k is for use without a memory; leave one of the two out"
        )
    if not forgetful and isinstance(codec, Dense):
        yield f"{memory.name()} remembers what a codec loses, and there is none; add one, such as top_k, or drop it"
    if isinstance(memory, EF21) and not isinstance(memory, EF21Momentum | EControl):
        yield (
            f"{memory.name()} follows the noise of mini-batch gradients: it stopped 39 times further from the optimum "
            "than error feedback (benchmarks/simulated_cluster.py); use ef21_momentum, unless gradients are exact"
        )


def _of_the_workers(codec: Codec, workers: int) -> Iterator[str]:
    most = break_even(codec)
    if workers == 1:
        yield "one worker sends nothing: codec and memory only cost time and change the training; leave them out"
    elif most is not None and workers > most:
        yield (
            f"{codec.name()} goes to every other worker, so beyond {most} workers it sends more than fp16 does, and "
            f"there are {workers}; use fp16, powersgd or random_k, whose payloads add up"
        )


def _of_the_optimizers(codec: Codec, memory: Memory, optimizers: Sequence[Optimizer]) -> Iterator[str]:
    if isinstance(memory, DGC):
        try:
            memory.check(optimizers)
        except SoonerError as refused:
            yield f"refused: {refused}"
        return
    # One seed each: 4.8 million parameters, 2 workers; charlm, 4 simulated workers, steps to a loss of 2.25 (dense
    # 140, top_k(ratio=0.01) + ef 380, powersgd(rank=4) + ef 200, sign + ef not within 400) at the best of 2 or 3 rates.
    adaptive = sorted({type(one).__name__ for one in optimizers if _has_variance(one)})
    if adaptive and isinstance(codec, TopK | Sign) and (isinstance(memory, EF | NoMemory)):
        names = " + ".join(part.name() for part in (codec, memory) if not isinstance(part, NoMemory))
        yield (
            f"{names} in front of {' and '.join(adaptive)}, whose variance follows what happens to be sent, needed 2.1 "
            "and 2.7 times the steps of dense AdamW on two small language models with top_k + ef, and more with sign + "
            "ef (powersgd + ef 1.1 and 1.4); use powersgd + ef, sgd, or an outer part"
        )


def _has_variance(optimizer: Optimizer) -> bool:
    """Whether it divides by a running mean of squares, as Adam does and Lion does not."""
    return any(_squares(group) for group in optimizer.param_groups) and "Lion" not in type(optimizer).__name__


def _squares(group: dict[str, Any]) -> bool:
    return len(group.get("betas", ())) > 1 or "alpha" in group or "lr_decay" in group
