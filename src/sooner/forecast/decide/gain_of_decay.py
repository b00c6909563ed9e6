"""What a cool-down of the learning rate takes off the loss, from runs that had one, as a share of the loss before it.

The share carries over to other sizes where the nats do not. On 199 cool-downs of 20 language models of 48M to 2B
parameters (Gemstones, McLeish et al., 2025, arXiv 2502.06857; each over a tenth of the steps before it) what the models
up to 0.55B say of the losses of those beyond 1B is off by 0.35 % on average with the same share, by 0.24 % with this
module, and by 0.83 % with the same nats (`benchmarks/forecast_accuracy.py`).

Gains g = log(loss before / loss after) are forecast by a straight line in the logarithm of the size, with priors: the
slope about zero, and the deviation of single cool-downs as in those runs, about an eighth of the mean. So one gain that
was measured is a forecast already, and many make their own. The interval is Student's, of a new cool-down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from scipy import stats

from sooner.error import SoonerError
from sooner.forecast.decay import GAIN, SPREAD
from sooner.forecast.fitted import LEVEL
from sooner.forecast.schedules import FULL
from sooner.forecast.table import LOGGED, Table

USUAL = 0.12
"""Deviation of a gain, over the mean: that of the cool-downs of Gemstones, over their models and lengths."""
WORTH = 4.0
"""It counts as much as so many cool-downs more."""
SLOPE = 0.1
"""Deviation of the slope: how much of the mean a gain changes by where the size is e times as large."""
FAINT = 0.005
"""Gains of a smaller share than this are not told from none, and deviate by as much."""
LONGEST = 0.7
"""A decay over more of a run than this is its whole schedule, and no cool-down."""
ENDED = 0.5
"""A learning rate above this share of its peak has not ended its decay."""
FEWEST = 5
"""A loss is read off a line through so many rows or more; off the last row where there are fewer."""
PART = 0.2
"""Share of the decay, at its end, that this line goes through; before the decay it is a third of the steps."""
ROWS = 200
"""Rows of the line at most."""
ALIKE = 2.0
"""Cool-downs whose lengths or ends differ by more than this factor are not of one kind."""
FAR = 10.0
"""Beyond this multiple of the largest size the gain is far from what was measured."""


@dataclass(frozen=True)
class Cooldown:
    """A decay of the learning rate that was run to its end.

    Args:
        run: its name.
        before: loss where the decay began.
        after: loss at its end.
        parameters: size of the model, NaN where it is not known.
        length: steps of the decay over those of the run, NaN where it is not known.
        end: last learning rate over the largest, NaN where it is not known.
    """

    run: str
    before: float
    after: float
    parameters: float = np.nan
    length: float = np.nan
    end: float = np.nan

    @property
    def gain(self) -> float:
        """The logarithm of the loss before over the loss after."""
        return float(np.log(self.before / self.after))

    @property
    def share(self) -> float:
        """The share of the loss that went."""
        return 1 - self.after / self.before


@dataclass(frozen=True)
class Waiting:
    """A run before its decay.

    Args:
        run: its name.
        loss: now.
        parameters: size of the model, NaN where it is not known.
    """

    run: str
    loss: float
    parameters: float = np.nan


@dataclass(frozen=True)
class Cooled:
    """A loss with the ends of its interval.

    Args:
        run: its name.
        before: loss before the decay.
        value: loss after it, forecast.
        low: lower end.
        high: upper end.
        measured: loss after it, NaN where the decay is still ahead.
        by_nats: what taking off the mean nats would have said, NaN where no gain is known.
    """

    run: str
    before: float
    value: float
    low: float
    high: float
    measured: float = np.nan
    by_nats: float = np.nan

    @property
    def inside(self) -> bool:
        """Whether the interval holds the loss measured."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class GainOfDecay:
    """What cool-downs took off, and what they will.

    Args:
        known: the cool-downs measured.
        share: share of the loss that the next one takes, at the sizes measured.
        low: lower end of its interval.
        high: upper end.
        ahead: runs before their decay, with the loss after it.
        left: what the others say of those left out: the largest size, or each run in turn where no sizes are known.
        level: of the intervals.
        warnings: why to doubt it.
    """

    known: list[Cooldown]
    share: float
    low: float
    high: float
    ahead: list[Cooled]
    left: list[Cooled]
    level: float
    warnings: list[str] = field(default_factory=list)


