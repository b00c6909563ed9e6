"""Stochastic gradient descent with momentum: follow a running sum of gradients instead of the last one.

    b_1 = g_1,   b_t = momentum * b_{t-1} + (1 - dampening) * g_t;   theta <- theta - lr * b_t
    (Nesterov: theta <- theta - lr * (g_t + momentum * b_t))

Use it when convolutional networks and other well-conditioned models are trained, or memory is short.

Leave it when a Transformer is trained from scratch: Adam and Muon are far ahead there.

It costs one number of state per weight with momentum, none without; one pass per step; nothing on the wire.

Polyak, 1964; Nesterov, 1983; conventions of `torch.optim.SGD`.
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
from sooner.transform import Chain, Clock, Descend, State, Transform, chain, decay
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options


@dataclass(frozen=True)
class Momentum(Transform):
    """Heavy-ball momentum: the buffer starts as the first gradient, undamped."""

    momentum: float
    dampening: float = 0.0
    nesterov: bool = False
    slots: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the buffer (or the Nesterov look-ahead) as the new direction."""
        fresh = u if clock.step == 1 else (1 - self.dampening) * u
        buffer = self.momentum * state["momentum_buffer"] + fresh
        return u + self.momentum * buffer if self.nesterov else buffer, {"momentum_buffer": buffer}


class SGD(ChainOptimizer):
    """SGD with momentum, optionally Nesterov's, and coupled (L2) weight decay.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 0.1.
        momentum: in [0, 1), default 0.9.
        dampening: in [0, 1], default 0.
        nesterov: look ahead by one momentum step, default False.
        weight_decay: L2 coefficient added to the gradient, default 0.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range, or Nesterov without momentum or with dampening.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-2, 3.0)}
    optional_slots: ClassVar[frozenset[str]] = frozenset({"momentum_buffer"})  # it rests while momentum is 0

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, **defaults}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range("sgd", "momentum", group["momentum"], 0.0, 1.0, open_high=True)
        check_range("sgd", "dampening", group["dampening"], 0.0, 1.0)
        check_range("sgd", "weight_decay", group["weight_decay"], 0.0, math.inf)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise SoonerError("sgd: nesterov=True needs momentum > 0 and dampening=0; set them or drop nesterov")

    def rule(self, group: dict[str, Any]) -> Chain:
        """``decay | momentum | descend``, leaving out what is zero."""
        momentum = Momentum(group["momentum"], group["dampening"], group["nesterov"]) if group["momentum"] else None
        return chain(decay(group["weight_decay"]), momentum, Descend())
