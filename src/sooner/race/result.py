"""The result of a race as one plain dictionary: what report, table and ``--json`` show (fields in docs/result.md)."""

from __future__ import annotations

import math
import statistics as stdlib
from typing import Any

from sooner.race import statistics, tuners, tuning
from sooner.race.cost import contention
from sooner.race.evidence import PRIMARY, TARGETS, Contender, Curve, Evidence
from sooner.race.limits import RULES
from sooner.race.traffic import communication_of
from sooner.race.verdict import inside, judge_final


def make_result(
    evidence: Evidence, costs: dict[str, Any] | None, memory: dict[str, float], finished: str
) -> dict[str, Any]:
    """Put together everything a reader needs; nothing in it is not derived from the journal.

    Args:
        evidence: the finished runs.
        costs: what `measure_blocks` returned, None when it was not measured or failed.
        memory: peak memory in MiB by tuned recipe.
        finished: when the race ended.
    """
    plan, session = evidence.plan, evidence.journal.sessions
    task = plan.task
    withheld = contention(costs) if costs else "it was not measured"
    if plan.workers > 1:
        withheld = "the workers are simulated in one process, which says nothing of the time that real ones take"
    contenders = [_contender(evidence, c, None if withheld else costs, memory) for c in evidence.contenders]
    _add_holm(evidence, contenders)
    return {
        "rules": RULES,
        "task": {
            "name": task.name,
            "spec": task.spec,
            "description": task.description,
            "metric": task.metric,
            "higher_is_better": task.higher_is_better,
            "steps": plan.budget,
            "parameters": plan.checked["parameters"],
            "fingerprint": plan.checked["fingerprint"],
            "data": plan.checked["data"],
        },
        "regime": plan.regime,
        "horizons": plan.horizons,
        "workers": plan.workers,
        "world": plan.world,
        "command": plan.command,
        "started": session[0].data.get("started", ""),
        "finished": finished,
        "versions": session[0].data.get("versions", {}),
        "machine": session[0].data.get("machine", {}),
        "seeds": {purpose: plan.seeds(purpose) for purpose in ("tuning", "target", "racing", "a/a")},
        "looks": list(plan.looks),
        "until": plan.until,
        "intervals": {"level": 1 - plan.alpha, "kind": "after every seed" if plan.every_seed else "at one look"},
        "tuner": plan.tuner,
        "tuning_trials": max(len(c.trials) for c in evidence.contenders),
        "targets": {name: _raw(evidence, v) for name, v in evidence.targets.items()},
        "primary_target": PRIMARY,
        "noise_floor": {**evidence.noise_floor(), "verdict": evidence.noise_verdict()},
        "timing": {"withheld": withheld is not None, "why": withheld, "blocks": len(costs["share"]) if costs else 0},
        "contenders": contenders,
        "a/a_curves": [
            _curve(evidence, evidence.curve(evidence.baseline, "a/a", i)) for i in range(evidence.baseline.seeds)
        ],
        "failures": _failures(evidence),
        "notes": [*plan.warnings(), *_notes(evidence, contenders)],
    }


def _contender(
    evidence: Evidence, c: Contender, costs: dict[str, Any] | None, memory: dict[str, float]
) -> dict[str, Any]:
    baseline = c is evidence.baseline
    verdict, sentence = _verdict(evidence, c)
    ratios = {name: evidence.ratio(c, name) for name in TARGETS} if c.seeds else {}
    cost = _cost(evidence, c, costs)
    ratio = ratios[PRIMARY]["ratio"] if ratios else None
    return {
        "recipe": str(c.recipe),
        "tuned_recipe": str(c.tuned),
        "baseline": baseline,
        "status": "out" if c.why_out else "raced",
        "why_out": c.why_out,
        "verdict": verdict,
        "sentence": sentence,
        "seeds": c.seeds,
        "targets": ratios,
        "smallest_effect": evidence.smallest_effect(c) if c.seeds and not baseline else None,
        "final": _final(evidence, c),
        "cost": cost,
        "time_ratio": ratio * cost["ratio"] if ratio is not None and cost else None,
        "ratio_with_tuning": _with_tuning(evidence, c),
        "peak_memory_mib": memory.get(str(c.tuned)),
        "state_bytes_per_parameter": _state_bytes(evidence, c),
        "communication": communication_of(evidence, c, costs) if evidence.plan.crew() else None,
        "hit_rate": ratios[PRIMARY]["hits"] / ratios[PRIMARY]["of"] if ratios else 0.0,
        "tuning": _tuning(evidence, c),
        "curves": [_curve(evidence, evidence.curve(c, "racing", i)) for i in range(c.seeds)],
    }