def gain_of_decay(table: Table, at: list[Waiting] | None = None, *, level: float = LEVEL) -> GainOfDecay:
    """Forecast what a cool-down takes off the loss of runs that have not decayed, from those that have.

    Args:
        table: curves with their learning rates (step, loss, lr), or a row for each cool-down with `before` and `loss`,
            its end; parameters where they are known.
        at: more losses before a decay, without a curve.
        level: of the intervals.

    Raises:
        SoonerError: columns are missing, or nothing is ahead and nothing was measured.
    """
    known, waiting, told = _read(table)
    waiting = [*waiting, *(at or [])]
    for one in waiting:
        if not (np.isfinite(one.loss) and one.loss > 0):
            raise SoonerError(f"the loss of {one.run} before its decay is {one.loss:g}; give a positive number")
    if not known and not waiting:
        raise SoonerError(
            f"no run has a cool-down behind or ahead of it ({'; '.join(told)}); give runs at a constant learning rate, "
            "with or without a decay at their end"
        )
    middle, low, high = _Line(known).gain(np.nan, level)
    warnings = [*told, *_doubts(known, waiting, low)]
    left = _left_out(known, level)
    if len(left) and not any(one.inside for one in left):
        warnings.append(f"without {_named(left)} the others would have missed it: the interval is too narrow here")
    return GainOfDecay(
        known,
        float(-np.expm1(-middle)),
        float(-np.expm1(-low)),
        float(-np.expm1(-high)),
        [_cooled(_Line(known), one.run, one.loss, one.parameters, level) for one in waiting],
        left,
        level,
        warnings,
    )


class _Line:
    """The line through gains over log size."""

    def __init__(self, known: list[Cooldown]) -> None:
        self.known = known
        if not known:
            return
        gains = np.array([one.gain for one in known])
        sizes = np.array([one.parameters for one in known])
        sized = bool(np.isfinite(sizes).all())
        # several cool-downs of one model are one witness of what models gain
        names = [f"{size:g}" for size in sizes] if sized else [one.run for one in known]
        _, which = np.unique(names, return_inverse=True)
        count = np.bincount(which)
        means = np.bincount(which, gains) / count
        logs = np.bincount(which, np.log(sizes)) / count if sized else np.zeros(len(count))
        self.nats = float(np.mean([one.before - one.after for one in known]))
        self.mean, self.centre = float(means.mean()), float(logs.mean())
        scale = USUAL * max(abs(self.mean), FAINT)
        away = logs - self.centre
        self.stiff = float(away @ away) + (USUAL / SLOPE) ** 2
        self.slope = float(away @ (means - self.mean)) / self.stiff
        missed = gains - self.mean - self.slope * away[which]
        self.free = WORTH + len(means) - 1
        self.variance = float(WORTH * scale**2 + len(means) * np.mean(missed**2)) / self.free
        self.count, self.sized = len(means), sized

    def gain(self, parameters: float, level: float) -> tuple[float, float, float]:
        """Return the gain of a new cool-down at this size with its interval; NaN for the sizes measured."""
        if not self.known:
            reach = NormalDist().inv_cdf((1 + level) / 2) * SPREAD
            low, middle, high = (float(-np.log1p(-min(GAIN * np.exp(k * reach), 0.9))) for k in (-1, 0, 1))
            return middle, low, high
        away = float(np.log(parameters)) - self.centre if self.sized and np.isfinite(parameters) else 0.0
        middle = self.mean + self.slope * away
        wide = float(np.sqrt(self.variance * (1 + 1 / self.count + away**2 / self.stiff)))
        reach = float(stats.t.ppf((1 + level) / 2, self.free)) * wide
        return middle, middle - reach, middle + reach


def _cooled(line: _Line, run: str, loss: float, size: float, level: float, measured: float = np.nan) -> Cooled:
    value, low, high = (loss * float(np.exp(-gain)) for gain in line.gain(size, level))
    by_nats = loss - line.nats if line.known else np.nan
    return Cooled(run, loss, value, high, low, measured, by_nats)


def _left_out(known: list[Cooldown], level: float) -> list[Cooled]:
    """Return what the others say of the largest size, or of each run where no sizes are known or all are the same."""
    sizes = [one.parameters for one in known]
    if np.isfinite(sizes).all() and len(set(sizes)) > 1:
        parts = [[one for one in known if one.parameters == max(sizes)]]
    else:
        names = list(dict.fromkeys(one.run for one in known))
        parts = [[one for one in known if one.run == name] for name in names] if len(names) > 1 else []
    made = []
    for out in parts:
        line = _Line([one for one in known if one not in out])
        made += [_cooled(line, one.run, one.before, one.parameters, level, one.after) for one in out]
    return made


def _named(left: list[Cooled]) -> str:
    names = list(dict.fromkeys(one.run for one in left))
    return names[0] if len(names) == 1 else f"each of {len(names)} runs"


