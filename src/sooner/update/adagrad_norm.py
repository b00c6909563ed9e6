"""AdaGrad-Norm: gradient descent whose one step size shrinks with all the squared gradients seen so far.

    s <- s + ||g||^2,   s_0 = b0^2,   ||g|| over all parameters together
    theta <- theta - lr * g / sqrt(s + eps)

One number adapts the step for the whole model, so no curvature and no noise level need to be known beforehand.

Use it when nothing is known about the right learning rate, and one number for the whole model will do.

Leave it when layers need different rates, as in Transformers.

It costs one number of state in all; a sum over all gradients per step; nothing on the wire.

Ward et al., 2018, arXiv 1806.01811, algorithm 1 (its b_j is sqrt(s), its eta is lr); eps as in Lau et al., 2024, arXiv
2402.11215.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

from torch import Tensor

from sooner.error import SoonerError
from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, Rescale, State, chain
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options


@dataclass(frozen=True)
class DivideByAccumulatedNorm(Rescale):
    """Divides by the root of the sum of all squared norms; the memory holds that sum without ``b0``."""

    b0: float
    eps: float
    memory: ClassVar[tuple[str, ...]] = ("squared_norms",)

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """``1 / sqrt(s + eps)``."""
        squared_norms = memory["squared_norms"] + sums[0]
        return ((squared_norms + self.b0**2 + self.eps).rsqrt(),), {"squared_norms": squared_norms}


class AdaGradNorm(ChainOptimizer):
    """Gradient descent with one adaptive step size for the whole model, over all groups.

    A gradient that is not finite would spoil that number for the rest of the run: see `non_finite`.

    Args:
        params: a model, its parameters or parameter groups (one sum is taken over all groups).
        lr: length of the first step in the parameters' units (if b0 is small), default 1.
        b0: root of the sum before the first step, so that the first steps are no longer than ``lr * ||g|| / b0``,
            default 0.1; that of the first group counts.
        eps: added to the sum, default 1e-8; that of the first group counts.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range, or ``b0`` and ``eps`` both 0.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-2, 3e1)}

    def __init__(
        self, params: Any, lr: float | Tensor = 1.0, b0: float = 0.1, eps: float = 1e-8, **options: Unpack[Options]
    ) -> None:
        super().__init__(params, {"lr": lr, "b0": b0, "eps": eps}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range("adagrad_norm", "b0", group["b0"], 0.0, math.inf)
        check_range("adagrad_norm", "eps", group["eps"], 0.0, math.inf)
        if group["b0"] == 0 and group["eps"] == 0:
            raise SoonerError("adagrad_norm: b0=0 and eps=0 divide by zero at a zero gradient; set one of them above 0")

    def rule(self, group: dict[str, Any]) -> Chain:
        """``divide by the accumulated norm | descend``."""
        return chain(DivideByAccumulatedNorm(group["b0"], group["eps"]), Descend())
