"""SGDP: momentum SGD whose step does not lengthen weights in front of a normalisation, as lengthening only slows them.

    b <- momentum * b + (1 - dampening) * g,   p = g + momentum * b  (Nesterov; else b)
    p <- p without its part along theta, and decay <- wd_ratio * weight_decay, where g is orthogonal to theta
    theta <- theta - lr * (p + decay / (1 - momentum) * theta)

What "orthogonal" means, and over which rows, stands in `sooner.update._radial_projection`. The buffer starts at zero
and is never projected, as in the paper. The authors' release without Nesterov's look-ahead projects the buffer itself,
because its update is the same tensor; we follow the paper there.

Use it when most weights stand before a normalization, SGD works and weight decay is small.

Leave it when there is no normalization, or strong weight decay already keeps norms in check.

It costs one number of state per weight and one more reading of it for the projection; nothing on the wire.

Heo et al., 2020, arXiv 2006.08217, algorithm 1; decay, dampening and Nesterov's form as in the authors' package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

from torch import Tensor

from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, State, chain
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options
from sooner.update._radial_projection import RadialProjection, check_projection


@dataclass(frozen=True)
class ProjectedMomentum(RadialProjection):
    """Heavy-ball momentum, projected."""

    momentum: float
    dampening: float
    nesterov: bool
    slots: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def propose(self, gradient: Tensor, state: State, clock: Clock) -> tuple[Tensor, State]:
        """Return the buffer or the look-ahead, and the new buffer."""
        buffer = self.momentum * state["momentum_buffer"] + (1 - self.dampening) * gradient
        return gradient + self.momentum * buffer if self.nesterov else buffer, {"momentum_buffer": buffer}


class SGDP(ChainOptimizer):
    """SGD with momentum, projected, with decoupled weight decay; the defaults are those of the authors' example.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 0.1.
        momentum: in [0, 1), default 0.9.
        dampening: in [0, 1], default 0; it damps the first gradient too.
        weight_decay: decoupled weight decay (multiplied by ``lr / (1 - momentum)``), default 1e-5.
        nesterov: look ahead by one momentum step, default True.
        eps: added to the norms of rows, default 1e-8.
        delta: a weight is projected if its cosine with the gradient is below ``delta / sqrt(length)``, default 0.1;
            0 switches the projection off.
        wd_ratio: factor on the decay of projected weights, in [0, 1], default 0.1.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-2, 3.0)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        dampening: float = 0.0,
        weight_decay: float = 1e-5,
        nesterov: bool = True,
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        **options: Unpack[Options],
    ) -> None:
        sgd = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, **sgd, "eps": eps, "delta": delta, "wd_ratio": wd_ratio}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range("sgdp", "momentum", group["momentum"], 0.0, 1.0, open_high=True)
        check_range("sgdp", "dampening", group["dampening"], 0.0, 1.0)
        check_range("sgdp", "weight_decay", group["weight_decay"], 0.0, math.inf)
        check_range("sgdp", "eps", group["eps"], 0.0, math.inf)
        check_projection("sgdp", group)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``projected momentum with decay | descend``."""
        names = ("eps", "delta", "wd_ratio", "momentum", "dampening", "nesterov")
        decay = group["weight_decay"] / (1 - group["momentum"])
        return chain(ProjectedMomentum(weight_decay=decay, **{name: group[name] for name in names}), Descend())
