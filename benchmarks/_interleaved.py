"""Timing on a shared machine: one thread, candidates in turn, rounds in which neighbours took the core once more."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sooner.race.cost import calibrate, contention

ATTEMPTS = 4
"""A round is measured at most this often; the quietest attempt is kept."""

QUIET = 1.1
"""A block whose wall time exceeds its processor time by more than this factor was disturbed."""


@dataclass
class Round:
    """One block of every candidate: seconds per call by either clock, wall over processor time, and the calibration."""

    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    share: list[float] = field(default_factory=list)
    calibration: list[float] = field(default_factory=list)


def interleave(candidates: Mapping[str, Callable[[], object]], rounds: int, calls: Mapping[str, int]) -> list[Round]:
    """Time a block of every candidate in every round, in alternating order, so that a drift of the machine hits all.

    Args:
        candidates: what to time.
        rounds: how often.
        calls: how many calls of each candidate make one block.
    """
    kept = []
    for number in range(rounds):
        order = list(candidates)[:: 1 if number % 2 == 0 else -1]
        tries: list[Round] = []
        while len(tries) < ATTEMPTS and not (tries and max(tries[-1].share) <= QUIET):
            tries.append(_round(candidates, order, calls))
        kept.append(min(tries, key=lambda one: max(one.share)))
    print(_guard(kept))
    return kept


def _round(candidates: Mapping[str, Callable[[], object]], order: Sequence[str], calls: Mapping[str, int]) -> Round:
    measured = Round()
    for name in order:
        measured.calibration.append(calibrate())
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls[name]):
            candidates[name]()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        measured.wall[name], measured.cpu[name] = wall / calls[name], cpu / calls[name]
        measured.share.append(wall / cpu)
    return measured


def _guard(rounds: Sequence[Round]) -> str:
    found = contention(
        {"share": [s for r in rounds for s in r.share], "calibration": [c for r in rounds for c in r.calibration]}
    )
    disturbed = sum(max(r.share) > QUIET for r in rounds)
    verdict = f"CONTENDED, do not believe what follows: {found}" if found else "quiet"
    return f"guard: {verdict}; {disturbed} of {len(rounds)} rounds stayed disturbed"


def spread(values: Sequence[float]) -> str:
    """Return "median [lowest, highest]"."""
    return f"{statistics.median(values):.3f} [{min(values):.3f}, {max(values):.3f}]"
