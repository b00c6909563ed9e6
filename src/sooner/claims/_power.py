"""Whether an experiment could have seen an effect, and how many seeds it would take."""

from __future__ import annotations

import math

from sooner.claims._measured import Measured

MOST_SEEDS = 1_000
"""Beyond these, more seeds are no answer."""


def visible(found: Measured, asked: float | None) -> bool:
    """Say whether an effect of the size `asked`, a ratio, would have been found with 80 % power."""
    smallest = smallest_visible(found)
    return smallest is not None and asked not in (None, 0.0, 1.0) and smallest >= _below_one(asked)


def smallest_visible(found: Measured) -> float | None:
    """Return the ratio below 1 that the seeds behind a figure find with 80 % power, None where nobody knows."""
    from sooner.race.statistics import smallest_effect  # scipy is slow to import, and listings need none of it

    return None if found.unit != "x" else smallest_effect(found.spread, found.pairs, found.level)


def unseen(found: Measured, asked: float | None) -> tuple[str, str]:
    """Return why a figure can't decide about an effect of the size `asked`, and what would."""
    smallest = smallest_visible(found)
    why = "the interval holds the limit" if found.low is not None else "luck explains the figure as well"
    if smallest is not None:
        why += f", and the smallest effect that {found.pairs} seeds can see here is {smallest:.2g}x"
    if found.spread is None or asked in (None, 0.0, 1.0):
        return why, "more seeds, or a budget in which both sides reach the target in most of them"
    needed = seeds_for(found, asked)
    if needed is None:
        return why, f"more than {MOST_SEEDS:,} seeds: a set-up with less noise or a larger effect"
    return why, f"about {needed} seeds" if needed > found.pairs else "seeds of a second series"


def seeds_for(found: Measured, asked: float) -> int | None:
    """Return how many seeds find an effect of the size `asked` with 80 % power, None beyond `MOST_SEEDS`."""
    from sooner.race.statistics import smallest_effect

    low, high = 2, MOST_SEEDS

    def enough(seeds: int) -> bool:
        smallest = smallest_effect(found.spread, seeds, found.level)
        return smallest is not None and smallest >= _below_one(asked)

    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _below_one(ratio: float) -> float:
    return min(ratio, 1 / ratio) if math.isfinite(ratio) and ratio > 0 else 0.0
