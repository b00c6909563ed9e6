"""What the workers of a race sent, and how far they were apart: means over the racing seeds."""

from __future__ import annotations

import math
import statistics as stdlib
from typing import Any

import numpy as np

from sooner.race.evidence import PRIMARY, Contender, Evidence


def communication_of(evidence: Evidence, c: Contender, costs: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Return one worker's traffic per step and to the target, beside the baseline's; None where nothing raced.

    Steps are counted per gradient too, because some methods compute several per step.

    Args:
        evidence: the finished runs.
        c: whose traffic.
        costs: what `measure_blocks` returned, None where time is withheld.
    """
    ours = _means(evidence, c)
    if ours is None or evidence.baseline.why_out:
        return None
    theirs = _means(evidence, evidence.baseline) or ours
    ratio = evidence.ratio(c, PRIMARY)["ratio"]
    sent, base = _bytes_to_target(evidence, c), _bytes_to_target(evidence, evidence.baseline)
    pairs = [(a, b) for a, b in zip(sent, base, strict=False) if a is not None and b]
    hits = [each for each in sent if each is not None]
    return {
        **ours,
        "bytes_to_target": stdlib.fmean(hits) if hits else None,
        "bytes_ratio": _typical([a / b for a, b in pairs]) if ratio is not None else None,
        "gradients_ratio": _over(ours["gradients_per_step"], theirs["gradients_per_step"], ratio),
        "milliseconds": _split(evidence, c, costs),
    }


def _means(evidence: Evidence, c: Contender) -> dict[str, Any] | None:
    told = [run["communication"] for run in _runs(evidence, c)]
    if not told:
        return None
    return {name: _mean([one[name] for one in told]) for name in told[0] if name != "sent"}


def _runs(evidence: Evidence, c: Contender) -> list[dict[str, Any]]:
    runs = [evidence.data(cell) for i in range(c.seeds) for cell in evidence.cells(c, "racing", i)]
    return [run for run in runs if run]


def _bytes_to_target(evidence: Evidence, c: Contender) -> list[float | None]:
    """Return, per racing seed, the bytes that left one worker until the target; None for a miss."""
    found: list[float | None] = []
    for i in range(c.seeds):
        steps = evidence.steps_to(c, "racing", i, evidence.targets[PRIMARY])
        runs = [evidence.data(cell) for cell in evidence.cells(c, "racing", i)]
        run = next((r for r in reversed(runs) if r and steps is not None and r["steps"][-1] >= steps), None)
        if run is None or steps is None:
            found.append(None)
            continue
        sent = run["communication"].get("sent")
        # the line between two evaluations, as for the steps
        told = np.interp(steps, run["steps"], sent) if sent else steps * run["communication"]["wire_bytes_per_step"]
        found.append(float(told))
    return found


def _split(evidence: Evidence, c: Contender, costs: dict[str, Any] | None) -> dict[str, float] | None:
    """Return milliseconds of a step: computing, encoding and waiting for others, medians of the blocks."""
    runners = [r for r in evidence.contenders if not r.why_out]
    if costs is None or "wait" not in costs or c not in runners:
        return None
    at = runners.index(c)
    encode, wait = stdlib.median(costs["encode"][at]), stdlib.median(costs["wait"][at])
    return {"compute": stdlib.median(costs["blocks"][at]) - encode - wait, "encode": encode, "wait": wait}


def _typical(ratios: list[float]) -> float | None:
    """Return the geometric mean; 0 where nothing was sent."""
    if not ratios:
        return None
    return math.exp(stdlib.fmean(map(math.log, ratios))) if all(ratios) else 0.0


def _mean(values: list[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None


def _over(ours: float | None, theirs: float | None, steps: float | None) -> float | None:
    """Return the ratio of an amount to the target, from the ratio of amounts per step and that of steps."""
    if ours is None or not theirs or steps is None:
        return None
    return ours / theirs * steps
