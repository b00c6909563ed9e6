"""What methods with an eigenbasis for the rows and for the columns of every matrix share: settings and partition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sooner.part import check_range
from sooner.update._form import Form
from sooner.update._matrices import MatrixOptimizer
from sooner.update._tiles import Tiling


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


def tiling(group: Mapping[str, Any], form: Form) -> Tiling:
    """Return how a group cuts the weights of a form."""
    return Tiling(form, group["block"], group["max_side"])


def shampoo_beta(group: Mapping[str, Any]) -> float:
    """Return the decay rate of the second moments of rows and columns, by default that of Adam's second moment."""
    beta: float = group["betas"][1] if group["shampoo_beta"] is None else group["shampoo_beta"]
    return beta
