"""U-shaped training times: a flow that is already nearly straight is trained mostly at both ends, where it is hardest.

    p(t) = a * cosh(a * (t - 1/2)) / (2 * sinh(a/2)),   t = 1/2 + arsinh((2u - 1) * sinh(a/2)) / a,   u uniform

In a second flow, trained on the pairs of noise and image that a first one has made, paths hardly cross: the velocity in
the middle is easy, and the error is at t = 1, where an image has to be found from noise alone, and at t = 0. The
authors draw from a growing exponential density and mirror half of the times; this is the same law in closed form, one
time per uniform number and in the same order. It is cut to [1e-5, 1 - 1e-5], as theirs. Because the law replaces
uniform numbers, anything that draws those in another way (stratified, low discrepancy) goes with it.

Use it when a flow is rectified again or distilled from pairs, beside the pseudo-Huber loss (`pseudo_huber`).

Leave it when a flow or a diffusion model is trained from data alone: there the middle is the hard part.

It costs a few numbers per example; no state, no pass; nothing on the wire.

Lee, Lin and Fanti, 2024, arXiv 2405.20320, section 4.1; the mirrored law and the cut from the authors' code
(sangyun884/rfpp, t_dist.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from sooner.diffusion._flow import Times
from sooner.error import SoonerError
from sooner.part import check_range
from sooner.space import Knob, Uniform

__all__ = ["UShaped", "u_shaped"]

CUT = 1e-5
FLAT = 1e-4
"""Below this the law differs from the uniform one by less than 1e-9, and its formula divides by almost nothing."""


def u_shaped(uniform: Tensor, a: float = 4.0) -> Tensor:
    """Return U-shaped times for uniform numbers, of their shape, type and device.

    Args:
        uniform: floating point, in [0, 1]. Half precision is computed in float32.
        a: how much more often the ends come than the middle (cosh(a/2) times), in [0, 50]; default 4; 0 is uniform.

    Raises:
        SoonerError: `a` out of range, or numbers that are no floating point.
    """
    check_range("u_shaped", "a", a, 0.0, 50.0)
    if not uniform.is_floating_point():
        raise SoonerError(f"u_shaped: uniform numbers of type {uniform.dtype}; give floating-point ones in [0, 1]")
    wide = torch.promote_types(uniform.dtype, torch.float32)
    t = uniform.to(wide)
    if a >= FLAT:
        t = 0.5 + torch.asinh((2 * t - 1) * math.sinh(a / 2)) / a
    return (CUT + (1 - 2 * CUT) * t).to(uniform.dtype)


class UShaped(Times):
    """The law as a part: called with uniform numbers, or `draw`; in a recipe it is put around the task's loss.

    Args:
        a: how much more often the ends come than the middle (cosh(a/2) times), in [0, 50]; default 4; 0 is uniform.

    Raises:
        SoonerError: `a` out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"a": Uniform(0.5, 8.0)}

    def __init__(self, a: float = 4.0) -> None:
        check_range("u_shaped", "a", a, 0.0, 50.0)
        self.a = a

    def __call__(self, uniform: Tensor) -> Tensor:
        """Return U-shaped times for uniform numbers, as `u_shaped`."""
        return u_shaped(uniform, self.a)

    def density(self, times: Tensor) -> Tensor:
        """Return p(t), for weights that undo the choice of times."""
        if self.a < FLAT:
            return torch.ones_like(times)
        return self.a * torch.cosh(self.a * (times - 0.5)) / (2 * math.sinh(self.a / 2))
