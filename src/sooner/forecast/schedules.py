"""Learning-rate schedules in words, such as cosine:peak=3e-4,warmup=2000,total=24000,end=3e-5, and their rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sooner.error import SoonerError, nearest
from sooner.forecast.numbers import number as number_of
from sooner.forecast.table import FloatArray, Table

FULL = 0.999
"""From this share of its largest value on, a learning rate has risen."""
MOST_STEPS = 20_000_000
"""Laws of curves count every step of a run; longer ones than this are nobody's, and would not fit in memory."""
LEAST = 8
"""A run keeps its warm-up where fewer rows than these would remain."""

Shape = Callable[[FloatArray], FloatArray]

SHAPES: dict[str, Shape] = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: 0.5 * (1 + np.cos(np.pi * x)),
    "sqrt": lambda x: 1 - np.sqrt(x),
    "exponential": lambda x: 1 - x,  # of the logarithm, see `Schedule.lr`
}
"""How a decay goes from 1 to 0 over its span, x from 0 to 1."""

KINDS: dict[str, tuple[str, ...]] = {
    "constant": ("peak", "warmup", "total"),
    "cosine": ("peak", "warmup", "total", "end", "decay"),
    "linear": ("peak", "warmup", "total", "end"),
    "exponential": ("peak", "warmup", "total", "end"),
    "wsd": ("peak", "warmup", "total", "end", "decay", "shape"),
    "step": ("peak", "warmup", "total", "at", "end"),
    "drops": ("peak", "warmup", "total", "drops", "factor"),
    "inverse_sqrt": ("peak", "warmup", "total"),
}
"""What each kind takes.

wsd: constant, then a decay over the last `decay` (steps, or a share below 1) in `shape`. step: `end` from step `at`.
drops: times `factor` at each step of `drops`, as in drops=1000/2000. cosine with a decay: down to `end` before the last
`decay` steps, over which it falls to zero. A file of steps and rates is a schedule too (`of_knots`).
"""

_HELP = "write, for example, cosine:peak=3e-4,warmup=2000,total=24000,end=3e-5"


@dataclass(frozen=True)
class Schedule:
    """A schedule over steps 0 to total.

    Args:
        kind: one of `KINDS`.
        peak: largest learning rate.
        total: steps.
        warmup: steps of linear rise from 0.
        end: learning rate at the end.
        decay: steps of decay at the end (wsd).
        at: the step of the drop (step).
        shape: of the decay (wsd).
        drops: steps at which the rate falls (drops).
        factor: by which it is multiplied there.
        knots: steps and rates between which the rate is interpolated (of a file).
    """

    kind: str
    peak: float
    total: float
    warmup: float = 0.0
    end: float = 0.0
    decay: float = 0.0
    at: float = 0.0
    shape: str = "linear"
    drops: tuple[float, ...] = ()
    factor: float = 0.1
    knots: tuple[tuple[float, float], ...] = ()

    def lr(self, steps: FloatArray) -> FloatArray:
        """Return (n,) learning rates at (n,) steps; beyond the total, the last one stays."""
        steps = np.clip(np.asarray(steps, dtype=np.float64), 0.0, self.total)
        if self.knots:
            at, rates = np.array(self.knots).T
            made: FloatArray = np.interp(steps, at, rates)
            return made
        rise = np.minimum(1.0, steps / max(self.warmup, 1e-9)) if self.warmup > 0 else np.ones_like(steps)
        return self.peak * rise if self.kind == "constant" else np.where(rise < 1, self.peak * rise, self._after(steps))

    def _after(self, steps: FloatArray) -> FloatArray:
        if self.kind == "step":
            return np.where(steps < self.at, self.peak, self.end)
        if self.kind == "drops":
            passed = (steps[:, None] >= np.array(self.drops)).sum(axis=1)
            dropped: FloatArray = self.peak * self.factor**passed
            return dropped
        if self.kind == "cosine" and self.decay > 0:
            first = self.total - self.decay
            x = np.clip((steps - self.warmup) / max(first - self.warmup, 1e-12), 0.0, 1.0)
            down = np.clip((self.total - steps) / self.decay, 0.0, 1.0)
            return (self.end + (self.peak - self.end) * SHAPES["cosine"](x)) * down
        if self.kind == "inverse_sqrt":
            start = max(self.warmup, 1.0)
            return self.peak * np.sqrt(start / np.maximum(steps, start))
        span = self.decay if self.kind == "wsd" else self.total - self.warmup
        shape = self.shape if self.kind == "wsd" else self.kind
        x = np.clip(1 - (self.total - steps) / max(span, 1e-12), 0.0, 1.0)
        if shape == "exponential":
            return self.peak * (max(self.end, 1e-12 * self.peak) / self.peak) ** x
        return self.end + (self.peak - self.end) * SHAPES[shape](x)

    def __str__(self) -> str:
        if self.knots:
            return f"{self.kind}, {len(self.knots)} steps to {self.total:g}"
        return f"{self.kind}:{','.join(f'{key}={value}' for key, value in self._given())}"

    def _given(self) -> list[tuple[str, str]]:
        known = [(key, getattr(self, key)) for key in KINDS[self.kind]]
        return [(key, _text(value)) for key, value in known if value not in (0.0, "", ())]