def _read(table: Table) -> tuple[list[Cooldown], list[Waiting], list[str]]:
    """Return the cool-downs, the runs before theirs, and what to say of runs that are neither."""
    if "before" in table:
        table = table.require("loss")
        if any(note.startswith(LOGGED) for note in table.notes):
            raise SoonerError(
                "the losses after the cool-downs are read from perplexities, those before are not; give both as losses"
            )
        sizes = table["parameters"] if "parameters" in table else np.full(len(table), np.nan)
        bad = table["before"][~(table["before"] > 0)]
        if len(bad):
            raise SoonerError(f"a loss before a cool-down is {bad[0]:g}; give positive numbers, or leave the row out")
        rows = zip(table.run.tolist(), table["before"].tolist(), table["loss"].tolist(), sizes.tolist(), strict=True)
        return [Cooldown(*row) for row in rows], [], []
    if "step" not in table or "lr" not in table:
        raise SoonerError(
            "the gain of a decay is read from curves with their learning rates (say them with --lr KIND:...), or from "
            "a row for each cool-down with the loss before it (--column before=HEADING) and after it (--column "
            "loss=HEADING)"
        )
    known, waiting, told = [], [], []
    for name, run in table.each_run():
        one = _of_curve(name, run.where(np.argsort(run["step"], kind="stable")))
        if isinstance(one, Cooldown):
            known.append(one)
        elif isinstance(one, Waiting):
            waiting.append(one)
        else:
            told.append(one)
    return known, waiting, told


def _of_curve(name: str, run: Table) -> Cooldown | Waiting | str:
    """Return the cool-down of a curve, the curve before it, or why it is neither."""
    step, rate = run["step"], run["lr"]
    peak = float(rate.max())
    size = float(run["parameters"][-1]) if "parameters" in run else np.nan
    if not peak > 0:
        return f"{name} has no learning rate above zero: it is left out"
    high = rate >= FULL * peak
    last = int(np.flatnonzero(high)[-1])
    begun = float(step[last])
    level = run.where(high & (step >= begun * 2 / 3) & (np.arange(len(run)) <= last))
    before = _at_end(level, begun)
    if last == len(run) - 1:
        return Waiting(name, before, size)
    length, end = float(1 - begun / step[-1]), float(rate[-1] / peak)
    if length > LONGEST:
        return f"{name} decays over {length:.0%} of its steps, which is a schedule and no cool-down: it is left out"
    if end > ENDED:
        return (
            f"{name} is in its decay, at {end:.0%} of its learning rate: it is left out; sooner forecast curve "
            "--schedule says how it goes on"
        )
    after = _at_end(run.where(step >= step[-1] - PART * (step[-1] - begun)), float(step[-1]))
    return Cooldown(name, before, after, size, length, end)


def _at_end(rows: Table, step: float) -> float:
    """Return the loss at the last of these rows, by a line through all of them: the median of slopes (Theil-Sen)."""
    if len(rows) < FEWEST:
        return float(rows["loss"][-1])
    rows = rows.evenly(ROWS)
    slope, offset, *_ = stats.theilslopes(np.log(rows["loss"]), rows["step"])
    return float(np.exp(offset + slope * step))


def _doubts(known: list[Cooldown], waiting: list[Waiting], low: float) -> list[str]:
    """Return why to doubt the forecast, what moves it most first."""
    if not known:
        return [
            "no cool-down was given: what one brings is taken from published language models, which says little of "
            "another; one finished run of this family narrows that to a third of the gain"
        ]
    told = []
    if low <= 0:
        told.append("these cool-downs do not say that another one lowers the loss: the interval reaches zero")
    for what, values in (
        ("length, as a share of the run", [one.length for one in known]),
        ("learning rate at the end, as a share of the largest", [one.end for one in known]),
    ):
        least, most = float(np.min(values)), float(np.max(values))
        if np.isfinite(most) and max(most, 0.05) > ALIKE * max(least, 0.05):
            told.append(f"the cool-downs are not of one kind: their {what}, goes from {least:.2g} to {most:.2g}")
    sizes = np.array([one.parameters for one in known])
    for one in waiting:
        if not np.isfinite(sizes).all() or (len(set(sizes.tolist())) < 2 and np.isnan(one.parameters)):
            continue
        if np.isnan(one.parameters):
            told.append(f"the size of {one.run} is not known: its gain is taken as at the sizes measured")
        elif one.parameters > FAR * sizes.max():
            told.append(f"{one.run} is {one.parameters / sizes.max():.0f} times the largest size that was cooled down")
    return told
