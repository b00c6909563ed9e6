"""The verdict on one contender, in a closed vocabulary and one plain sentence with the figures that led to it."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from sooner.race.statistics import RatioSummary
from sooner.space import Side

Word: TypeAlias = Literal["faster", "slower", "no difference found", "too noisy", "edge"]

BLUNT = 0.5
"""A race that cannot see half the steps is too noisy to say that there is no difference."""


def judge(
    summary: RatioSummary,
    p_holm: float,
    *,
    baseline: str,
    baseline_hits: int,
    alpha: float = 0.05,
    noise_floor: RatioSummary | None = None,
    smallest_effect: float | None = None,
    on_edge: Mapping[str, Side] | None = None,
    baseline_on_edge: Mapping[str, Side] | None = None,
    target: str = "middle",
) -> tuple[Word, str]:
    """Return the verdict at the primary target and the sentence that explains it.

    In this order: a baseline on an edge leaves everything open; a target that neither side reaches in most seeds
    measures nothing; a significant ratio counts when it lies outside of what the baseline shows against itself; a
    contender on an edge keeps only "faster", which better tuning cannot take away; and the absence of a difference is
    reported only by a race that would have seen a factor of two.

    Args:
        summary: the ratio of steps to the target.
        p_holm: its p-value after Holm over the contenders.
        baseline: short name of the baseline for the sentence.
        baseline_hits: in how many of the same seeds the baseline reached the target.
        alpha: two-sided level, already divided by the number of looks.
        noise_floor: the A/A arm against the baseline; its interval always counts as holding 1.
        smallest_effect: the ratio that this race would have found with 80 % power, None when unknown.
        on_edge: the contender's knobs whose best value is on an edge after widening, with the side.
        baseline_on_edge: the same of the baseline.
        target: name of the target for the sentence.
    """
    on_edge, baseline_on_edge = on_edge or {}, baseline_on_edge or {}
    ratio, hits, of = summary["ratio"], summary["hits"], summary["of"]
    if baseline_on_edge:
        return "edge", (
            f"open: the best {_places(baseline_on_edge)} tried for the baseline {baseline}, so a better-tuned "
            f"{baseline} may exist; {_remedy(baseline_on_edge)}"
        )
    if 2 * hits <= of and 2 * baseline_hits <= of:
        return "too noisy", (
            f"neither side reaches the {target} target in most seeds ({hits} of {of}, {baseline} {baseline_hits} of "
            f"{of}): the budget is too small, race again with more steps"
        )
    measured = _measured(summary, p_holm, baseline, baseline_hits, target)
    significant = p_holm <= alpha and ratio != 1
    if significant and noise_floor is not None and _inside(ratio, noise_floor):
        return "too noisy", (
            f"{measured}, but {baseline} against itself on other seeds gives {_interval(noise_floor)}, which holds "
            "that ratio: more seeds are needed to tell it from luck"
        )
    if significant and ratio is not None and ratio < 1:
        more = f"; the best {_places(on_edge)} tried, so more may be gained" if on_edge else ""
        return "faster", measured + more
    if on_edge:
        return "edge", f"open: {measured}, but the best {_places(on_edge)} tried; {_remedy(on_edge)}"
    if significant:
        return "slower", measured
    if smallest_effect is None or smallest_effect < BLUNT:
        seen = (
            "no effect of any size"
            if smallest_effect is None
            else f"only a ratio of {_number(smallest_effect)} or below"
        )
        return "too noisy", f"{measured}; this race could have found {seen}: race again with more seeds"
    return (
        "no difference found",
        f"{measured}; a ratio of {_number(smallest_effect)} or below would have been found (80 % power)",
    )


def _measured(summary: RatioSummary, p_holm: float, baseline: str, baseline_hits: int, target: str) -> str:
    hits, of = summary["hits"], summary["of"]
    chance = f"p = {p_holm:.2g} after Holm" if p_holm >= 0.001 else "p < 0.001 after Holm"
    counts = f"{hits} of {of} seeds, {baseline} {baseline_hits} of {of}"
    if summary["ratio"] == 0 and baseline_hits < of:
        return f"reaches the {target} target where {baseline} misses it ({counts}), {chance}"
    if summary["ratio"] is None:
        return f"does not reach the {target} target in most seeds ({counts}), {chance}"
    kind = "" if hits == baseline_hits == of else f" (a median, since some runs miss: {counts})"
    return (
        f"reaches the {target} target in {_number(summary['ratio'])}x of {baseline}'s steps {_interval(summary)}, "
        f"{chance}{kind}"
    )


def _interval(summary: RatioSummary) -> str:
    """Return the interval; an end is "never" where the contender misses, and "only it" where the baseline does."""
    ends = (summary["low"], summary["high"])
    low, high = ("never" if end is None else _number(end) if end else "only it" for end in ends)
    return f"[{low}, {high}]"


def _number(ratio: float) -> str:
    """Return a ratio with two decimals, or two significant digits where these would be lost."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def _inside(ratio: float | None, floor: RatioSummary) -> bool:
    """Say whether the ratio lies in the interval of the noise floor, stretched to hold 1; None is infinite."""
    if ratio is None:
        return floor["high"] is None
    low = min(1.0, floor["low"] if floor["low"] is not None else 1.0)
    return ratio >= low and (floor["high"] is None or ratio <= max(1.0, floor["high"]))


def _places(on_edge: Mapping[str, Side]) -> str:
    """Return "lr is the highest" or "lr is the highest and eps the lowest"."""
    words = {"low": "lowest", "high": "highest"}
    (name, side), *others = on_edge.items()
    return " and ".join([f"{name} is the {words[side]}", *(f"{n} the {words[s]}" for n, s in others)])


def _remedy(on_edge: Mapping[str, Side]) -> str:
    ways = {"low": "below", "high": "above"}
    return "race again with a range that goes on " + " and ".join(f"{ways[s]} it for {n}" for n, s in on_edge.items())
