"""What a judgement can be expected to find, said before it begins: from the luck that the ledger has seen."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sooner.judging.evidence import Worth, gains
from sooner.judging.ledger import SIDES, Ledger
from sooner.judging.sides import Side
from sooner.race import statistics
from sooner.race.limits import LEAST_SEEDS
from sooner.race.statistics.planning import Looking, Spread, power


def expected(
    ledger: Ledger, metric: str, baseline: Side, worth: Worth, higher_is_better: bool, level: float, most: int
) -> Iterator[str]:
    """Yield a line each for a gain of the worth and of twice as much: the chance to find it, and after how many seeds.

    Args:
        ledger: with earlier comparisons; without any there is nothing to say.
        metric: its name.
        baseline: the side whose command it is.
        worth: the smallest difference that matters.
        higher_is_better: for accuracies and rewards.
        level: the p that the candidate has to reach.
        most: pairs at most.
    """
    known = spread_of(ledger, metric, baseline, worth, higher_is_better)
    if known is not None:
        looking = Looking(tuple(range(LEAST_SEEDS, most + 1)), level, every_seed=True)
        for times in (1, 2):
            gain = times * worth.size
            chance, used = power(known, math.exp(-gain), looking)
            yield (
                f"a gain of {worth.show(gain)} would be found with a chance of {100 * chance:.0f} %, after "
                f"{used:.0f} seeds on average, if luck is as large as in what the ledger holds"
            )


def spread_of(ledger: Ledger, metric: str, baseline: Side, worth: Worth, higher_is_better: bool) -> Spread | None:
    """Return how far gains scatter by luck, from earlier comparisons of this metric and command; None without any."""
    squares, freedom, runs = 0.0, 0, ledger.runs()
    for key, record in ledger.all("comparison").items():
        if (record.data["metric"], record.data["command"]) != (metric, " ".join(baseline.program.words)):
            continue
        sides = [runs.get(key, {}).get(side, {}) for side in SIDES]
        both = [seed for seed in sides[0] if seed in sides[1]]
        values = [[float(side[seed]["value"]) for seed in both] for side in sides]
        x = gains(values[0], values[1], higher_is_better=higher_is_better, relative=worth.relative)
        sd = statistics.spread(x)
        if sd and len(x) >= LEAST_SEEDS:
            squares, freedom = squares + sd**2 * (len(x) - 1), freedom + len(x) - 1
    return Spread(math.sqrt(squares / freedom), freedom) if freedom else None
