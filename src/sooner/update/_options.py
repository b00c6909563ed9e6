"""What every update part takes besides its own hyper-parameters, and keywords of torch.optim that mean nothing here."""

from __future__ import annotations

import warnings
from typing import Any, Literal, TypedDict

import torch

from sooner.error import SoonerError, nearest
from sooner.execute.low_bits import FORMS

NON_FINITE = ("pass", "skip", "raise")


class Options(TypedDict, total=False):
    """What every update part takes besides its own hyper-parameters.

    Attributes:
        maximize: ascend instead of descend, default False.
        stochastic_rounding: round bfloat16 parameters up or down at random so that the mean is kept, default False:
            to the nearest, which loses steps below 1/256 of a weight. Refused for float16.
        master_weights: keep a float32 copy of half-precision parameters and step that, default False. Nothing is lost
            to rounding then, for 4 bytes per parameter. A parameter that somebody else sets takes its copy along.
        state_bits: 8 or 4 keeps running means of gradients and of their squares in as many bits, each block of 256
            (128) numbers with its own scale, of parameters with 4,096 elements or more; None (default) as exact as the
            arithmetic. With `stochastic_rounding` they are rounded up or down at random too, so that a slow mean moves
            though each change is smaller than the step between two levels. See `sooner.memory.LowBitState`.
        non_finite: what to do about a step whose gradients hold NaN or infinity: "pass" takes it as torch does
            (default), "skip" leaves parameters and state alone, "raise" refuses it. The last two read all gradients
            once more, wait for the device, and count such steps in ``optimizer.non_finite_steps``.
        decay: what weight decay is for: "all" (default), as torch does, or "matrices", which are the weights that
            multiply or are looked up (hidden matrices, convolutions, embeddings, the output layer) and not gains,
            biases, tokens and single numbers; see `sooner.kinds`. A group may say its own.
        cautious: of every step leave out what goes against the gradient of now, and lengthen the rest to make up for it
            (Liang et al., 2024, arXiv 2411.16085), default False. Refused where a step has no momentum.
        model: whose modules say what each parameter is, where `params` are parameters or groups of them.
    """

    maximize: bool
    stochastic_rounding: bool
    master_weights: bool
    state_bits: int | None
    non_finite: Literal["pass", "skip", "raise"]
    decay: Literal["all", "matrices"]
    cautious: bool
    model: torch.nn.Module | None


TORCH_ONLY = ("foreach", "fused", "capturable", "differentiable")
"""Keywords of `torch.optim` that choose among its implementations; `$SOONER_EXECUTOR` chooses among ours."""


def check_state_bits(part: str, bits: Any) -> None:
    """Refuse a number of bits that state can't be kept in.

    Raises:
        SoonerError: it is none of 8, 4 and None.
    """
    if bits is not None and (type(bits) is not int or bits not in FORMS):
        raise SoonerError(f"{part}: state_bits={bits!r} is none of 8, 4 and None; choose one of them")


_told: set[str] = set()


def tell_of_foreign(name: str, foreign: dict[str, Any]) -> None:
    """Say once that a keyword of torch.optim does nothing here; refuse every other keyword."""
    for keyword, value in foreign.items():
        if keyword not in TORCH_ONLY:
            raise TypeError(
                f"{name} has no setting {keyword!r}{nearest(keyword, (*Options.__annotations__, *TORCH_ONLY))}"
            )
        if keyword not in _told and value:
            _told.add(keyword)
            warnings.warn(
                f"{name}: {keyword}={value!r} chooses among the implementations of torch.optim and changes nothing "
                "here; $SOONER_EXECUTOR chooses among those of sooner",
                stacklevel=4,
            )
