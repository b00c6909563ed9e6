"""How often `sooner judge` keeps what only had luck, and how often what is really better.

    python benchmarks/judge_errors.py [--streams 200] [--candidates 100] [--real 0.1] [--gain 0.02] [--out FILE]

A greedy loop tries one candidate after another and makes each that is better its new baseline. Streams of pure noise
count what is kept by luck, under normal noise, heavy tails (Student's t with 2 degrees of freedom) and runs of which
some diverge. Streams in which some candidates are real, by --gain, count those that are kept, and compare that with
the power that `sooner judge` says beforehand from the level and the spread. Runs are drawn, not trained: what is
measured are the decisions, by the code that makes them. Beside it stand the loops that people write: keep what is
better in one run, in the mean of three, or by a t-test on eight pairs at 5 %.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_1samp

from sooner.judging.evidence import BETTER, NO_GAIN, SAME, UNDECIDED, WORSE, first_decision, gains
from sooner.judging.stream import level
from sooner.race.statistics.planning import Looking, Spread, power
from sooner.version import __version__

Q, WORTH, SPREAD = 0.05, 0.01, 0.02
Array = NDArray[np.float64]
Noise = Callable[[np.random.Generator, tuple[int, ...]], Array]
NOISES: dict[str, Noise] = {
    "normal": lambda g, shape: g.standard_normal(shape),
    "heavy tails": lambda g, shape: g.standard_t(2, shape),
    "5 % diverged": lambda g, shape: np.where(g.random(shape) < 0.05, np.nan, g.standard_normal(shape)),
}
"""Of one run; the paired gain of two has a standard deviation of `SPREAD` where the noise is normal."""


def pairs(generator: np.random.Generator, noise: Noise, gain: float, seeds: int) -> Array:
    """Return the gains that a candidate shows on so many seeds: losses near 3, of which both share the seed's luck."""
    shared = 0.05 * generator.standard_normal(seeds)
    own = SPREAD / math.sqrt(2) * noise(generator, (2, seeds))
    baseline, candidate = 3 * np.exp(shared + own[0]), 3 * np.exp(shared + own[1]) * (1 - gain)
    return gains(list(baseline), list(candidate), higher_is_better=False, relative=True)


def one_run(x: Array) -> bool:
    """Keep what is better in one run."""
    return bool(x[0] > 0)


def three_runs(x: Array) -> bool:
    """Keep what is better in the mean of three."""
    return bool(np.isfinite(x[:3]).all() and np.mean(x[:3]) > 0)


def t_test(x: Array) -> bool:
    """Keep what a one-sided t-test on eight pairs calls better at 5 %."""
    return bool(np.isfinite(x[:8]).all() and ttest_1samp(x[:8], 0.0, alternative="greater").pvalue <= 0.05)


def stream(
    generator: np.random.Generator, noise: Noise, candidates: int, real: float, gain: float, most: int
) -> dict[str, Any]:
    """Run one greedy loop and return what it kept."""
    outcomes = dict.fromkeys((BETTER, WORSE, NO_GAIN, SAME, UNDECIDED), 0)
    discoveries: list[int] = []
    kept_false = kept_real = tried = seeds = 0
    said = 0.0
    others = dict.fromkeys(("one run", "mean of three", "t-test"), 0)
    for number in range(1, candidates + 1):
        is_real = generator.random() < real
        x = pairs(generator, noise, gain if is_real else 0.0, most)
        alpha = level(number, discoveries, Q)
        outcome, used = first_decision(x, alpha, WORTH)
        outcomes[outcome] += 1
        seeds += used
        if outcome == BETTER:
            discoveries.append(number)
        tried += is_real
        kept_real += is_real and outcome == BETTER
        kept_false += not is_real and outcome == BETTER
        if is_real:
            said += chance(alpha, gain, most)
        else:
            for name, rule in zip(others, (one_run, three_runs, t_test), strict=True):
                others[name] += rule(x)
    return {
        "kept by luck": kept_false,
        "kept and real": kept_real,
        "real": tried,
        "said beforehand": said,
        "seeds": seeds,
        "outcomes": outcomes,
        "others": others,
    }