def _verdict(evidence: Evidence, c: Contender) -> tuple[str, str]:
    if c.why_out:
        return "out", f"out: {c.why_out}"
    if c is evidence.baseline:
        return "baseline", "the baseline, tuned like everybody else"
    if evidence.targets[PRIMARY] is None:
        return (
            "too noisy",
            f"the budget of {evidence.plan.budget} steps is too small: the baseline does not get below its starting "
            f"value in time to set a {PRIMARY} target; race again with more steps",
        )
    return evidence.judgement(c)[:2]


def _final(evidence: Evidence, c: Contender) -> dict[str, Any]:
    plan = evidence.plan
    ours, theirs = ([_raw(evidence, v) for v in values] for values in evidence.final_values(c))
    found: dict[str, Any] = dict(
        statistics.difference_summary(ours, theirs, plan.task.higher_is_better, 1 - plan.alpha, plan.every_seed)
    )
    found.update(smallest_difference=None, word=None, sentence=None)
    if c is evidence.baseline or not c.seeds:
        found.update(difference=None, low=None, high=None, p=None)
    else:
        found["smallest_difference"] = evidence.smallest_difference(c)
    return found


def _add_holm(evidence: Evidence, contenders: list[dict[str, Any]]) -> None:
    """Correct p-values for the number of contenders, at each target and for the final value, and say what that means.

    A contender that an early look settled keeps the p-value of that look at the primary target.
    """
    rivals = [c for c in contenders if not c["baseline"] and c["targets"]]
    for rows in [[c["targets"][name] for c in rivals] for name in TARGETS] + [[c["final"] for c in rivals]]:
        for row, p in zip(rows, statistics.holm([row["p"] for row in rows]), strict=True):
            row["p_holm"] = p
    for c, row in zip(evidence.contenders, contenders, strict=True):
        for measured in [*row["targets"].values(), row["final"]]:
            measured.setdefault("p_holm", None)
        if c.judgement:
            row["targets"][PRIMARY]["p_holm"] = c.judgement.p_holm
        if row["final"]["p_holm"] is not None:
            row["final"].update(zip(("word", "sentence"), _final_words(evidence, c, row["final"]), strict=True))


def _final_words(evidence: Evidence, c: Contender, final: Any) -> tuple[str, str]:
    task = evidence.plan.task
    return judge_final(
        final,
        final["p_holm"],
        metric=task.metric,
        baseline=str(evidence.baseline.recipe),
        baseline_diverged=evidence.final_values(c)[1].count(None),
        higher_is_better=task.higher_is_better,
        alpha=evidence.plan.alpha,
        smallest_difference=final["smallest_difference"],
    )


def _cost(evidence: Evidence, c: Contender, costs: dict[str, Any] | None) -> dict[str, float] | None:
    """Compare minimum block times; the interval is the middle half of the per-round ratios."""
    runners = [r for r in evidence.contenders if not r.why_out]
    if costs is None or c not in runners:
        return None
    ours, theirs = costs["blocks"][runners.index(c)], costs["blocks"][0]
    quarters = stdlib.quantiles([a / b for a, b in zip(ours, theirs, strict=True)], n=4, method="inclusive")
    return {"ratio": min(ours) / min(theirs), "low": quarters[0], "high": quarters[2], "milliseconds": min(ours)}


def _tuning_steps(evidence: Evidence, c: Contender) -> int:
    """Return the steps spent on tuning a contender."""
    return len(c.trials) * evidence.plan.budget


def _with_tuning(evidence: Evidence, c: Contender) -> float | None:
    """Return (tuning + steps to target) over the baseline's, from the mean steps of the runs that hit."""

    def total(one: Contender) -> float | None:
        steps = [evidence.steps_to(one, "racing", i, evidence.targets[PRIMARY]) for i in range(one.seeds)]
        hits = [s for s in steps if s is not None]
        return _tuning_steps(evidence, one) + stdlib.fmean(hits) if hits and len(hits) == len(steps) else None

    ours, theirs = total(c), total(evidence.baseline)
    return ours / theirs if ours is not None and theirs is not None else None


