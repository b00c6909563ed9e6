"""A few weights instead of all: low-rank adapters that are trained beside frozen weights.

Classes load on first use: ``sooner.adapter.DoRA(model, rank=16)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.adapter._factored import factored_norm
    from sooner.adapter._peft import factored_dora
    from sooner.adapter.dora import DoRA

__all__ = ["DoRA", "factored_dora", "factored_norm"]


def __getattr__(name: str) -> Any:
    if name == "factored_norm":
        from sooner.adapter._factored import factored_norm

        return factored_norm
    if name == "factored_dora":
        from sooner.adapter._peft import factored_dora

        return factored_dora
    from sooner.part import class_named

    return class_named("adapter", name)
