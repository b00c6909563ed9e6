"""Which weights are kept: averages to evaluate and export, while training goes on with the weights in memory.

Classes load on first use: ``sooner.weights.EMA(model, decay=0.99)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.weights.ema import EMA
    from sooner.weights.mixture import Mixture
    from sooner.weights.power_ema import PowerEMA

__all__ = ["EMA", "Mixture", "PowerEMA"]


def __getattr__(name: str) -> Any:
    from sooner.part import class_named

    return class_named("weights", name)
