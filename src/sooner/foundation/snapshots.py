"""Copies of weights that are under way, and views that show other weights: how the ones hear of the others.

A lazy checkpoint is copied while forward and backward run, for only the optimizer's step moves weights. Whoever else
writes into them calls `settle` first, which waits for such copies; who lends a model other weights says so by `shown`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

_under_way: dict[int, Callable[[], None]] = {}
_shown: list[Any] = []


def begin(owner: object, wait: Callable[[], None]) -> None:
    """Note that copies are under way, until `end`; `wait` returns when they are done."""
    _under_way[id(owner)] = wait


def end(owner: object) -> None:
    """Note that the copies of this owner are done."""
    _under_way.pop(id(owner), None)


def settle() -> None:
    """Wait for all copies of weights that are under way; call it before writing weights outside an optimizer's step."""
    for wait in [*_under_way.values()]:
        wait()


@contextlib.contextmanager
def shown(model: Any) -> Iterator[None]:
    """Inside, the model holds other weights than those that are trained."""
    settle()
    _shown.append(model)
    try:
        yield
    finally:
        _shown.remove(model)


def lent() -> tuple[Any, ...]:
    """Return the models that hold other weights now."""
    return tuple(_shown)
