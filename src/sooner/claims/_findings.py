"""What the experiments of a claim found, and the figures that criteria ask of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sooner.claims._measured import Measured
from sooner.error import SoonerError
from sooner.race import statistics
from sooner.recipe import Recipe

LEVEL = 0.05
"""Of a test that stands alone."""


class _Watched(dict[str, dict[str, Any]]):
    """Findings that remember which of them were asked for."""

    def __init__(self, found: Mapping[str, dict[str, Any]]) -> None:
        super().__init__(found)
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> dict[str, Any]:
        self.seen.add(name)
        return super().__getitem__(name)


class Findings:
    """The findings of a claim's experiments, by their names.

    Args:
        found: for a race its shortened result (`shortened`), for a measurement ``{"cases": [{"case", "values"}]}``.
    """

    def __init__(self, found: Mapping[str, dict[str, Any]]) -> None:
        self.found = _Watched(found)

    def watch(self, measured: Callable[[Findings], Measured]) -> tuple[Measured, tuple[str, ...]]:
        """Return a figure, and the experiments that were looked at to find it."""
        self.found.seen.clear()
        figure = measured(self)
        return figure, tuple(sorted(self.found.seen))

    def row(self, race: str, contender: str) -> dict[str, Any]:
        """Return the contender of a race whose recipe is `contender`, or the only one that starts with it.

        Raises:
            KeyError: there is no such contender, or several.
        """
        rows = self.found[race]["contenders"]
        written = {_bare(contender), _bare(_sorted(contender))}
        same = [r for r in rows if _bare(r["recipe"]) in written]
        found = same or [r for r in rows if _bare(r["recipe"]).startswith(_bare(contender))]
        if len(found) != 1:
            raise KeyError(f"{len(found)} contenders of {race} are {contender!r}: {[r['recipe'] for r in rows]}")
        row: dict[str, Any] = found[0]
        return row

    def baseline(self, race: str) -> dict[str, Any]:
        """Return the baseline of a race."""
        row: dict[str, Any] = self.found[race]["contenders"][0]
        return row

    def steps_ratio(self, race: str, contender: str, against: str | None = None, target: str = "middle") -> Measured:
        """Return the ratio of steps to a target, a contender's over those of the baseline or of `against`.

        Undecided where there is no target, where one of the two is out or neither reaches the target in most seeds, or
        where the method that comes out behind was tuned to the edge of its range.
        """
        ours, theirs = self.row(race, contender), self._against(race, against)
        if why := self._unusable(race, ours, theirs, target):
            return Measured(math.nan, unit="x", undecided=why)
        if against is None:
            found = ours["targets"][target]
            p = found["p_holm"]
        else:
            found = statistics.ratio_summary(ours["targets"][target]["steps"], theirs["targets"][target]["steps"])
            p = found["p"]
        value = math.inf if found["ratio"] is None else found["ratio"]
        behind = ours if value > 1 else theirs
        if behind["tuning"]["edge"]:
            why = f"{behind['recipe']} was tuned to the edge of its range ({', '.join(behind['tuning']['edge'])})"
        floor = self.found[race]["noise_floor"]
        low, high = _ends(found)
        pairs = statistics.paired_log_ratios(ours["targets"][target]["steps"], theirs["targets"][target]["steps"])
        level = self._level(race) if against is None else LEVEL
        return Measured(value, low, high, p, _ends(floor), "x", why or "", statistics.spread(pairs), len(pairs), level)

    def final_ratio(self, race: str, contender: str, against: str | None = None) -> Measured:
        """Return the ratio of the final metric at equal budget (geometric mean over seeds); the metric is positive.

        A diverged run counts as infinitely bad where lower is better.
        """
        ours, theirs = self.row(race, contender), self._against(race, against)
        for row in (ours, theirs):
            if row["status"] == "out":
                return Measured(math.nan, unit="x", undecided=f"{row['recipe']} is out: {row['why_out']}")
        return paired(ours["final"]["values"], theirs["final"]["values"])

    def state_ratio(self, race: str, contender: str, against: str | None = None) -> Measured:
        """Return the ratio of bytes of optimizer state, which is exact."""
        ours, theirs = self.row(race, contender), self._against(race, against)
        name = "state_bytes_per_parameter"
        if not ours[name] or not theirs[name]:
            return Measured(math.nan, unit="x", undecided="one of the two has no state, or is out")
        return Measured(ours[name] / theirs[name], unit="x")

    def bytes_ratio(self, race: str, contender: str, against: str | None = None, target: str = "middle") -> Measured:
        """Return the ratio of bytes that leave a worker until a target is reached."""
        return self._amount_ratio("wire_bytes_per_step", race, contender, against, target)

    def gradients_ratio(
        self, race: str, contender: str, against: str | None = None, target: str = "middle"
    ) -> Measured:
        """Return the ratio of gradients computed until a target is reached: steps flatter methods of several passes."""
        return self._amount_ratio("gradients_per_step", race, contender, against, target)

    def communicated(self, race: str, contender: str, name: str, against: str | None = None) -> Measured:
        """Return the ratio of one figure of two contenders' "communication", such as "payload_bytes_per_step"."""
        ours, theirs = (row.get("communication") for row in (self.row(race, contender), self._against(race, against)))
        if not ours or not theirs or not theirs[name] or ours[name] is None:
            return Measured(math.nan, unit="x", undecided=f"{name} is missing, or 0, on one side")
        return Measured(ours[name] / theirs[name], unit="x")

    def _amount_ratio(self, name: str, race: str, contender: str, against: str | None, target: str) -> Measured:
        per_step = self.communicated(race, contender, name, against)
        if per_step.undecided:
            return per_step
        found = times(self.steps_ratio(race, contender, against, target), per_step.value)
        if found.undecided:
            return found
        base = self._against(race, against)
        rows = [row for row in self.found[race]["contenders"] if row is not base and _amounts(row, name, target)]
        ps = [statistics.ratio_summary(_amounts(r, name, target), _amounts(base, name, target))["p"] for r in rows]
        if against is None:
            ps = statistics.holm(ps)
        ours = self.row(race, contender)
        return replace(found, p=ps[rows.index(ours)] if ours in rows else None)  # who sends nothing has no test

    def hits(self, race: str, contender: str, target: str = "middle") -> Measured:
        """Return the share of racing seeds that reach a target, between 0 and 1."""
        row = self.row(race, contender)
        if row["status"] == "out":
            return Measured(0.0)
        if self.found[race]["targets"][target] is None:
            return Measured(math.nan, undecided=f"the race has no {target} target")
        return Measured(row["targets"][target]["hits"] / row["targets"][target]["of"])

    def values(self, measurement: str, key: str, **where: Any) -> list[Any]:
        """Return one value of every case of a measurement that agrees with `where`, in the order of the cases."""
        cases = self.found[measurement]["cases"]
        return [c["values"].get(key) for c in cases if all(c["case"].get(k) == v for k, v in where.items())]

    def mean(self, measurement: str, key: str, unit: str = "", **where: Any) -> Measured:
        """Return the mean of a value over the cases, with its interval where there are several."""
        values = self.values(measurement, key, **where)
        if not values or any(v is None for v in values):
            return Measured(math.nan, unit=unit, undecided=f"{key} is missing in {measurement}")
        if len(values) == 1:
            return Measured(float(values[0]), unit=unit)
        return Measured(sum(values) / len(values), *statistics.interval(values), unit=unit)

    def largest(self, measurement: str, key: str, unit: str = "", **where: Any) -> Measured:
        """Return the largest value over the cases."""
        return self._extreme(max, measurement, key, unit, where)

    def smallest(self, measurement: str, key: str, unit: str = "", **where: Any) -> Measured:
        """Return the smallest value over the cases."""
        return self._extreme(min, measurement, key, unit, where)

    def columns_ratio(self, measurement: str, new: str, base: str, **where: Any) -> Measured:
        """Return the geometric mean ratio of two positive values of the same cases; None is a miss, infinitely bad."""
        return paired(self.values(measurement, new, **where), self.values(measurement, base, **where), new)

    def paired_ratio(self, measurement: str, key: str, new: Mapping[str, Any], base: Mapping[str, Any]) -> Measured:
        """Return the geometric mean ratio of a positive value between two sets of cases, paired in their order.

        A value of None is a miss: infinitely bad.
        """
        return paired(self.values(measurement, key, **new), self.values(measurement, key, **base), key)

    def paired_difference(
        self, measurement: str, key: str, new: Mapping[str, Any], base: Mapping[str, Any], unit: str = ""
    ) -> Measured:
        """Return the mean difference of a value between two sets of cases, paired in their order."""
        ours, theirs = self.values(measurement, key, **new), self.values(measurement, key, **base)
        if len(ours) != len(theirs) or not ours:
            return Measured(math.nan, unit=unit, undecided=f"{key} is missing in {measurement}")
        differences = statistics.paired_differences(ours, theirs)
        low, high = statistics.interval(differences)
        return Measured(statistics.center(differences), low, high, statistics.sign_flip(differences), unit=unit)

    def _extreme(
        self, choose: Callable[..., float], measurement: str, key: str, unit: str, where: Mapping[str, Any]
    ) -> Measured:
        values = self.values(measurement, key, **where)
        if not values or any(v is None for v in values):
            return Measured(math.nan, unit=unit, undecided=f"{key} is missing in {measurement}")
        return Measured(float(choose(values)), unit=unit)

    def _level(self, race: str) -> float:
        """Return the level that the best of a race's contenders has to meet."""
        rivals = [row for row in self.found[race]["contenders"][1:] if row["status"] != "out"]
        return LEVEL / max(1, len(rivals))

    def _against(self, race: str, against: str | None) -> dict[str, Any]:
        return self.baseline(race) if against is None else self.row(race, against)

    def _unusable(self, race: str, ours: dict[str, Any], theirs: dict[str, Any], target: str) -> str | None:
        if self.found[race]["targets"][target] is None:
            return f"the baseline sets no {target} target within the budget"
        for row in (ours, theirs):
            if row["status"] == "out":
                return f"{row['recipe']} is out: {row['why_out']}"
        hits = [(row["targets"][target]["hits"], row["targets"][target]["of"]) for row in (ours, theirs)]
        if all(2 * hit <= of for hit, of in hits):
            return f"neither side reaches the {target} target in most seeds"
        return None


