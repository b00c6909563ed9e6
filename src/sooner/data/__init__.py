"""Which examples a step sees: samplers that are pure functions of a seed and the step's number.

Classes load on first use: ``DataLoader(data, batch_sampler=sooner.data.Cooldown(domains, batch_size=32,
steps=10_000))``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.data._mixture import Temperature, upweight
    from sooner.data.cooldown import Cooldown

__all__ = ["Cooldown", "Temperature", "upweight"]


def __getattr__(name: str) -> Any:
    if name in ("Temperature", "upweight"):
        from sooner.data import _mixture

        return getattr(_mixture, name)
    from sooner.part import class_named

    return class_named("data", name)