def _text(value: float | str | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return "/".join(format(one, ".6g") for one in value)
    return value if isinstance(value, str) else format(value, ".6g")


def of_knots(steps: FloatArray, rates: FloatArray, name: str) -> Schedule:
    """Return the schedule through these steps and rates, straight between them.

    Args:
        steps: (n,) in any order, zero or more.
        rates: (n,) zero or more.
        name: to call it by.

    Raises:
        SoonerError: fewer than two steps, a step twice, or a number that can't be.
    """
    if len(steps) < 2:
        raise SoonerError(f"{name} has {len(steps)} steps with a learning rate; a schedule needs two or more")
    order = np.argsort(steps, kind="stable")
    steps, rates = steps[order], rates[order]
    bad = ~np.isfinite(steps) | ~np.isfinite(rates) | (steps < 0) | (rates < 0)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise SoonerError(
            f"{name} says learning rate {rates[row]:g} at step {steps[row]:g}; give zero or more for both"
        )
    if (np.diff(steps) == 0).any():
        double = steps[:-1][np.diff(steps) == 0][0]
        raise SoonerError(f"{name} has step {double:g} twice; keep one of its learning rates")
    if not rates.max() > 0:
        raise SoonerError(f"{name} has no learning rate above zero; is it the right column?")
    knots = tuple(zip(steps.tolist(), rates.tolist(), strict=True))
    return Schedule(name, float(rates.max()), float(steps[-1]), knots=knots)


def parse(text: str, *, total: float | None = None, peak: float | None = None) -> Schedule:
    """Return the schedule that a text means.

    Args:
        text: KIND:NAME=VALUE,...; kinds and names as in `KINDS`.
        total: steps, where the text does not say.
        peak: largest learning rate, where the text does not say.

    Raises:
        SoonerError: unknown kind or name, a value that is no number, or a schedule that can't be.
    """
    kind, _, rest = text.strip().partition(":")
    kind = kind.strip().lower()
    if kind not in KINDS:
        raise SoonerError(f"the schedule {text!r} has an unknown kind{nearest(kind, KINDS)}; {_HELP}")
    values: dict[str, float | str | tuple[float, ...]] = {}
    for piece in filter(None, (piece.strip() for piece in rest.split(","))):
        name, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or name not in KINDS[kind]:
            known = ", ".join(KINDS[kind])
            raise SoonerError(
                f"in the schedule {text!r}, {piece!r} is not one of {known}{nearest(name, KINDS[kind])}; {_HELP}"
            )
        if name in values:
            raise SoonerError(f"the schedule {text!r} says {name} twice; say it once")
        if name == "drops":
            values[name] = tuple(sorted(_number(text, name, one) for one in value.split("/")))
        else:
            values[name] = _shape(text, value) if name == "shape" else _number(text, name, value)
    values.setdefault("total", total if total is not None else np.nan)
    values.setdefault("peak", peak if peak is not None else np.nan)
    return _checked(text, kind, values)


def _shape(text: str, value: str) -> str:
    if value not in SHAPES:
        known = ", ".join(SHAPES)
        raise SoonerError(f"in the schedule {text!r}, {value!r} is no shape{nearest(value, SHAPES)}; use {known}")
    return value


def _number(text: str, name: str, value: str) -> float:
    try:
        number = number_of(value, False)
    except ValueError:
        raise SoonerError(f"in the schedule {text!r}, {name} is {value!r}, which is not a number; {_HELP}") from None
    if not np.isfinite(number) or number < 0:
        raise SoonerError(f"in the schedule {text!r}, {name} is {value}; it must be zero or more, and finite")
    return number


def _checked(text: str, kind: str, values: Mapping[str, float | str | tuple[float, ...]]) -> Schedule:
    made: dict[str, Any] = dict(values)
    for name in ("peak", "total"):
        if not made[name] > 0:
            raise SoonerError(f"the schedule {text!r} does not say {name}; {_HELP}")
    peak, total = made["peak"], made["total"]
    if kind == "wsd" or (kind == "cosine" and "decay" in made):
        decay = made.get("decay", 0.2)
        made["decay"] = decay * total if decay <= 1 else decay
    if kind == "drops" and not made.get("drops"):
        raise SoonerError(f"the schedule {text!r} does not say at which steps the rate drops; add drops=1000/2000")
    if kind == "drops" and (made["drops"][-1] > total or not 0 < made.get("factor", 0.1) < 1):
        raise SoonerError(
            f"in the schedule {text!r}, drops lie within the total of {total:g} steps and factor between 0 and 1"
        )
    if kind == "cosine" and "decay" in made and made.get("warmup", 0.0) + made.get("decay", 0.0) > total:
        raise SoonerError(f"in the schedule {text!r}, warmup and decay leave no step between them; shorten one")
    if kind == "step" and "at" not in made:
        raise SoonerError(f"the schedule {text!r} does not say at which step the rate drops; add at=STEP")
    for name in ("warmup", "decay", "at"):
        if made.get(name, 0.0) > total:
            raise SoonerError(
                f"in the schedule {text!r}, {name} is longer than the total of {total:g} steps; shorten it"
            )
    if kind not in ("inverse_sqrt", "constant") and made.get("end", 0.0) > peak:
        raise SoonerError(f"in the schedule {text!r}, end is above peak; swap them")
    return Schedule(kind, **made)


def warmed(table: Table) -> npt.NDArray[np.bool_]:
    """Return (n,) which rows are at or after their run's first full learning rate: no law of curves holds before.

    A run that has not reached its end of the warm-up yet, or never had one, counts as a whole.
    """
    kept = np.ones(len(table), dtype=np.bool_)
    for name in table.runs:
        rows = np.flatnonzero(table.run == name)
        rates = table["lr"][rows]
        first = int(np.argmax(rates >= FULL * rates.max()))
        if len(rows) - first >= LEAST:
            kept[rows[:first]] = False
    return kept


def after_warmup(table: Table) -> Table:
    """Return the rows of every run from its first full learning rate on, with a note where others were left out."""
    kept = warmed(table)
    if kept.all():
        return table
    return table.where(kept).with_notes(f"{int((~kept).sum())} rows of warm-ups were left out")


def dense(table: Table) -> tuple[FloatArray, FloatArray]:
    """Return the learning rate at every step from 0 to the last of a run, and the steps of its rows.

    Between the rows it is interpolated; before the first row it rises linearly, as in a warm-up that was not logged,
    unless the first row is among the first steps.

    Raises:
        SoonerError: a step is too large to count to.
    """
    steps, rates = table["step"], table["lr"]
    if steps.max() > MOST_STEPS:
        raise SoonerError(
            f"step {steps.max():g} is beyond {MOST_STEPS:,}, the last that laws of curves count to; count in thousands "
            "of steps, in the files too"
        )
    order = np.argsort(steps, kind="stable")
    steps, rates = steps[order], rates[order]
    gap = steps[1] - steps[0] if len(steps) > 1 else 1.0
    if steps[0] > 2 * max(gap, 1.0) or steps[0] > 100:
        known = np.concatenate([[0.0, max(steps[0] - gap, 1.0)], steps])
        rate = np.concatenate([[0.0, rates[0]], rates])
    else:
        known, rate = np.concatenate([[0.0], steps]), np.concatenate([rates[:1], rates])
    every = np.arange(round(steps[-1]) + 1, dtype=np.float64)
    return np.interp(every, known, rate), table["step"]
