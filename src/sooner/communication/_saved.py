"""Whether a saved state of communication fits the model and the parts that are to go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sooner.error import SoonerError
from sooner.foundation.layout import Layout


def layout_of(state: Mapping[str, Any], layout: Layout, *, outer: bool) -> Layout:
    """Return the layout in which the state was saved, which has the shapes of the present one.

    Args:
        state: of `Communication.state_dict`.
        layout: the present one, which states without a layout of their own had.
        outer: whether an outer part is at work.

    Raises:
        SoonerError: the state belongs to another model or other parts.
    """
    slow = state["slow"]
    if (slow is None) == outer or (slow is not None and len(slow) != layout.size):
        theirs = "no outer part" if slow is None else f"an outer part over {len(slow)} weights"
        raise SoonerError(f"the state is of {theirs}; load it into the recipe and the model that saved it")
    saved = Layout(state.get("layout", layout.shapes))
    if saved.shapes != layout.shapes:
        pairs = [(n, saved.shapes.get(n), layout.shapes.get(n)) for n in {**saved.shapes, **layout.shapes}]
        name, theirs_, ours_ = next(pair for pair in pairs if pair[1] != pair[2])
        raise SoonerError(
            f"the state is of another model: parameter {name} is {_told(theirs_)} there and {_told(ours_)} here; "
            "load it into the model that saved it, with the same parameters to train"
        )
    return saved


def _told(shape: tuple[int, ...] | None) -> str:
    return "not trained" if shape is None else str(list(shape))
