"""Low-bit state: running means of gradients and their squares rest in 8 or 4 bits, and are full numbers in the step.

    s = max |x| over a block of 256 (128) numbers;   at rest: s and, for every x, the nearest level to x / s, in a byte
    in the step, some numbers at a time:   decode,  m, v, theta <- as the optimizer has it,  encode

Use it when the optimizer's state does not fit: two float32 numbers per weight become 2.03 bytes, or 1.06.

Leave it when weights are sharded thinly anyway, or the model is small: then the state is no large part of memory.

It costs a pass of decoding and encoding per step, on a processor several times the step itself; nothing on the wire.

Blocks and the dynamic levels are those of Dettmers et al., 2021, arXiv 2110.02861; 4 bits, evenly spaced levels for
second moments and what a stored zero does there are from Li et al., 2023, arXiv 2309.01507, whose scales of rows and
columns we leave out: a block of 128 suits state of any shape. Where no number of a block is negative, levels are all on
that side of 0, seen by the numbers and not by the rule, and nothing but 0 is stored as 0. A block with NaN or infinity
is NaN as a whole. State of parameters with fewer than 4,096 elements stays whole, and so does what is no mean:
curvature, factors of matrices, weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.foundation.unwrap import unwrapped
from sooner.part import Part

__all__ = ["LowBitState"]


class LowBitState(Part):
    """Lets optimizers of sooner keep running means in few bits; their option ``state_bits`` does the same.

        optimizer = sooner.update.AdamW(model, state_bits=8)      # or
        sooner.memory.LowBitState(optimizer, bits=8)

    State that is there already is shortened at the next step. State files hold it as it rests, and loading one gives
    the same bits. A group with its own ``state_bits`` keeps that.

    Args:
        optimizer: the optimizer, or all that move the model; wrappers are looked through.
        bits: 8 (default) or 4.

    Raises:
        SoonerError: another number of bits, an optimizer that is not one of sooner's, or one that keeps no means.
    """

    station: ClassVar[str] = "memory"
    owns = frozenset({"optimizer state"})

    def __init__(self, optimizer: Optimizer | Iterable[Optimizer], bits: int = 8) -> None:
        if not isinstance(bits, int) or isinstance(bits, bool) or bits not in (8, 4):
            raise SoonerError(f"low_bit_state: bits={bits!r} is neither 8 nor 4; choose one of them")
        given = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
        found = [unwrapped(one) for one in given]
        for one in found:
            if not hasattr(one, "shorten_state"):
                raise SoonerError(
                    f"low_bit_state: {type(one).__name__} is no optimizer of sooner, so its state is its own affair; "
                    "use one of sooner.update, or a library's 8-bit version of it"
                )
        for one in found:
            one.shorten_state(bits)
