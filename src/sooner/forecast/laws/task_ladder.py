"""Accuracy of a large model from small ones, in two steps: size and tokens to task loss, task loss to accuracy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fitted import LEVEL, Fit, Prediction
from sooner.forecast.law import Law
from sooner.forecast.laws.chinchilla import Chinchilla
from sooner.forecast.laws.loss_to_accuracy import LossToAccuracy
from sooner.forecast.table import FloatArray, Table, join


@dataclass(frozen=True)
class TaskLadder:
    """Two laws in a chain: `first` predicts the loss that `second` reads.

    Bhagia et al., 2024, arXiv 2412.04403 with the defaults; Gadre et al., 2024, arXiv 2403.08540 with
    TaskLadder(Overtraining(), LossToError(), average=1, skip=0.0).

    Args:
        first: a law of the loss; its target becomes the second's loss.
        second: a law that needs nothing but the loss.
        average: checkpoints of a run over which losses and accuracies are averaged.
        skip: share of a run's checkpoints, its first, that the second step leaves out.

    Raises:
        SoonerError: the second law needs other columns than the loss, or a number is out of range.
    """

    first: Law = field(default_factory=Chinchilla)
    second: Law = field(default_factory=LossToAccuracy)
    average: int = 5
    skip: float = 0.1

    def __post_init__(self) -> None:
        if self.second.needs != ("loss",) or self.first.target != "loss":
            raise SoonerError(
                f"a ladder is a law of the loss and one from the loss; {self.first.name} predicts {self.first.target}, "
                f"and {self.second.name} needs {', '.join(self.second.needs)}"
            )
        if self.average < 1 or not 0 <= self.skip < 1:
            raise SoonerError(f"average is {self.average} and skip {self.skip:g}; give 1 or more, and 0 to less than 1")

    def fit(self, table: Table, outcomes: Table | None = None, *, draws: int = 200, seed: int = 0) -> FittedLadder:
        """Fit both steps.

        Args:
            table: rows of a run in the order of training; loss (of the task), what `first` needs, and the target of
                `second` unless `outcomes` has it.
            outcomes: rows for the second step, if they differ, such as runs of another size.
            draws: refits of each step.
            seed: of the resampling.

        Raises:
            SoonerError: a column is missing, or there are too few rows.
        """
        final = join([_final(run.require(*self.first.needs, "loss"), self.average) for _, run in table.each_run()])
        source = (table if outcomes is None else outcomes).require("loss", self.second.target)
        smooth = join([self._smooth(run) for _, run in source.each_run()])
        return FittedLadder(
            self.first.fit(final, draws=draws, seed=seed), self.second.fit(smooth, draws=draws, seed=seed + 1)
        )

    def _smooth(self, run: Table) -> Table:
        first = min(int(np.ceil(self.skip * len(run))), len(run) - 1)
        kept = run.where(np.arange(first, len(run)))
        columns = {name: _moving_average(kept[name], self.average) for name in ("loss", self.second.target)}
        return Table(columns, kept.run, kept.notes)


@dataclass(frozen=True)
class FittedLadder:
    """Both steps, fitted.

    Args:
        first: size and tokens to loss.
        second: loss to accuracy, or to error.
    """

    first: Fit
    second: Fit

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to doubt about both steps."""
        return tuple(dict.fromkeys((*self.first.warnings, *self.second.warnings)))

    def at(self, table: Table) -> FloatArray:
        """Return (n,) predictions of the best fits, without a band."""
        made: FloatArray = self.second.law.predict(self.second.values[None], self.first.at(table)[None])[0]
        return made

    def predict(self, table: Table, level: float = LEVEL) -> Prediction:
        """Return predictions with a band: each draw of the first step goes through one of the second, with both noises.

        Args:
            table: n rows with the columns that the first law needs.
            level: share of future runs that the band is meant to cover.

        Raises:
            SoonerError: a column is missing.
        """
        losses = self.first.sample(table)
        made = self.second.law.predict(self.second.draws, losses)
        random = np.random.default_rng(self.second.seed + 2)
        _, which = np.unique(table.run, return_inverse=True)
        shock = random.standard_normal((len(made), which.max(initial=-1) + 1))[:, which] * self.second.noise[:, None]
        made = made * np.exp(shock) if self.second.law.link == "log" else made + shock
        low, high = np.nanquantile(made, [(1 - level) / 2, (1 + level) / 2], axis=0)
        value = self.at(table)
        doubts = (*self.first.predict(table, level).warnings, *self.warnings)
        return Prediction(value, np.minimum(low, value), np.maximum(high, value), level, tuple(dict.fromkeys(doubts)))


def _final(run: Table, average: int) -> Table:
    """Return the last row of a run, its loss averaged over the last checkpoints."""
    return run.where(np.array([len(run) - 1])).plus(loss=run["loss"][-average:].mean())


def _moving_average(values: FloatArray, width: int) -> FloatArray:
    """Return (n,) averages over a value and the ones before it, `width` at most; the first windows are shorter."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(total))
    begins = np.maximum(ends - width, 0)
    made: FloatArray = (total[ends] - total[begins]) / (ends - begins)
    return made
