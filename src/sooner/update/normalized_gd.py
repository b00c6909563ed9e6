"""Normalized gradient descent: step along the gradient, with a length that does not depend on the gradient's size.

    theta <- theta - lr * b,   b = momentum * b + g / (||g|| + eps),   ||g|| over all parameters together

Use it when the size of gradients carries no information, as far from a minimum or with heavy tails.

Leave it when noise in single batches is larger than the gradient and momentum is off.

It costs no state, or one number per weight with momentum; a sum over all gradients per step; nothing on the wire.

Nesterov, 1984; the form with momentum after Cutkosky and Mehta, 2020, arXiv 2002.03305, with the gradient normalised
before the sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

from torch import Tensor

from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, Rescale, State, chain
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options
from sooner.update.sgd import Momentum


@dataclass(frozen=True)
class NormalizeGlobally(Rescale):
    """Divides by the norm over all parameters of all groups."""

    eps: float

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """``1 / (norm + eps)``."""
        return (1 / (sums[0].sqrt() + self.eps),), memory


class NormalizedGD(ChainOptimizer):
    """Gradient descent with steps of length ``lr`` (``lr / (1 - momentum)`` at most with momentum).

    Args:
        params: a model, its parameters or parameter groups (one norm is taken over all groups).
        lr: length of a step in the parameters' units, default 0.1.
        momentum: heavy-ball momentum on the normalised gradient, in [0, 1), default 0.
        eps: keeps a zero gradient from dividing by zero, default 1e-12.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-3, 1.0)}
    optional_slots: ClassVar[frozenset[str]] = frozenset({"momentum_buffer"})  # it rests while momentum is 0

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.1,
        momentum: float = 0.0,
        eps: float = 1e-12,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "eps": eps}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range("normalized_gd", "momentum", group["momentum"], 0.0, 1.0, open_high=True)
        check_range("normalized_gd", "eps", group["eps"], 0.0, math.inf)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``normalise | momentum | descend``, leaving momentum out where no group has any."""
        # all groups run the same kinds of rules, for only then is one norm taken over all of them
        wanted = group["momentum"] or any(other["momentum"] for other in self.param_groups)
        return chain(NormalizeGlobally(group["eps"]), Momentum(group["momentum"]) if wanted else None, Descend())
