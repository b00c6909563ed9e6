"""The verdict on one contender, in a closed vocabulary and one plain sentence with the figures that led to it.

The verdict rests on steps to the primary target. Beside it stands what the final value says, with words of its own.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from sooner.race.statistics import DifferenceSummary, RatioSummary
from sooner.space import Side

Word: TypeAlias = Literal["faster", "slower", "no difference found", "too noisy", "edge"]

FinalWord: TypeAlias = Literal["better", "worse", "no difference found", "too noisy"]

BLUNT = 0.5
"""A race that cannot see half the steps is too noisy to say that there is no difference."""


def judge(
    summary: RatioSummary,
    p_holm: float,
    *,
    baseline: str,
    baseline_hits: int,
    alpha: float = 0.05,
    smallest_effect: float | None = None,
    on_edge: Mapping[str, Side] | None = None,
    baseline_on_edge: Mapping[str, Side] | None = None,
    target: str = "middle",
) -> tuple[Word, str]:
    """Return the verdict at the primary target and the sentence that explains it.

    In this order: a baseline on an edge leaves everything open; a target that neither side reaches in most seeds
    measures nothing; a significant ratio counts; a contender on an edge keeps only "faster", which better tuning cannot
    take away; and the absence of a difference is reported only by a race that would have seen a factor of two.

    Args:
        summary: the ratio of steps to the target.
        p_holm: its p-value after Holm over the contenders.
        baseline: short name of the baseline for the sentence.
        baseline_hits: in how many of the same seeds the baseline reached the target.
        alpha: two-sided level, already divided by the number of looks.
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


def judge_final(
    summary: DifferenceSummary,
    p_holm: float,
    *,
    metric: str,
    baseline: str,
    baseline_diverged: int,
    higher_is_better: bool = False,
    alpha: float = 0.05,
    smallest_difference: float | None = None,
) -> tuple[FinalWord, str]:
    """Return what the final value at equal budget says of a contender, and the sentence that explains it.

    It is no verdict, but often the sharper test of the two.

    Args:
        summary: the final value and its paired difference to the baseline's, in the metric's own unit and direction.
        p_holm: its p-value after Holm over the contenders.
        metric: name of the metric for the sentence.
        baseline: short name of the baseline for the sentence.
        baseline_diverged: in how many of the same seeds the baseline diverged.
        higher_is_better: direction of the metric.
        alpha: two-sided level, already divided by the number of looks.
        smallest_difference: what this race would have found with 80 % power, None when unknown.
    """
    difference, diverged, of = summary["difference"], summary["values"].count(None), len(summary["values"])
    chance = f"p = {p_holm:.2g} after Holm" if p_holm >= 0.001 else "p < 0.001 after Holm"
    counts = f"{diverged} of {of} seeds, {baseline} {baseline_diverged} of {of}"
    found = p_holm <= alpha and difference != 0
    if difference is None:
        if not found:
            return "too noisy", f"too many runs diverge to compare the final {metric} ({counts}), {chance}"
        word: FinalWord = "worse" if diverged > baseline_diverged else "better"
        return word, f"{'' if word == 'worse' else baseline + ' '}diverges in most seeds ({counts}), {chance}"
    ends = "{}, {}".format(
        *("unbounded" if end is None else f"{end:+.3g}" for end in (summary["low"], summary["high"]))
    )
    kind = f" (a median, since some runs diverge: {counts})" if diverged or baseline_diverged else ""
    side = f"{abs(difference):.3g} {'above' if difference > 0 else 'below'}" if difference else "level with"
    measured = f"ends {side} {baseline} in {metric} at equal budget [{ends}], {chance}{kind}"
    if found:
        return "better" if (difference > 0) == higher_is_better else "worse", measured
    if smallest_difference is None:
        return "too noisy", f"{measured}; this race could have found no difference of any size"
    return "no difference found", f"{measured}; {smallest_difference:.2g} or more would have been found (80 % power)"


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


def inside(ratio: float | None, floor: RatioSummary) -> bool:
    """Say whether a ratio lies in the interval of the A/A arm, stretched to hold 1; None is infinite.

    It changes no verdict (docs/decisions/0014): that arm runs on other seeds, so it is blunter than pairs are.
    """
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
