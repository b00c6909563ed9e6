"""The loss curves of a baseline and a contender over sizes, fitted together: how much sooner is equal loss, per size?

In each family (one size, tuned for one length) both arms run along one curve F of effective time. In u = log(steps /
length) the contender's loss is F(u) and the baseline's F(u - h - g u): at the length, the baseline has the loss that
the contender has at length / exp(h), so that exp(h) is the speed-up there, and g its slope in the length. F falls by S
per e-fold of steps and bends: F(u) = T - S (1 - exp(-b u)) / b, a power law with a floor in other letters (E = T - S /
b, exponent b), or T - S u + b S u^2 / 2. Both are fitted, and count by what they leave unexplained. Level T and slope S
belong to each family; b and g are drawn together towards their means over families, by as much as one family leaves
them open (partial pooling; Gelman et al., 2013, Bayesian Data Analysis, 5). Errors are those of drawing the seeds
again, for both arms the same ones where they share them, and of the residuals that no law explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sooner.error import SoonerError
from sooner.forecast.fit import SEED_NOISE
from sooner.forecast.solve import Model, solve
from sooner.forecast.table import FloatArray
from sooner.forecast.trend import Cells

WINDOW = 0.25
"""Curves are fitted from this share of the length on: before it they warm up."""
EARLIER = 0.5
"""The share of the length at which the gain is told a second time."""
LAWS = ("power", "quadratic")
MOST = float(np.log(30.0))
"""Gains are looked for up to this factor."""
LEAST_ROWS = 3
_PARAMETERS = 5
_BENDS = (-1.0, 5.0)
_POOLED = (0.5, 0.5, 0.5, 0.3, 0.1)
"""Mean and deviation of the mean bend, deviation of a family's bend from it; both deviations for slopes in length."""
_INDEPENDENT = 4.0
"""Rows of a curve count as this many independent ones against the pooling."""


@dataclass(frozen=True)
class Arm:
    """Runs of one arm.

    Args:
        steps: (n,) steps, ascending.
        losses: (s, n) lower is better.
        seeds: of the s runs.
    """

    steps: FloatArray
    losses: FloatArray
    seeds: tuple[str, ...]

    def since(self, level: float) -> Arm:
        """Return the curves from where their mean first is at or below `level`."""
        below = np.flatnonzero(self.losses.mean(axis=0) <= level)
        first = int(below[0]) if below.size else len(self.steps)
        return Arm(self.steps[first:], self.losses[:, first:], self.seeds)


@dataclass(frozen=True)
class Family:
    """Both arms at one size.

    Args:
        size: parameters.
        length: steps that both were tuned for.
        baseline: its runs.
        contender: its runs.
    """

    size: float
    length: float
    baseline: Arm
    contender: Arm

    @property
    def where(self) -> str:
        """The family in words, for messages."""
        return f"size {self.size:g} and {self.length:g} steps"

    @property
    def rises(self) -> bool:
        """Whether a mean curve ends above its lowest point by a fifth of what it fell."""
        means = [arm.losses.mean(axis=0)[arm.steps >= WINDOW * self.length] for arm in (self.baseline, self.contender)]
        return any(len(m) > 0 and m[-1] - m.min() > 0.2 * (m[0] - m.min()) for m in means)

    def window(self) -> Family:
        """Return the part that is fitted: what both arms pass once the slower one has gone a quarter of the length.

        Raises:
            SoonerError: too few evaluations are left, or a loss does not fall.
        """
        arms = (self.baseline, self.contender)
        levels = []
        for arm in arms:
            late = arm.losses.mean(axis=0)[arm.steps >= WINDOW * self.length]
            if len(late) < LEAST_ROWS:
                raise SoonerError(
                    f"at {self.where} an arm has {len(late)} evaluations after the first quarter, and {LEAST_ROWS} "
                    "make a curve; evaluate more often"
                )
            if late[1:].min() >= late[0]:
                raise SoonerError(
                    f"at {self.where} a loss does not fall after the first quarter of the steps, so there is no "
                    "speed-up to tell; train longer"
                )
            levels.append(float(late[0]))
        kept = [arm.since(max(levels)) for arm in arms]
        if min(len(arm.steps) for arm in kept) < LEAST_ROWS:
            raise SoonerError(
                f"at {self.where} the arms have hardly a loss in common, which tells no speed-up; train longer, or "
                "evaluate more often"
            )
        return Family(self.size, self.length, *kept)