def _state_bytes(evidence: Evidence, c: Contender) -> float | None:
    if not c.seeds:
        return None
    data = evidence.data(evidence.cells(c, "racing", 0)[0])
    parameters = evidence.plan.checked["parameters"]
    return data["state_bytes"] / parameters if data and parameters else None


def _tuning(evidence: Evidence, c: Contender) -> dict[str, Any]:
    scores = [None if s is None or not math.isfinite(s[0]) else _raw(evidence, s[0]) for s in c.scores]
    tried = [
        {"settings": s, "score": score, "diverged_at": d}
        for s, score, d in zip(c.trials, scores, c.diverged, strict=True)
    ]
    best_of = tuning.expected_best if evidence.plan.tuner == tuners.DEFAULT else tuning.best_so_far
    return {
        "best": c.settings or {},
        "default": c.recipe.default,
        "knobs": {name: knob.describe() for name, knob in c.recipe.space.items()},
        "edge": sorted(c.edge),
        "widened": c.widened,
        "steps": _tuning_steps(evidence, c),
        "trials": tried,
        "expected_best": best_of(scores, evidence.plan.task.higher_is_better),
    }


def _curve(evidence: Evidence, curve: Curve) -> dict[str, Any]:
    return {
        "seed": curve.seed,
        "steps": curve.steps,
        "values": [_raw(evidence, v) for v in curve.values],
        "diverged_at": curve.diverged_at,
    }


def _raw(evidence: Evidence, value: float | None) -> float | None:
    """Turn a lower-is-better value back into the task's own."""
    return None if value is None else evidence.sign * value


def _notes(evidence: Evidence, contenders: list[dict[str, Any]]) -> list[str]:
    notes = []
    missing = [name for name in TARGETS if evidence.targets[name] is None]
    if missing:
        notes.append(
            f"there is no {' and no '.join(missing)} target: fewer than 9 in 10 baseline runs get below their starting "
            "value in time; race again with more steps"
        )
    if evidence.noise_verdict() in ("faster", "slower"):
        notes.append(
            "the A/A arm came out different from itself: by chance this happens in up to 1 race of 20, so believe only "
            "large effects here"
        )
    for c, row in zip(evidence.contenders, contenders, strict=True):
        stack = c.recipe.left_out(evidence.baseline.recipe)
        if row["verdict"] == "faster" and len(stack) > 1 and not evidence.plan.ablate:
            notes.append(
                f"{c.recipe} differs from the baseline in {len(stack)} parts; race with --ablate to learn which of "
                "them matters"
            )
        if row["verdict"] in ("faster", "slower") and inside(row["targets"][PRIMARY]["ratio"], evidence.noise_floor()):
            notes.append(
                f"{c.recipe}: the pairs tell it from the baseline, but single runs would not, since the baseline "
                "against itself on other seeds differs as much"
            )
        if failed := _failed(evidence, c):
            notes.append(f"{failed} of the racing runs of {c.recipe} failed, and count as not reaching anything")
    if evidence.plan.regime == "budgeted":
        notes.append(
            "budgeted regime: steps to target are the length of a whole run, interpolated on a ladder of planned "
            "lengths"
        )
        shortest = evidence.plan.horizons[0]
        early = [row["recipe"] for row in contenders if shortest in row["targets"].get(PRIMARY, {}).get("steps", ())]
        if early:
            notes.append(
                f"{', '.join(early)} reached the {PRIMARY} target already with the shortest length of {shortest} "
                "steps, so those steps are upper bounds; race again with a smaller budget to tell such recipes apart"
            )
    return notes


def _failures(evidence: Evidence) -> list[dict[str, str]]:
    """Return the cells that failed for good; one that succeeded in a later session did not."""
    causes = {r.key: str(r.data["cause"]) for r in evidence.journal.all("failure")}
    return [{"cell": k, "cause": cause} for k, cause in causes.items() if evidence.journal.find("cell", k) is None]


def _failed(evidence: Evidence, c: Contender) -> int:
    """Return how many racing runs of a contender failed."""
    cells = [cell for i in range(c.seeds) for cell in evidence.cells(c, "racing", i)]
    return sum(evidence.data(cell) is None for cell in cells)
