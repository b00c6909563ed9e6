"""Values as strict JSON can hold them, which knows neither infinity nor NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any


def strict(value: Any, otherwise: Callable[[float], Any] = str) -> Any:
    """Return `value` with something else in place of every number that is not finite, at any depth.

    Args:
        value: numbers, texts, and mappings and sequences of these.
        otherwise: what to put there, of the number; default its text, "nan" or "inf".
    """
    if isinstance(value, Mapping):
        return {key: strict(item, otherwise) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item, otherwise) for item in value]
    return otherwise(value) if isinstance(value, float) and not math.isfinite(value) else value