def measure(families: Sequence[Family], *, earlier: bool = False, draws: int = 200, seed: int = 0) -> Cells:
    """Return the gain in every family.

    Args:
        families: one or more.
        earlier: tell it a second time at an earlier length, where all families have the same.
        draws: refits for the errors, shared among the laws of the curve by what they leave unexplained.
        seed: of the draws.

    Raises:
        SoonerError: a family tells no speed-up.
    """
    fitted = _Fitted([family.window() for family in families])
    random = np.random.default_rng(seed)
    centres, misfits = [], []
    for law in LAWS:
        model = fitted.model(law)
        centre = solve(model, fitted.target, fitted.starts(), *fitted.bounds(), weights=fitted.loads, iterations=200)
        centres.append(centre.values[centre.best])
        leftover = model(centres[-1][None])[0][: len(fitted.rows)] - fitted.rows
        misfits.append((leftover, float(np.mean(leftover**2))))
    floor = float(np.mean(fitted.errors**2)) + 1e-6
    weights = np.array([1 / (misfit + floor) for _, misfit in misfits])
    counts = np.maximum(np.round(draws * weights / weights.sum()).astype(np.intp), 1)
    made = []
    for law, best, (leftover, _), count in zip(LAWS, centres, misfits, counts.tolist(), strict=True):
        shaken = fitted.targets(random, count) + fitted.unexplained(leftover, random, count)
        starts = np.repeat(best[None], count, axis=0)
        bounds, loads = fitted.bounds(), fitted.loads
        found = solve(fitted.model(law), shaken, starts, *bounds, weights=loads, iterations=40, tolerance=1e-5)
        made.append(fitted.gains(found.values))
    gains = np.concatenate(made)
    lengths = np.array([family.length for family in families])
    shares = [1.0, EARLIER] if earlier and len(np.unique(lengths)) == 1 else [1.0]
    cells = np.concatenate([gains[:, :, 0] + gains[:, :, 1] * np.log(share) for share in shares], axis=1)
    sizes = np.array([family.size for family in families])
    return Cells(
        np.median(cells, axis=0),
        np.atleast_2d(np.cov(cells.T)),
        np.tile(sizes, len(shares)),
        np.concatenate([lengths * share for share in shares]),
        np.tile(np.arange(len(families)), len(shares)),
        float(max(sum(len(f.baseline.seeds) - 1 for f in families), 2)),
    )


