"""How the arms of a claim behave in their first steps: what tells an edit that changes nothing from one that does.

Every arm of a race is run as tuned, on the first racing seed, for a whole run of twenty steps, so that schedules come
to their end, or for two of its intervals where it acts at longer ones; of a measurement, the miniature is kept.
Behaviour is unchanged where all numbers agree to a relative `SAME` on the processor and versions of the evidence,
`OTHER` elsewhere. An edit that only acts later than that is not seen.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sooner.claims._claim import Measurement, Race
from sooner.race.pool import Cell
from sooner.recipe import Recipe

STEPS = 20
"""Steps of a run."""
LONGEST = 250
"""Steps of a run whose parts act at long intervals."""
KEPT = 20
"""Numbers that are kept of a longer list, evenly spread."""
SAME = 1e-6
"""Relative tolerance on the same processor with the same versions."""
OTHER = 1e-3
"""And on any other, where sums may be taken in another order."""
NOTHING = 1e-9
"""Numbers that are this close to each other agree, however small they are."""


def cells(
    finder: str, name: str, experiments: Mapping[str, Race | Measurement], findings: Mapping[str, dict[str, Any]]
) -> dict[tuple[str, str], Cell]:
    """Return what has to be run for the fingerprint of a study that found this, by experiment and arm."""
    found = {}
    for label, experiment in experiments.items():
        if isinstance(experiment, Measurement):
            where = {"finder": finder, "name": name, "experiment": label}
            arms = [] if experiment.timed else _cases(experiment, where)
        else:
            arms = _arms(experiment, findings[label])
        for arm, payload in arms:
            found[label, arm] = Cell(f"fingerprint | {label} | {arm}", {"do": "fingerprint", **payload})
    return found


def shortened(value: Any) -> Any:
    """Return a list of numbers as evidence keeps it, anything else as it is."""
    if isinstance(value, list) and len(value) > KEPT:
        return [shortened(value[round(i * (len(value) - 1) / (KEPT - 1))]) for i in range(KEPT)]
    return value


def differences(ours: Any, theirs: Any, tolerance: float) -> list[str]:
    """Return the arms in which two fingerprints differ; empty where behaviour is unchanged."""
    changed = [f"{name}, {arm}" for name in ours for arm in ours[name] if arm not in theirs.get(name, {})]
    for name, arms in theirs.items():
        for arm, values in arms.items():
            if not _agree(values, ours.get(name, {}).get(arm), tolerance):
                changed.append(f"{name}, {arm}")
    return changed


def steps_of(recipe: str) -> int:
    """Return for how many steps the fingerprint runs a recipe."""
    longest = 0
    for slot in Recipe(recipe).slots:
        given = slot.settings.get("every")
        default = inspect.signature(slot.factory).parameters.get("every")
        every = given if given is not None else default.default if default is not None else None
        if isinstance(every, int):
            longest = max(longest, every)
    return min(max(STEPS, 2 * longest), LONGEST)


def _cases(experiment: Measurement, where: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
    return [(json.dumps(dict(case), sort_keys=True), {**where, "case": dict(case)}) for case in experiment.small]


def _arms(race: Race, found: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    common = {"race": asdict(race), "seed": found["seeds"]["racing"][0]}
    rows = [(row["recipe"], row["tuned_recipe"]) for row in found["contenders"] if row["status"] != "out"]
    return [(text, {**common, "recipe": tuned, "steps": steps_of(tuned)}) for text, tuned in rows if tuned]


def _agree(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_agree(a[k], b[k], tolerance) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_agree(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, bool) or isinstance(b, bool) or not all(isinstance(v, int | float) for v in (a, b)):
        return type(a) is type(b) and bool(a == b)
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return bool(a == b) or math.isclose(a, b, rel_tol=tolerance, abs_tol=NOTHING)
