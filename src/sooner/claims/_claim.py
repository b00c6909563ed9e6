"""What a claim is: headline, experiments, regime, and criteria that are fixed before the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sooner.claims._measured import Measured as Measured  # for the files of claims, which need one import only
from sooner.claims._power import unseen, visible

if TYPE_CHECKING:
    from sooner.claims._findings import Findings

MINIATURE_STEPS = 12


@dataclass(frozen=True)
class Race:
    """An experiment by the race rules: recipes against the first of them, tuned alike, on paired seeds.

    Args:
        recipes: recipes separated by semicolons, the baseline first, as `sooner race` reads them.
        task: a task of `claims/tasks`, or a bundled workload.
        steps: budget of one run in optimizer steps, None for the task's own.
        seeds: racing seeds, 6 or more.
        tune: tuning trials per contender besides its default.
        series: another number is the same race on other seeds.
        workers: of a simulated cluster in which every run trains; 1 for none.
        size: of the model, about how many times the parameters of the task's own; for tasks whose ``model`` takes it.
    """

    recipes: str
    task: str = "charlm"
    steps: int | None = None
    seeds: int = 8
    tune: int = 5
    series: int = 0
    workers: int = 1
    size: float = 1

    def set_up(self) -> tuple[Any, ...]:
        """Return what another race has to agree in for a control of the one to speak of the other."""
        return self.task, self.size, self.steps, self.workers

    def miniature(self) -> Race:
        """Return the same race, too short to mean anything."""
        return replace(
            self,
            steps=MINIATURE_STEPS,
            seeds=6,
            tune=min(self.tune, 1),
            workers=min(self.workers, 2),
            size=1,
        )


@dataclass(frozen=True)
class Measurement:
    """An experiment that is no race: a function of the claim's file, called once per case in a worker process.

    Args:
        measure: ``measure(**case) -> {name: number, text or list}``, a function of its arguments alone.
        cases: keyword arguments of each call; plain numbers and texts, different from case to case.
        small: the cases of the miniature, seconds in all.
        timed: whether its values depend on the clock, which no fingerprint speaks of: any edit makes them old.
    """

    measure: Callable[..., Mapping[str, Any]]
    cases: Sequence[Mapping[str, Any]]
    small: Sequence[Mapping[str, Any]]
    timed: bool = False

    def miniature(self) -> Measurement:
        """Return the same measurement with its small cases."""
        return replace(self, cases=self.small)


@dataclass(frozen=True)
class Criterion:
    """One sentence that the experiments decide. Give `at_most` or `at_least`.

    A criterion is missed only where the experiment could have met it: its whole interval lies beyond the limit, or an
    effect of the size it asks for would have been seen. Otherwise the experiment can't say.

    Args:
        says: the sentence, with its limit, as it was fixed before the run.
        measured: returns the figure from the findings.
        at_most: met where the figure is at most this.
        at_least: met where the figure is at least this.
        gain: the figure must also differ from no effect: its p-value is at most 5 %. For figures of a race or of paired
            seeds.
        control: rules out another explanation; it can't make a claim reproduced, only keep it from being so.
        positive: a positive control: it holds wherever the set-up shows effects of the size that the claim speaks of.
            It decides nothing itself, unless it is a control too, but without one that is met nothing counts as missed.
        covers: for a positive control, experiments that it speaks of beside the one that it takes its figure from and
            the races of the same set-up.
        effect: the size of effect that the paper reports, where the limit does not say it (a limit of 1).
        paper: the paper's figure for the same quantity, in words; empty where it gives none.
    """

    says: str
    measured: Callable[[Findings], Measured]
    at_most: float | None = None
    at_least: float | None = None
    gain: bool = False
    control: bool = False
    positive: bool = False
    covers: Sequence[str] = ()
    effect: float | None = None
    paper: str = ""

    def outcome(self, findings: Findings) -> Outcome:
        """Return whether the findings meet the criterion."""
        found, experiments = findings.watch(self.measured)
        met: bool | None = None
        why, takes = found.undecided, ""
        if not why and math.isnan(found.value):
            why = "the figure is not a number"
        if not why:
            met = self._within(found.value) and (not self.gain or (found.p is not None and found.p <= ALPHA))
            if not met and not self.control and not self._could_be_met(found):
                met, (why, takes) = None, unseen(found, self._asked())
        limits = [limit for limit in (self.at_most, self.at_least) if limit is not None]
        return Outcome(
            self.says,
            found,
            met,
            why,
            self.control,
            self.paper,
            limits[0] if len(limits) == 1 else None,
            self.positive,
            experiments,
            takes,
        )

    def _within(self, value: float) -> bool:
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    def _asked(self) -> float | None:
        """Return the size of effect that has to be visible; None where limit and paper name none."""
        return self.effect if self.effect is not None else self.at_most if self.at_least is None else self.at_least

    def _could_be_met(self, found: Measured) -> bool:
        """Say whether a miss means something: the interval excludes the limit, or the asked effect was visible."""
        if found.low is None or found.high is None:
            return not (self.gain and found.p is not None and self._within(found.value))
        too_high = self.at_most is not None and found.low > self.at_most
        too_low = self.at_least is not None and found.high < self.at_least
        return too_high or too_low or (self.gain and visible(found, self._asked()))


@dataclass(frozen=True)
class Known:
    """A positive control that the lab has: a known truth that it has shown on the workload of the claim.

    Args:
        truth: its name in `sooner lab`.
        workload: where it has to be shown.
        covers: experiments of the claim that have the workload's set-up, beside the races on it.
    """

    truth: str
    workload: str
    covers: Sequence[str] = ()


@dataclass(frozen=True)
class Regime:
    """Under which conditions the paper has its effect, and which of them the experiment has.

    Steps per parameter are not said here: evidence takes them from the races themselves.

    Args:
        paper: the paper's: models, data, length, optimizer and schedule.
        optimizer: inner optimizer, or what stands for it.
        schedule: of the learning rate.
        noise: where the gradients' noise comes from and how large it is: batches, labels, data.
        start: from which weights training starts.
        why: why the experiment's regime is the paper's, or what it lacks of it.
    """

    paper: str
    optimizer: str
    schedule: str
    noise: str
    why: str
    start: str = "random weights"


ALPHA = 0.05


@dataclass(frozen=True)
class Outcome:
    """What became of a criterion: `met` is None where the experiment can't say, for the reason in `why`.

    `limit` is the criterion's `at_most` or `at_least`, None where it has both. `experiments` are those that the figure
    is taken from and, of a positive control, those that it speaks of; `takes` says what an answer would take.
    """

    says: str
    measured: Measured
    met: bool | None
    why: str
    control: bool
    paper: str
    limit: float | None = None
    positive: bool = False
    experiments: tuple[str, ...] = ()
    takes: str = ""

    @property
    def role(self) -> str:
        """What goes before the sentence: "control: ", "positive control: ", or nothing."""
        return "positive control: " if self.positive else "control: " if self.control else ""


@dataclass(frozen=True)
class Claim:
    """A paper's headline and the smallest honest experiment on it.

    Args:
        part: the part it speaks of; the file has the same name.
        paper: id of the catalogue row, empty for a textbook method.
        headline: the claim in one sentence, with the paper's figure.
        source: where the headline stands, such as "Jordan et al., 2024, blog post".
        experiment: what is done, in a few sentences.
        baseline: what it is compared with, and how that is tuned.
        experiments: by name; races and measurements.
        criteria: what decides, fixed before the run; the positive controls among them.
        minutes: estimate of the whole on two cores, with nothing to share with other claims.
        regime: where the paper's effect lives, and whether the experiment lives there.
        known: positive controls that the lab has shown.
        trend: figures by size or horizon, label -> figure; printed beside the verdict without deciding it.
        changes: how the effect changes with size or length, label -> figure; part of the verdict's sentence.
        limits: what the experiment does not show, in a sentence or two.
        extra: an optional package that it needs, by import name; empty for none.
    """

    part: str
    paper: str
    headline: str
    source: str
    experiment: str
    baseline: str
    experiments: Mapping[str, Race | Measurement]
    criteria: Sequence[Criterion]
    minutes: float
    regime: Regime
    known: Sequence[Known] = ()
    trend: Mapping[str, Callable[[Findings], Measured]] = field(default_factory=dict)
    changes: Mapping[str, Callable[[Findings], Measured]] = field(default_factory=dict)
    limits: str = ""
    extra: str = ""

    def miniature(self) -> Claim:
        """Return the claim with experiments of seconds, whose verdict means nothing."""
        return replace(self, experiments={name: one.miniature() for name, one in self.experiments.items()})

    def on_series(self, series: int) -> Claim:
        """Return the claim with its races on other seeds; measurements name their seeds and stay."""
        moved = {n: replace(e, series=series) if isinstance(e, Race) else e for n, e in self.experiments.items()}
        return replace(self, experiments=moved)
