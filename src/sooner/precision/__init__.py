"""With how many bits: layers that compute with rounded weights while they are trained in full precision.

Classes load on first use: ``sooner.precision.FourBit(model, bits=4)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.precision._rounded import convert, packed_bytes
    from sooner.precision.four_bit import FourBit

__all__ = ["FourBit", "convert", "packed_bytes"]


def __getattr__(name: str) -> Any:
    if name in ("convert", "packed_bytes"):
        from sooner.precision import _rounded

        return getattr(_rounded, name)
    from sooner.part import class_named

    return class_named("precision", name)