class _Fitted:
    """The rows of all families in one vector, each family in units of how far its curves fall."""

    def __init__(self, families: Sequence[Family]) -> None:
        self.families = families
        count = len(families)
        owner, time, baseline, target, errors = [], [], [], [], []
        self.scale, self.zero = np.empty(count), np.empty(count)
        for k, family in enumerate(families):
            means = [arm.losses.mean(axis=0) for arm in (family.baseline, family.contender)]
            self.zero[k] = means[1][-1]
            self.scale[k] = max(np.ptp(np.concatenate(means)), 1e-12)
            for arm, mean, first in zip((family.baseline, family.contender), means, (1.0, 0.0), strict=True):
                owner.append(np.full(len(mean), k))
                time.append(np.log(arm.steps / family.length))
                baseline.append(np.full(len(mean), first))
                target.append((mean - self.zero[k]) / self.scale[k])
                errors.append(_error(arm, self.scale[k]) * np.ones(len(mean)))
        self.owner: npt.NDArray[np.intp] = np.concatenate(owner)
        self.time, self.is_baseline = np.concatenate(time), np.concatenate(baseline)
        self.rows = np.concatenate(target)
        self.errors = np.concatenate(errors)
        self.target = np.concatenate([self.rows, np.zeros(2 * count + 2)])
        self.rows_of = np.bincount(self.owner, minlength=count)
        loads = _INDEPENDENT / (np.maximum(self.errors, 0.003) ** 2 * self.rows_of[self.owner] / 2)
        self.loads = np.concatenate([loads, np.ones(2 * count + 2)])

    def model(self, law: str) -> Model:
        """Return the model: T, log S, bend, h and g of each family, then the means of the bends and of g."""
        count, owner = len(self.families), self.owner
        mean_bend, spread_bend, bend_apart, spread_slope, slope_apart = _POOLED

        def predict(values: FloatArray) -> FloatArray:
            last, fall, bend, gain, along = (values[:, k * count : (k + 1) * count] for k in range(_PARAMETERS))
            bends, slopes = values[:, -2:-1], values[:, -1:]
            u = self.time - self.is_baseline * (gain[:, owner] + along[:, owner] * self.time)
            b = bend[:, owner]
            if law == "power":
                b = np.where(np.abs(b) < 1e-6, 1e-6, b)
                curve = np.expm1(np.clip(-b * u, -50.0, 50.0)) / b
            else:
                curve = -u + 0.5 * b * u * u
            rows = last[:, owner] + np.exp(fall[:, owner]) * curve
            pooled = [(bend - bends) / bend_apart, (along - slopes) / slope_apart]
            means = [(bends - mean_bend) / spread_bend, slopes / spread_slope]
            return np.concatenate([rows, *pooled, *means], axis=1)

        return predict

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Return the least and the largest value of every parameter."""
        count = len(self.families)
        ends = ((-3.0, 3.0), (-12.0, 6.0), _BENDS, (-MOST, MOST), (-1.0, 0.8))
        low, high = (np.repeat([end[k] for end in ends], count) for k in (0, 1))
        return np.append(low, [_BENDS[0], -1.0]), np.append(high, [_BENDS[1], 0.8])

    def starts(self) -> FloatArray:
        """Return a few starts: gains where the mean curves cross a common level, none, and half of them."""
        count = len(self.families)
        crossing = np.array([_crossing(family) for family in self.families])
        fall = np.log([max(self.rows[self.owner == k].max(), 0.05) / 2 for k in range(count)])
        starts = [
            np.concatenate([np.zeros(count), fall, np.full(count, bend), factor * crossing, np.zeros(count), [bend, 0]])
            for factor in (1.0, 0.5, 0.0)
            for bend in (0.2, 0.8)
        ]
        return np.stack(starts)

    def gains(self, values: FloatArray) -> FloatArray:
        """Return (k, families, 2): the logarithm of the speed-up at the length, and its slope in the length."""
        count = len(self.families)
        return np.stack([values[:, 3 * count : 4 * count], values[:, 4 * count : 5 * count]], axis=2)

    def targets(self, random: np.random.Generator, draws: int) -> FloatArray:
        """Return (draws, n) targets with the seeds drawn again: normal weights, so that a few seeds give many draws."""
        made = np.tile(self.target, (draws, 1))
        first = 0
        spread = self._spread_of_single_runs()
        for k, family in enumerate(self.families):
            arms = (family.baseline, family.contender)
            together = arms[0].seeds == arms[1].seeds
            shared = random.standard_normal((draws, len(arms[0].seeds)))
            for arm in arms:
                rows = slice(first, first + len(arm.steps))
                first = rows.stop
                count = len(arm.seeds)
                if count == 1:
                    made[:, rows] += spread[k] * random.standard_normal((draws, 1))
                    continue
                drawn = shared if together else random.standard_normal((draws, count))
                apart = (arm.losses - arm.losses.mean(axis=0)) / self.scale[k]
                made[:, rows] += drawn @ apart / np.sqrt(count * (count - 1))
        return made

    def unexplained(self, leftover: FloatArray, random: np.random.Generator, draws: int) -> FloatArray:
        """Return (draws, n) what the law does not explain, with random signs in thirds of every curve."""
        made = np.zeros((draws, len(self.target)))
        for k in range(len(self.families)):
            for arm in (0.0, 1.0):
                own = np.flatnonzero((self.owner == k) & (self.is_baseline == arm))
                size = float(np.mean(leftover[own] ** 2))
                # the seeds' own noise is in what they are drawn again with
                beyond = np.sqrt(max(0.0, 1 - float(np.mean(self.errors[own] ** 2)) / size)) if size > 0 else 0.0
                block = np.arange(len(own)) * 3 // len(own)
                made[:, own] = beyond * leftover[own] * random.choice([-1.0, 1.0], size=(draws, 3))[:, block]
        return made

    def _spread_of_single_runs(self) -> FloatArray:
        """Return the deviation of a run, in each family's units: from the families with several, else assumed."""
        known = [
            float(np.std(arm.losses, axis=0, ddof=1).mean()) / abs(float(arm.losses.mean()))
            for family in self.families
            for arm in (family.baseline, family.contender)
            if len(arm.seeds) > 1
        ]
        relative = float(np.median(known)) if known else SEED_NOISE
        levels = np.array([abs(float(f.contender.losses.mean())) for f in self.families])
        made: FloatArray = relative * levels / self.scale
        return made


def _error(arm: Arm, scale: float) -> float:
    """Return the standard error of the mean curve, averaged over it."""
    if len(arm.seeds) < 2:
        return 0.0
    return float(np.std(arm.losses, axis=0, ddof=1).mean()) / float(np.sqrt(len(arm.seeds))) / scale


def _crossing(family: Family) -> float:
    """Return the logarithm of the speed-up at the best loss that both mean curves reach."""
    curves = [np.minimum.accumulate(arm.losses.mean(axis=0)) for arm in (family.baseline, family.contender)]
    level = max(curve[-1] for curve in curves)
    at = []
    for arm, curve in zip((family.baseline, family.contender), curves, strict=True):
        place = int(np.flatnonzero(curve <= level)[0])
        if place == 0 or curve[place - 1] == curve[place]:
            at.append(float(np.log(arm.steps[place])))
            continue
        share = (curve[place - 1] - level) / (curve[place - 1] - curve[place])
        at.append(float(np.interp(share, [0, 1], np.log(arm.steps[place - 1 : place + 1]))))
    return float(np.clip(at[0] - at[1], -MOST + 0.1, MOST - 0.1))
