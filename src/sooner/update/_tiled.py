"""What methods with an eigenbasis for the rows and for the columns of every matrix share: settings and partition."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from sooner.part import check_range
from sooner.transform import Clock, Grain, State, Transform
from sooner.update._form import Form
from sooner.update._matrices import MatrixOptimizer
from sooner.update._tiles import Kept, Tiling
from sooner.update.apollo import DecayMoved


@dataclass(frozen=True)
class TiledRule(Transform):
    """Base of rules that step tiles by state of their sides, which the first gradient begins without a step.

    Attributes:
        tiling: how weights are cut.
        sides: the state of sides, by slot.
    """

    tiling: Tiling
    grain: ClassVar[Grain] = "tensor"
    sides: ClassVar[Mapping[str, Kept]] = {}

    def slot_shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the weight's shape for what is no state of sides: moments of its coordinates in the bases."""
        return self.tiling.slot_shape(self.sides[slot], shape) if slot in self.sides else shape

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Step the matrices of a stack ``[n, *shape]`` of same-shaped gradients; nothing at the first step."""
        taken = clock.step - 1
        step = functools.partial(self.stepped, taken) if taken else self.begun
        return self.tiling.each(u, state, self.sides, step)

    @abstractmethod
    def begun(self, gradient: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return zeros and the state of tiles ``[m, rows, columns]`` after their first gradient."""

    @abstractmethod
    def stepped(self, taken: int, gradient: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the direction and the new state of tiles ``[m, rows, columns]``, of which so many steps were taken."""


@dataclass(frozen=True)
class DecayMovedLater(DecayMoved):
    """The same, but not at the first step, where nothing moves."""

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Leave the first displacement as it is; decay the others."""
        return (u, state) if clock.step == 1 else super().rule(u, state, theta, clock)


class TiledOptimizer(MatrixOptimizer):
    """Base of SOAP and KL-Shampoo.

    Groups have, besides what `MatrixOptimizer` needs, ``interval`` (steps between two refreshes of the bases),
    ``shampoo_beta``, ``max_side`` and ``block``; see `sooner.update.soap.SOAP`.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        if group["shampoo_beta"] is not None:
            check_range(cls.name(), "shampoo_beta", group["shampoo_beta"], 0.0, 1.0, open_high=True)
        check_range(cls.name(), "interval", group["interval"], 1, math.inf, whole=True)
        check_range(cls.name(), "max_side", group["max_side"], 1, math.inf, whole=True)
        if group["block"] is not None:
            check_range(cls.name(), "block", group["block"], 2, math.inf, whole=True)

    def rule_name(self, p: Tensor, settings: dict[str, Any]) -> str:
        """Return what steps a parameter, for `explain`: the method and how the weight is divided, or AdamW."""
        if not settings[self.name()]:
            return super().rule_name(p, settings)
        told = tiling(settings, settings["form"]).told(p.shape)
        return f"{self.name()} ({told})" if told else self.name()


def decay_later(weight_decay: float) -> DecayMovedLater | None:
    """Return the decay of what has moved, from the second step on; None where there is none."""
    return DecayMovedLater(weight_decay) if weight_decay else None


def tiling(group: Mapping[str, Any], form: Form) -> Tiling:
    """Return how a group cuts the weights of a form."""
    return Tiling(form, group["block"], group["max_side"])


def shampoo_beta(group: Mapping[str, Any]) -> float:
    """Return the decay rate of the second moments of rows and columns, by default that of Adam's second moment."""
    beta: float = group["betas"][1] if group["shampoo_beta"] is None else group["shampoo_beta"]
    return beta
