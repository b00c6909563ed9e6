"""How often does the interval of `sooner forecast gain` hold the truth? On families of curves whose gain is known.

    python benchmarks/gain_coverage.py [REPEATS]

Curves follow L = E + A / N^a + B / D^b with constants drawn anew each time; the contender runs exp(gain) times as fast.
Seeds shift whole curves, partly in both arms alike, and every evaluation has noise of its own; besides, each size is
off the smooth gain by a few percent, as tuning with a few points leaves it. The interval at 10 times the largest size
is asked for at a nominal 90 %. Printed are its coverage with an exact interval, the median width (upper over lower
end), and how often the verdict was wrong: "survives" where no gain is left, or "vanishes" where one of 10 % or more is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sooner.forecast.gain import gain
from sooner.forecast.gained import Gain
from sooner.forecast.read.arms import Arms

TRUTHS: dict[str, Callable[[float], float]] = {
    "constant": lambda x: 0.5,
    "shrinking as a power": lambda x: 0.7 * np.exp(-0.25 * x),
    "vanishing": lambda x: 0.6 * (1 - x / 4),
    "growing": lambda x: 0.2 + 0.12 * x,
    "none": lambda x: 0.0,
}
"""Logarithm of the speed-up by x, the logarithm of the size over the smallest."""
NOISE = {"low": 0.002, "middle": 0.006, "high": 0.015}
"""Deviation of a run from its curve, relative to the loss."""
SIZES = (3, 4, 5)
TIMES = 10.0
EVALUATIONS = 20
SEEDS = (4, 8)
"""Numbers of seeds, either of which a family has."""
LENGTH = 1000.0
SMALLEST = 20_000.0


@dataclass
class Tally:
    """What came of some families: hits of the interval, its widths, wrong verdicts, open ones."""

    hits: list[bool]
    widths: list[float]
    wrong: int = 0
    open: int = 0

    def add(self, made: Gain, truth: float) -> None:
        """Count one family whose speed-up at the place asked for is exp(truth)."""
        self.hits.append(bool(np.log(made.target.low) <= truth <= np.log(made.target.high)))
        self.widths.append(made.target.high / made.target.low)
        told_wrong = (made.verdict == "survives" and truth <= 0) or (
            made.verdict in ("vanishes", "none") and truth >= np.log(1.1)
        )
        self.wrong += told_wrong
        self.open += made.verdict == "open"

    def line(self) -> str:
        """Return the tally as text."""
        hits, count = sum(self.hits), len(self.hits)
        low = stats.beta.ppf(0.025, hits, count - hits + 1) if hits else 0.0
        high = stats.beta.ppf(0.975, hits + 1, count - hits) if hits < count else 1.0
        return (
            f"{100 * hits / count:5.1f} % [{100 * low:.0f}, {100 * high:.0f}] of {count:4d}, "
            f"width {np.median(self.widths):.2f}x, wrong {self.wrong}, open {self.open}"
        )


def family(
    truth: Callable[[float], float], sizes: int, noise: float, random: np.random.Generator
) -> tuple[Arms, float]:
    """Return the runs of two arms at sizes 1, 2, 4, ... and the logarithm of the speed-up at the place asked for."""
    floor, share, exponent = random.uniform(0.5, 2), random.uniform(0.5, 2), random.uniform(0.2, 0.5)
    amount, steepness = random.uniform(0.5, 2), random.uniform(0.25, 0.8)
    deviation, seeds = random.choice([0.0, 0.04]), int(random.choice(SEEDS))
    steps = np.linspace(LENGTH / EVALUATIONS, LENGTH, EVALUATIONS)
    arms = Arms()
    for k in range(sizes):
        x = k * np.log(2.0)
        factor = np.exp(truth(x) + deviation * random.standard_normal())
        common = random.standard_normal((seeds, 1))
        for name, time in (("baseline", steps), ("contender", steps * factor)):
            loss = floor + share * np.exp(-exponent * x) + amount * (time / LENGTH) ** -steepness
            shift = 0.7 * common + 0.7 * random.standard_normal((seeds, 1))
            rows = loss * (1 + noise * (shift + 0.5 * random.standard_normal((seeds, EVALUATIONS))))
            for seed, row in enumerate(rows):
                arms.add(SMALLEST * np.exp(x), LENGTH, name, str(seed), zip(steps.tolist(), row.tolist(), strict=True))
    far = (sizes - 1) * np.log(2.0) + np.log(TIMES)
    return arms, truth(far) + deviation * random.standard_normal()


def main(repeats: int = 20, draws: int = 100, sizes: tuple[int, ...] = SIZES, truths: tuple[str, ...] = ()) -> float:
    """Print the coverage by truth, by noise and by number of sizes, and return it over all."""
    random = np.random.default_rng(15)
    tallies: dict[str, Tally] = {}
    for name in truths or tuple(TRUTHS):
        for level, noise in NOISE.items():
            for count in sizes:
                for _ in range(repeats):
                    arms, truth = family(TRUTHS[name], count, noise, random)
                    (made,) = gain(arms, size_times=TIMES, draws=draws)
                    for key in (name, f"{level} noise", f"{count} sizes", "all"):
                        tallies.setdefault(key, Tally([], [])).add(made, truth)
    for key, tally in tallies.items():
        if key != "all":
            print(f"{key:22s} {tally.line()}")
    print(f"{'all':22s} {tallies['all'].line()}")
    return float(np.mean(tallies["all"].hits))


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:2]))
