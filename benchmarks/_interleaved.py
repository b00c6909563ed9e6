"""Timing on a shared machine: candidates in turn, rounds in which neighbours took a core are measured once more."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sooner.race.cost import calibrate, contention

ATTEMPTS = 4
"""A round is measured at most this often; the quietest attempt is kept."""

QUIET = 1.1
"""A block that lost more than this, less one, of its time to others was disturbed."""

BLOCK_SECONDS = 0.1
"""How long a block should take; `block_length` finds the number of calls."""


@dataclass
class Round:
    """One block of every candidate.

    Attributes:
        wall, cpu: seconds per call by either clock.
        faults: pages fetched from the operating system per call; fresh memory costs one for every 4 KiB.
        share: of each block, what its time was over what it would have been without others: wall over processor time
            on one thread; on several, one plus the share of the block that threads waited for a core.
        calibration: milliseconds of a fixed kernel before each block.
    """

    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    faults: dict[str, float] = field(default_factory=dict)
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
    print(_guard(kept), flush=True)
    return kept


def block_length(candidate: Callable[[], object]) -> int:
    """Return how many calls make a block; calls the candidate twice, so that it has its state."""
    candidate()
    started = time.perf_counter()
    candidate()
    return max(1, round(BLOCK_SECONDS / (time.perf_counter() - started)))


def _round(candidates: Mapping[str, Callable[[], object]], order: Sequence[str], calls: Mapping[str, int]) -> Round:
    measured = Round()
    for name in order:
        measured.calibration.append(calibrate())
        lost, faults = waited(), _faults()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls[name]):
            candidates[name]()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        measured.wall[name], measured.cpu[name] = wall / calls[name], cpu / calls[name]
        measured.faults[name] = (_faults() - faults) / calls[name]
        alone = torch.get_num_threads() == 1
        measured.share.append(wall / cpu if alone else 1 + (waited() - lost) / wall)
    return measured


def waited() -> float:
    """Return the seconds that threads of this process have been ready to run without getting a core (Linux; else 0)."""
    total = 0
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        try:
            total += int(thread.read_text(encoding="ascii").split()[1])
        except OSError:  # the thread ended meanwhile
            continue
    return total / 1e9


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _guard(rounds: Sequence[Round]) -> str:
    share, calibration = [s for r in rounds for s in r.share], [c for r in rounds for c in r.calibration]
    found = contention({"share": share, "calibration": calibration})
    if torch.get_num_threads() > 1 and statistics.median(share) > 1.2:
        found = f"threads waited for a core during {100 * (statistics.median(share) - 1):.0f} % of the time"
    if torch.get_num_threads() > 1 and not Path("/proc/self/schedstat").exists():
        found = "this system does not say whether several threads waited for a core; use --threads 1"
    disturbed = sum(max(r.share) > QUIET for r in rounds)
    verdict = f"CONTENDED, do not believe what follows: {found}" if found else "quiet"
    return f"guard: {verdict}; {disturbed} of {len(rounds)} rounds stayed disturbed"


def spread(values: Sequence[float]) -> str:
    """Return "median [lowest, highest]"."""
    return f"{statistics.median(values):.3f} [{min(values):.3f}, {max(values):.3f}]"
