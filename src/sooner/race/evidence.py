"""What the finished runs of a race say: curves, final values, steps to target and verdicts, read from the journal.

Nothing here runs a model. Values are lower-is-better throughout; a run that diverged or failed has None where a finite
value is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sooner.race import statistics
from sooner.race.entrant import Entrant
from sooner.race.journal import View
from sooner.race.planned import Planned
from sooner.race.pool import Cell
from sooner.race.statistics import RatioSummary
from sooner.race.targets import Targets, confirmed_crossing, horizon_to_target
from sooner.race.tuning import Score
from sooner.race.verdict import Word, judge
from sooner.space import Settings, Side

TARGETS = ("loose", "middle", "tight")
PRIMARY = "middle"
"""Verdicts rest on this target; it was chosen before any race."""


class Judgement(NamedTuple):
    """A verdict, the sentence that explains it, and the p-value after Holm that it rests on."""

    word: Word
    sentence: str
    p_holm: float


@dataclass
class Contender:
    """One recipe during the race: its tuning trials, what came of them, and how many racing seeds it has run.

    `failure` is why a trial failed, if one did; `judgement` is set once a look has settled the contender.
    """

    recipe: Entrant
    trials: list[Settings] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    diverged: list[int | None] = field(default_factory=list)
    edge: dict[str, Side] = field(default_factory=dict)
    widened: bool = False
    failure: str | None = None
    settings: Settings | None = None
    why_out: str | None = None
    seeds: int = 0
    judgement: Judgement | None = None

    @property
    def tuned(self) -> Entrant:
        """The recipe with the settings that tuning chose (its defaults before tuning)."""
        return self.recipe.with_settings(self.settings or {})


@dataclass
class Curve:
    """The evaluations of one run; `values` are lower-is-better and None where not finite."""

    seed: int
    steps: list[int]
    values: list[float | None]
    diverged_at: int | None


class Evidence:
    """The runs of one race.

    Args:
        plan: the race.
        journal: its journal.
        contenders: the baseline first.
    """

    def __init__(self, plan: Planned, journal: View, contenders: Sequence[Contender]) -> None:
        self.plan, self.journal, self.contenders = plan, journal, contenders
        self.baseline = contenders[0]
        self.sign = -1.0 if plan.task.higher_is_better else 1.0
        self.targets: Targets = dict.fromkeys(TARGETS)

    def cells(self, contender: Contender, purpose: str, number: int) -> list[Cell]:
        """Return the runs that a contender needs on seed number `number` of "target", "racing" or "a/a"."""
        assert contender.settings is not None
        return self.plan.runs(contender.recipe, contender.settings, self.plan.seeds(purpose)[number])

    def curve(self, contender: Contender, purpose: str, number: int, horizon: int | None = None) -> Curve:
        """Return one run up to `horizon` (default: the budget)."""
        horizon = horizon or self.plan.budget
        cells = self.cells(contender, purpose, number)
        cell = next((c for c in cells if c.weight == horizon), cells[-1])
        seed = self.plan.seeds(purpose)[number]
        data = self.journal.find("cell", cell.key)
        if data is None:
            return Curve(seed, [0], [None], None)
        kept = [(s, self._oriented(v)) for s, v in zip(data["steps"], data["values"], strict=True) if s <= horizon]
        diverged = data["diverged_at"]
        return Curve(
            seed,
            [s for s, _ in kept],
            [v for _, v in kept],
            diverged if diverged is not None and diverged <= horizon else None,
        )

    def final(self, contender: Contender, purpose: str, number: int, horizon: int | None = None) -> float | None:
        """Return the value at the end of a run of `horizon` steps (default: the budget)."""
        horizon = horizon or self.plan.budget
        curve = self.curve(contender, purpose, number, horizon)
        return curve.values[-1] if curve.diverged_at is None and curve.steps[-1] == horizon else None

    def steps_to(self, contender: Contender, purpose: str, number: int, target: float | None) -> float | None:
        """Return the steps one run needs to reach the target; None for a miss or where there is no target."""
        if target is None:
            return None
        if self.plan.regime == "anytime":
            curve = self.curve(contender, purpose, number)
            return confirmed_crossing(curve.steps, curve.values, target)
        finals = [self.final(contender, purpose, number, horizon) for horizon in self.plan.horizons]
        return horizon_to_target(self.plan.horizons, finals, target)[0]

    def ratio(self, contender: Contender, name: str, purpose: str = "racing") -> RatioSummary:
        """Return how a contender's steps to the target `name` compare with the baseline's on the seeds it has run."""
        ours, theirs = self._steps(contender, name, purpose)
        return statistics.ratio_summary(ours, theirs, 1 - self.plan.alpha, self.plan.every_seed)

    def noise_floor(self) -> RatioSummary:
        """Return the A/A arm: the baseline on other seeds against the baseline."""
        return self.ratio(self.baseline, PRIMARY, "a/a")

    def raced(self) -> list[Contender]:
        """Return the contenders that compete with the baseline, without those that are out."""
        return [c for c in self.contenders if c is not self.baseline and c.seeds]

    def smallest_effect(self, contender: Contender, purpose: str = "racing") -> float | None:
        """Return the ratio of steps that this race would have found with 80 % power."""
        spread = statistics.spread(statistics.paired_log_ratios(*self._steps(contender, PRIMARY, purpose)))
        return statistics.smallest_effect(spread, contender.seeds, self._least_level(), self.plan.every_seed)

    def final_values(self, contender: Contender) -> tuple[list[float | None], list[float | None]]:
        """Return the values at the end of the budget of a contender and of the baseline on the seeds it has run."""
        seeds = range(contender.seeds)
        ours = [self.final(contender, "racing", i) for i in seeds]
        return ours, [self.final(self.baseline, "racing", i) for i in seeds]

    def smallest_difference(self, contender: Contender) -> float | None:
        """Return the difference of the final value that this race would have found with 80 % power."""
        spread = statistics.spread(statistics.paired_differences(*self.final_values(contender)))
        return statistics.smallest_difference(spread, contender.seeds, self._least_level(), self.plan.every_seed)

    def settled(self, contender: Contender) -> Judgement | None:
        """Return the judgement of a look that settles a contender, None where it needs more seeds."""
        rivals = self.raced()
        if statistics.holm([self._chance(c) for c in rivals])[rivals.index(contender)] > self.plan.alpha:
            return None
        judgement = self.judgement(contender)
        return judgement if judgement.word in ("faster", "slower") else None

    def _chance(self, contender: Contender) -> float:
        """Return the p-value at the primary target, without the interval, which takes longer."""
        differences = statistics.paired_log_ratios(*self._steps(contender, PRIMARY))
        return (statistics.betting_p if self.plan.every_seed else statistics.sign_flip)(differences)

    def _steps(
        self, contender: Contender, name: str, purpose: str = "racing"
    ) -> tuple[list[float | None], list[float | None]]:
        """Return the steps to a target of a contender and of the baseline on the seeds it has run."""
        seeds = range(contender.seeds)
        ours = [self.steps_to(contender, purpose, i, self.targets[name]) for i in seeds]
        return ours, [self.steps_to(self.baseline, "racing", i, self.targets[name]) for i in seeds]

    def _least_level(self) -> float:
        """Return the level that a single contender must meet to be told apart, whatever the others show."""
        return self.plan.alpha / max(1, len(self.raced()))

    def judgement(self, contender: Contender) -> Judgement:
        """Return the verdict on a contender that has raced: the one of an earlier look if that settled it."""
        if contender.judgement:
            return contender.judgement
        rivals = self.raced()
        adjusted = statistics.holm([self._chance(c) for c in rivals])
        p_holm = adjusted[rivals.index(contender)]
        word, sentence = judge(
            self.ratio(contender, PRIMARY),
            p_holm,
            baseline=str(self.baseline.recipe),
            baseline_hits=self._baseline_hits(contender.seeds),
            alpha=self.plan.alpha,
            smallest_effect=self.smallest_effect(contender),
            on_edge=contender.edge,
            baseline_on_edge=self.baseline.edge,
        )
        return Judgement(word, sentence, p_holm)

    def noise_verdict(self) -> Word:
        """Return what the referee would call the A/A arm, were it a contender."""
        floor = self.noise_floor()
        hits = self._baseline_hits(self.baseline.seeds)
        seen = self.smallest_effect(self.baseline, "a/a")
        name, alpha = str(self.baseline.recipe), self.plan.alpha
        word, _ = judge(floor, floor["p"], baseline=name, baseline_hits=hits, alpha=alpha, smallest_effect=seen)
        return word

    def _baseline_hits(self, seeds: int) -> int:
        steps = [self.steps_to(self.baseline, "racing", i, self.targets[PRIMARY]) for i in range(seeds)]
        return sum(s is not None for s in steps)

    def score(self, cell: Cell) -> Score:
        """Return a tuning trial's score: its final value, and the mean of its curve to tell equals apart."""
        data = self.journal.find("cell", cell.key)
        if data is None or data["diverged_at"] is not None:
            return None
        values = [self.sign * v for v in data["values"]]
        return values[-1], sum(values) / len(values)

    def cause(self, cell: Cell) -> str | None:
        """Return why a run failed for good, or None."""
        failure = self.journal.find("failure", cell.key)
        return str(failure["cause"]) if failure else None

    def data(self, cell: Cell) -> dict[str, Any] | None:
        """Return what a finished run recorded."""
        return self.journal.find("cell", cell.key)

    def _oriented(self, value: float) -> float | None:
        return self.sign * value if math.isfinite(value) else None
