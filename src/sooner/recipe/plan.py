"""What is checked of a recipe before any part is made: its order, who owns what, and who needs what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sooner.error import SoonerError
from sooner.part import STATIONS
from sooner.recipe.slots import Slot


def in_order(slots: Iterable[Slot]) -> tuple[Slot, ...]:
    """Return the slots station by station, and inside of a station by their declared order."""
    return tuple(sorted(slots, key=lambda s: (STATIONS.index(s.station), getattr(s.factory, "order", 50))))


def check_owners(slots: Sequence[Slot], recipe: str) -> None:
    """Refuse a recipe of which two parts own one thing, or none moves the weights.

    Raises:
        SoonerError: it is one; `recipe` is how it is written.
    """
    if not any(s.moves for s in slots):
        raise SoonerError(f"recipe {recipe!r} has no part that moves the weights; add an optimizer such as adamw")
    owners: dict[str, Slot] = {}
    for s in slots:
        for thing in sorted(s.owns - {"step"}):
            other = owners.setdefault(thing, s)
            # optimizers share the model, each with parameters of its own, and so what they own of these
            if other is not s and not (other.moves and s.moves):
                both = f"{other.name} and {s.name}"
                raise SoonerError(f"recipe {recipe!r}: {both} both own the {thing}; keep one of them")


def check_needs(slots: Sequence[Slot], provides: Iterable[str]) -> None:
    """Refuse a recipe that needs more than a training loop provides.

    Raises:
        SoonerError: it does.
    """
    offered = set(provides)
    for s in slots:
        for need in sorted(s.needs - offered):
            wanted = need if need.endswith("s") else f"a {need}"
            raise SoonerError(
                f"{s.name} needs {wanted}, which this training loop does not provide; "
                "use another part or a loop of your own"
            )
