"""What a step costs where nothing is known from inside: from time stamps of the racing runs, which are interleaved."""

from __future__ import annotations

import statistics
from typing import Any

from sooner.race.evidence import Evidence

LEAST = 6
"""Racing seeds that all contenders share."""
MOST_DRIFT = 1.2
"""Of the baseline's own runs: their median over their fastest, as for the calibration kernel of other races."""


def costs_of_runs(evidence: Evidence) -> dict[str, Any]:
    """Return what `measure_blocks` would, with a racing seed for a round: milliseconds per step of each contender.

    Returns:
        Also ``why``: in half a sentence why that can't be believed, or None.
    """
    runners = [c for c in evidence.contenders if not c.why_out]
    seeds = range(min((c.seeds for c in runners), default=0))
    rounds = [[_milliseconds(evidence, c, "racing", seed) for c in runners] for seed in seeds]
    whole = [one for one in rounds if None not in one]
    again = [_milliseconds(evidence, runners[0], "a/a", seed) for seed in seeds] if runners else []
    own = [ms for ms in [*(one[0] for one in rounds if one), *again] if ms is not None]
    blocks = [[float(one[i] or 0.0) for one in whole] for i in range(len(runners))]
    why = None
    kinds = sorted({kind for c in runners for seed in seeds for kind in _kinds(evidence, c, seed)})
    if len(kinds) > 1:
        why = f"runs took place on several kinds of nodes ({'; '.join(kinds)})"
    elif len(whole) < LEAST:
        why = (
            f"fewer than {LEAST} seeds have runs long enough to be timed from outside (2 seconds between the first "
            "and the last measurement)"
        )
    elif (drift := statistics.median(own) / min(own)) > MOST_DRIFT:
        why = f"the baseline's own runs took {drift:.2f}x their best time per step, so something else slowed them"
    return {"blocks": blocks, "calibration": own, "share": [1.0] * len(whole), "why": why}


def _kinds(evidence: Evidence, contender: Any, seed: int) -> list[str]:
    """Return what the node is on which a run took place, where an engine has said so."""
    found = evidence.data(evidence.cells(contender, "racing", seed)[-1]) or {}
    return [" ".join(filter(None, (node["processor"], node["accelerator"])))] if (node := found.get("node")) else []


def _milliseconds(evidence: Evidence, contender: Any, purpose: str, seed: int) -> float | None:
    data = evidence.data(evidence.cells(contender, purpose, seed)[-1])
    found = None if data is None else data.get("milliseconds_per_step")
    return None if found is None else float(found)
