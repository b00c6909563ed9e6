"""What is done to gradients before the weights move: clipping, projection, and other sources of gradients.

Classes load on first use: ``sooner.gradient.ClipNorm(optimizer, max_norm=1.0)``.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    from sooner.part import class_named

    return class_named("gradient", name)