_CHANCES: dict[tuple[int, float, int], float] = {}


def chance(alpha: float, gain: float, most: int) -> float:
    """Return the power that is said beforehand at this level (rounded to 1/4 of a factor e, since it is slow)."""
    key = (round(4 * math.log(alpha)), gain, most)
    if key not in _CHANCES:
        looking = Looking(tuple(range(6, most + 1)), math.exp(key[0] / 4), every_seed=True)
        _CHANCES[key] = power(Spread(SPREAD, 1_000), math.exp(-gain), looking)[0]
    return _CHANCES[key]


def figures(streams: int, candidates: int, noise: str, real: float, gain: float, most: int) -> dict[str, Any]:
    """Return what so many streams come to, as plain numbers."""
    began = time.process_time()
    generator = np.random.default_rng([streams, candidates, sum(noise.encode()), round(1_000 * real)])
    each = [stream(generator, NOISES[noise], candidates, real, gain, most) for _ in range(streams)]
    false = np.array([one["kept by luck"] for one in each])
    true = np.array([one["kept and real"] for one in each])
    any_false = binomtest(int((false > 0).sum()), streams).proportion_ci(method="exact")
    found: dict[str, Any] = {
        "noise": noise,
        "share of real ones": real,
        "seeds at most": most,
        "streams": streams,
        "candidates": candidates,
        "most kept by luck in a stream": int(false.max()),
        "mean kept by luck": float(false.mean()),
        "share of streams with any": float((false > 0).mean()),
        "its interval": [float(any_false.low), float(any_false.high)],
        "false discovery rate": float(np.mean(false / np.maximum(false + true, 1))),
        "mean seeds per candidate": float(np.mean([one["seeds"] for one in each]) / candidates),
        "outcomes": {name: sum(one["outcomes"][name] for one in each) for name in each[0]["outcomes"]},
        "kept by luck by others, mean": {
            name: float(np.mean([one["others"][name] for one in each])) for name in each[0]["others"]
        },
    }
    if real:
        tried = max(1, sum(one["real"] for one in each))
        found["real ones kept"] = float(true.sum() / tried)
        found["said beforehand"] = float(sum(one["said beforehand"] for one in each) / tried)
    found["processor seconds"] = round(time.process_time() - began, 1)
    return found


def main(
    streams: int = 200, candidates: int = 100, real: float = 0.1, gain: float = 0.02, out: Path | None = None
) -> None:
    """Print the error rates.

    Args:
        streams: greedy loops.
        candidates: tried in each.
        real: share of real improvements in the streams that have some.
        gain: their size, a share of the loss.
        out: also write the figures here, as JSON.
    """
    found = []
    nulls = [(name, 0.0, 64) for name in NOISES]
    for noise, share, most in (*nulls, *(("normal", real, most) for most in (16, 24, 64))):
        found.append(one := figures(streams, candidates, noise, share, gain, most))
        others = ", ".join(f"{value:.1f} ({name})" for name, value in one["kept by luck by others, mean"].items())
        low, high = one["its interval"]
        print(
            f"{noise}, {100 * share:g} % real, {most} seeds: kept by luck {one['mean kept by luck']:.3f} a stream, "
            f"{one['most kept by luck in a stream']} at most; any in {100 * one['share of streams with any']:.1f} % of "
            f"streams [{low:.3f}, {high:.3f}]; {one['mean seeds per candidate']:.1f} seeds each; others: {others}"
        )
        if share:
            print(
                f"  of what is really {100 * gain:g} % better, {one['real ones kept']:.3f} were kept, "
                f"{one['said beforehand']:.3f} said beforehand; false discovery rate {one['false discovery rate']:.4f}"
            )
    if out is not None:
        about = {"command": ["python", "benchmarks/judge_errors.py", *sys.argv[1:]], "sooner": __version__, "q": Q}
        about |= {"worth": WORTH, "gain": gain, "spread": SPREAD}
        out.write_text(json.dumps({**about, "figures": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cyclopts.run(main)
