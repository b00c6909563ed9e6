"""AdamP: Adam whose step does not lengthen weights in front of a normalisation, as lengthening only slows them down.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
    p = m / ((1 - b1^t) (sqrt(v / (1 - b2^t)) + eps))          (Nesterov: b1 m + (1 - b1) g in place of m)
    p <- p without its part along theta, and decay <- wd_ratio * weight_decay, where g is orthogonal to theta
    theta <- theta - lr * (p + decay * theta)

What "orthogonal" means, and over which rows, stands in `sooner.update._radial_projection`. The decay that is ten times
weaker on projected weights is part of the method: mind it when comparing weight decays.

Use it when most weights stand before a normalization and weight decay is small.

Leave it when there is no normalization, or strong weight decay already keeps norms in check.

It costs two numbers of state per weight and one more reading of them for the projection; nothing on the wire.

Heo et al., 2020, arXiv 2006.08217, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

from torch import Tensor

from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, State, chain, sqrt
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options
from sooner.update._radial_projection import RadialProjection, check_projection
from sooner.update.adamw import check_adam


@dataclass(frozen=True)
class ProjectedAdam(RadialProjection):
    """Adam's direction, projected."""

    betas: tuple[float, float]
    nesterov: bool
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def propose(self, gradient: Tensor, state: State, clock: Clock) -> tuple[Tensor, State]:
        """Return the normalised direction and the new moments."""
        beta1, beta2 = self.betas
        mean = beta1 * state["exp_avg"] + (1 - beta1) * gradient
        square = beta2 * state["exp_avg_sq"] + (1 - beta2) * gradient * gradient
        root = square.sqrt() * (1 / sqrt(1 - beta2**clock.step)) + self.eps
        ahead = beta1 * mean + (1 - beta1) * gradient if self.nesterov else mean
        return ahead * (1 / (1 - beta1**clock.step)) / root, {"exp_avg": mean, "exp_avg_sq": square}


class AdamP(ChainOptimizer):
    """AdamP with decoupled weight decay.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 1e-3.
        betas: decay rates of the two moments, each in [0, 1), default (0.9, 0.999).
        eps: added to the root of the second moment and to the norms of rows, default 1e-8.
        weight_decay: decoupled weight decay (multiplied by lr), default 0; the authors' examples take 0.01.
        delta: a weight is projected if its cosine with the gradient is below ``delta / sqrt(length)``, default 0.1;
            0 switches the projection off.
        wd_ratio: factor on the decay of projected weights, in [0, 1], default 0.1.
        nesterov: look ahead by one momentum step, default False.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-4, 1e-1)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
        **options: Unpack[Options],
    ) -> None:
        adam = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, {**adam, "delta": delta, "wd_ratio": wd_ratio}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_adam("adamp", group)
        check_projection("adamp", group)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``projected moments with decay | descend``."""
        names = ("eps", "delta", "weight_decay", "wd_ratio", "betas", "nesterov")
        return chain(ProjectedAdam(**{name: group[name] for name in names}), Descend())
