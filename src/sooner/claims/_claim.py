"""What a claim is: headline, experiments, criteria fixed before the run, and the rule that makes a verdict of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sooner.claims._measured import Measured as Measured  # for the files of claims, which need one import only

if TYPE_CHECKING:
    from sooner.claims._findings import Findings

Verdict: TypeAlias = Literal["reproduced", "reproduced in part", "not reproduced here", "not testable at this size"]
VERDICTS: tuple[Verdict, ...] = (
    "reproduced",
    "reproduced in part",
    "not reproduced here",
    "not testable at this size",
)

MINIATURE_STEPS = 12
MINIATURE_TASKS = {"charlm_large": "charlm"}
"""Tasks that stand in for slow ones where only the machinery is tested."""


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
    """

    recipes: str
    task: str = "charlm"
    steps: int | None = None
    seeds: int = 8
    tune: int = 5
    series: int = 0
    workers: int = 1

    def miniature(self) -> Race:
        """Return the same race, too short to mean anything."""
        return replace(
            self,
            task=MINIATURE_TASKS.get(self.task, self.task),
            steps=MINIATURE_STEPS,
            seeds=6,
            tune=min(self.tune, 1),
            workers=min(self.workers, 2),
        )


@dataclass(frozen=True)
class Measurement:
    """An experiment that is no race: a function of the claim's file, called once per case in a worker process.

    Args:
        measure: ``measure(**case) -> {name: number, text or list}``, a function of its arguments alone.
        cases: keyword arguments of each call; plain numbers and texts, different from case to case.
        small: the cases of the miniature, seconds in all.
    """

    measure: Callable[..., Mapping[str, Any]]
    cases: Sequence[Mapping[str, Any]]
    small: Sequence[Mapping[str, Any]]

    def miniature(self) -> Measurement:
        """Return the same measurement with its small cases."""
        return replace(self, cases=self.small)


@dataclass(frozen=True)
class Criterion:
    """One sentence that the experiments decide. Give `at_most` or `at_least`.

    Args:
        says: the sentence, with its limit, as it was fixed before the run.
        measured: returns the figure from the findings.
        at_most: met where the figure is at most this.
        at_least: met where the figure is at least this.
        gain: the figure must also differ from no effect: its p-value is at most 5 % and it lies outside of the A/A
            interval of its race. For figures of a race or of paired seeds.
        control: rules out another explanation; it can't make a claim reproduced, only keep it from being so.
        paper: the paper's figure for the same quantity, in words; empty where it gives none.
    """

    says: str
    measured: Callable[[Findings], Measured]
    at_most: float | None = None
    at_least: float | None = None
    gain: bool = False
    control: bool = False
    paper: str = ""

    def outcome(self, findings: Findings) -> Outcome:
        """Return whether the findings meet the criterion."""
        found = self.measured(findings)
        met: bool | None = None
        why = found.undecided
        if not why and math.isnan(found.value):
            why = "the figure is not a number"
        if not why:
            met = (self.at_most is None or found.value <= self.at_most) and (
                self.at_least is None or found.value >= self.at_least
            )
            if met and self.gain and (found.p is None or found.p > ALPHA):
                met = False
            elif met and self.gain and found.floor and _inside(found.value, found.floor):
                met, why = None, "the A/A arm of the race shows as much by chance"
        limits = [limit for limit in (self.at_most, self.at_least) if limit is not None]
        return Outcome(self.says, found, met, why, self.control, self.paper, limits[0] if len(limits) == 1 else None)


ALPHA = 0.05


@dataclass(frozen=True)
class Outcome:
    """What became of a criterion: `met` is None where the experiment can't say, for the reason in `why`.

    `limit` is the criterion's `at_most` or `at_least`, None where it has both.
    """

    says: str
    measured: Measured
    met: bool | None
    why: str
    control: bool
    paper: str
    limit: float | None = None


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
        criteria: what decides, fixed before the run.
        minutes: estimate of the whole on two cores, with nothing to share with other claims.
        trend: figures by size or horizon, label -> figure; printed beside the verdict without deciding it.
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
    trend: Mapping[str, Callable[[Findings], Measured]] = field(default_factory=dict)
    limits: str = ""
    extra: str = ""

    def miniature(self) -> Claim:
        """Return the claim with experiments of seconds, whose verdict means nothing."""
        return replace(self, experiments={name: one.miniature() for name, one in self.experiments.items()})

    def on_series(self, series: int) -> Claim:
        """Return the claim with its races on other seeds; measurements name their seeds and stay."""
        moved = {n: replace(e, series=series) if isinstance(e, Race) else e for n, e in self.experiments.items()}
        return replace(self, experiments=moved)


def conclude(outcomes: Sequence[Outcome]) -> Verdict:
    """Return the verdict: controls can take "reproduced" away, but not give it."""
    claims = [o for o in outcomes if not o.control]
    if all(o.met is None for o in claims):
        return "not testable at this size"
    if not any(o.met for o in claims):
        return "not reproduced here"
    return "reproduced" if all(o.met for o in outcomes) else "reproduced in part"


def _inside(value: float, floor: tuple[float, float]) -> bool:
    return min(1.0, floor[0]) <= value <= max(1.0, floor[1])
