"""What the workers of a race sent, and how far they were apart: means over the racing seeds."""

from __future__ import annotations

import math
from typing import Any

from sooner.race.evidence import PRIMARY, Contender, Evidence


def communication_of(evidence: Evidence, c: Contender) -> dict[str, Any] | None:
    """Return one worker's traffic per step and to the target, beside the baseline's; None where nothing raced.

    Steps are counted per gradient too, because some methods compute several per step.
    """
    ours = _means(evidence, c)
    if ours is None or evidence.baseline.why_out:
        return None
    theirs = _means(evidence, evidence.baseline) or ours
    ratio = evidence.ratio(c, PRIMARY)["ratio"]
    return {
        **ours,
        "bytes_ratio": _over(ours["wire_bytes_per_step"], theirs["wire_bytes_per_step"], ratio),
        "gradients_ratio": _over(ours["gradients_per_step"], theirs["gradients_per_step"], ratio),
    }


def _means(evidence: Evidence, c: Contender) -> dict[str, Any] | None:
    runs = [evidence.data(cell) for i in range(c.seeds) for cell in evidence.cells(c, "racing", i)]
    told = [run["communication"] for run in runs if run]
    if not told:
        return None
    return {name: _mean([one[name] for one in told]) for name in told[0]}


def _mean(values: list[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None


def _over(ours: float | None, theirs: float | None, steps: float | None) -> float | None:
    """Return the ratio of an amount to the target, from the ratio of amounts per step and that of steps."""
    if ours is None or not theirs or steps is None:
        return None
    return ours / theirs * steps
