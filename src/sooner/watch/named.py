"""Watchers by name: ``"trackio"``, ``"jsonl:log.jsonl"``, several of them, or objects of one's own."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable

from sooner.error import SoonerError, nearest
from sooner.watch._watch import Several, Watch

_CLASSES = {
    "jsonl": ("Jsonl", "", ""),
    "tensorboard": ("TensorBoard", "tensorboard", "tensorboard"),
    "trackio": ("Trackio", "trackio", "trackio"),
    "wandb": ("Wandb", "wandb", "wandb"),
    "mlflow": ("Mlflow", "mlflow", "mlflow"),
}
NAMES = tuple(_CLASSES)
"""The sinks there are."""


def watching(watch: Watch | str | Iterable[Watch | str] | None) -> Several:
    """Return all who watch as one.

    Args:
        watch: a `Watch`; the name of a sink, alone or with its place as in ``"jsonl:log.jsonl"``, several of them
            with commas between; a list of these; or None.

    Raises:
        SoonerError: an unknown name, or a sink whose package is not installed.
    """
    if watch is None:
        return Several([])
    if isinstance(watch, Several):
        return watch
    if isinstance(watch, Watch):
        return Several([watch])
    if isinstance(watch, str):
        return Several([_made(text.strip()) for text in watch.split(",") if text.strip()])
    if not isinstance(watch, Iterable):
        raise SoonerError(f"watch = {watch!r} is no sooner.watch.Watch; derive from that, or name {', '.join(NAMES)}")
    return Several([one for some in watch for one in watching(some).watchers])


def _made(text: str) -> Watch:
    name, _, place = text.partition(":")
    if name not in _CLASSES:
        raise SoonerError(f"unknown sink {name!r}{nearest(name, NAMES)}; there are {', '.join(NAMES)}")
    kind, package, extra = _CLASSES[name]
    if package and importlib.util.find_spec(package) is None:
        raise SoonerError(
            f"{name} is not installed: pip install 'sooner[{extra}]', or log to jsonl, which needs nothing"
        )
    made: Watch = getattr(importlib.import_module(f"sooner.watch.{name}"), kind)(place)
    return made