def times(measured: Measured, factor: float) -> Measured:
    """Return a ratio of steps as a ratio of something that each step of the method takes `factor` times as much of.

    For methods that evaluate gradients or losses more than once per step: steps alone would flatter them.
    """
    ends = [None if end is None else end * factor for end in (measured.low, measured.high)]
    return replace(measured, value=measured.value * factor, low=ends[0], high=ends[1])


def shortened(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a claim keeps of a race's result: everything but single curves, of which it keeps the mean."""
    kept = ("rules", "task", "regime", "horizons", "seeds", "targets", "primary_target", "noise_floor", "tuning_trials")
    return {
        **{name: result[name] for name in kept},
        "notes": [str(note) for note in result["notes"]],
        "contenders": [_contender(row) for row in result["contenders"]],
    }


def _contender(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("recipe", "tuned_recipe", "baseline", "status", "why_out", "verdict", "sentence", "seeds", "targets")
    return {
        **{name: row[name] for name in kept},
        "final": row["final"],
        "smallest_effect": row["smallest_effect"],
        "state_bytes_per_parameter": row["state_bytes_per_parameter"],
        "tuning": {name: row["tuning"][name] for name in ("best", "knobs", "edge", "widened", "steps")},
        "curve": _mean_curve(row["curves"]),
        **({"communication": row["communication"]} if row.get("communication") else {}),
    }


def _mean_curve(curves: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return step, mean, lowest and highest value over the seeds, up to where the first run ends or diverges."""
    steps: list[Any] = []
    spread: list[list[float]] = []
    for column in zip(*(zip(c["steps"], c["values"], strict=True) for c in curves), strict=False):
        if any(value is None for _, value in column):
            break
        steps.append(column[0][0])
        spread.append([value for _, value in column])
    return {
        "steps": steps,
        "mean": [_rounded(sum(values) / len(values)) for values in spread],
        "low": [_rounded(min(values)) for values in spread],
        "high": [_rounded(max(values)) for values in spread],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def paired(ours: Sequence[float | None], theirs: Sequence[float | None], name: str = "the figure") -> Measured:
    """Return the geometric mean ratio of positive values on the same seeds; None is a miss, infinitely bad."""
    if len(ours) != len(theirs) or not ours:
        return Measured(math.nan, unit="x", undecided=f"{name} is missing")
    if not any(v is not None and math.isfinite(v) for v in [*ours, *theirs]):
        return Measured(math.nan, unit="x", undecided="neither side gets there")
    found = statistics.ratio_summary(ours, theirs)
    value = math.inf if found["ratio"] is None else found["ratio"]
    pairs = statistics.paired_log_ratios(ours, theirs)
    return Measured(
        value, *_ends(found), found["p"], unit="x", spread=statistics.spread(pairs), pairs=len(pairs), level=LEVEL
    )


def _amounts(row: Mapping[str, Any], name: str, target: str) -> list[float | None]:
    """Return what each seed took of `name` until the target, None for a miss; [] where that was not counted."""
    per_step = (row.get("communication") or {}).get(name)
    if row["status"] == "out" or not per_step:
        return []
    return [None if steps is None else steps * per_step for steps in row["targets"][target]["steps"]]


def _ends(found: Mapping[str, Any]) -> tuple[float, float]:
    """Return the interval of a ratio; None is infinite at either end: the contender then misses in most resamples."""
    low, high = (math.inf if found[name] is None else float(found[name]) for name in ("low", "high"))
    return low, high


def _sorted(recipe: str) -> str:
    """Return the recipe as a race writes it, its parts in the order of their stations; a mere beginning stays."""
    try:
        return str(Recipe(recipe))
    except SoonerError:
        return recipe


def _bare(recipe: str) -> str:
    return recipe.replace(" ", "")
