"""A forecast while training runs: "final loss 2.71 ± 0.02, target at step 41k"."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.curve import Curve, forecast_curve
from sooner.forecast.fitted import LEVEL
from sooner.forecast.laws.annealing import Annealing
from sooner.forecast.schedule_file import schedule_of
from sooner.forecast.schedules import Schedule
from sooner.forecast.table import Table, join, table

_POINTS = 200
_LEAST = 12


class Live:
    """Collects a run's losses and forecasts its end; call it from any training loop.

        live = Live(total=10_000, schedule="cosine:peak=3e-4,warmup=500", target=3.0)
        for step in range(10_000):
            ...
            live(step, loss.item(), lr=scheduler.get_last_lr()[0])

    Args:
        total: steps of the run.
        schedule: its learning rates; left out, those passed with the losses hold, and the last one stays.
        target: a loss whose step is forecast.
        every: steps between two forecasts; a tenth of the run by default.
        history: finished curves (step, lr, loss) that are fitted along: before its own decay a run can't say what a
            decay brings.
        show: what is done with the sentence; printed by default.
        draws: refits for the band.

    Raises:
        SoonerError: fewer than two steps, or a schedule that can't be parsed.
    """

    def __init__(
        self,
        total: int,
        *,
        schedule: str | Schedule | None = None,
        target: float | None = None,
        every: int | None = None,
        history: Table | None = None,
        show: Callable[[str], None] | None = print,
        draws: int = 100,
    ) -> None:
        if total < 2:
            raise SoonerError(f"the run has {total} steps; a forecast needs two or more")
        self.total = total
        self.schedule = schedule_of(schedule, total=total) if isinstance(schedule, str) else schedule
        self.target = target
        self.every = every or max(total // 10, 1)
        self.history = history
        self.show = show
        self.draws = draws
        self._rows: list[tuple[float, float, float]] = []
        self._next = self.every
        self.curve: Curve | None = None
        """The latest forecast."""

    def __call__(self, step: int, loss: float, lr: float | None = None) -> None:
        """Take the loss of a step, and show a forecast when one is due. Losses that are not finite are left out."""
        if np.isfinite(loss) and loss > 0 and step > 0:
            self._rows.append((float(step), float(loss), np.nan if lr is None else float(lr)))
        if step >= self._next:
            while self._next <= step:
                self._next += self.every
            if step < self.total and len(self._rows) >= _LEAST:
                self.curve = self.forecast()
                if self.show is not None:
                    self.show(self.sentence())

    def forecast(self, level: float = LEVEL) -> Curve:
        """Forecast the rest of the run from what was taken so far.

        Raises:
            SoonerError: fewer than 12 losses so far.
        """
        if len(self._rows) < _LEAST:
            raise SoonerError(f"there are {len(self._rows)} losses so far; a forecast needs {_LEAST} or more")
        own = self._smooth()
        rows = own if self.history is None else join([self.history, own])
        law = Annealing() if "lr" in rows else None  # the fast one of the laws in the learning rate
        return forecast_curve(rows, schedule=self.schedule, total=self.total, law=law, level=level, draws=self.draws)

    def sentence(self) -> str:
        """Return the latest forecast as a sentence.

        Raises:
            SoonerError: there is none yet.
        """
        if self.curve is None:
            raise SoonerError("there is no forecast yet; it comes after the first tenth of the run, or call forecast()")
        value, low, high = self.curve.final
        told = f"step {self._rows[-1][0]:g}: final loss {value:.4g} ± {(high - low) / 2:.2g}"
        if self.target is not None:
            best = min(loss for _, loss, _ in self._rows)
            reached = self.curve.step_to(self.target)
            if best <= self.target:
                told += f", target {self.target:g} was reached"
            else:
                told += (
                    f", target {self.target:g} at step {reached:g}" if reached else f", target {self.target:g} missed"
                )
        return told

    def _smooth(self) -> Table:
        """Return the run in at most 200 rows, each the mean of neighbouring losses."""
        rows = np.array(self._rows)
        pieces = np.array_split(rows, min(_POINTS, max(len(rows) // 3, _LEAST)))
        step, loss, lr = np.array([piece.mean(axis=0) for piece in pieces]).T
        if self.schedule is not None:
            lr = self.schedule.lr(step)
        named = {"step": step, "loss": loss}
        return table("this run", **named) if np.isnan(lr).any() else table("this run", **named, lr=lr)
