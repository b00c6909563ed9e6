"""The referee: tune everybody alike, set the targets, race on fresh seeds, and write down every finished cell.

    result = run(Plan(task, [Recipe("adamw"), Recipe("muon")]))

Every phase asks the journal first, so running the same plan again goes on where it stopped, with identical numbers.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sooner.error import SoonerError
from sooner.race import tuning
from sooner.race.cost import contention
from sooner.race.engines.processes import SILENCE_SECONDS, Processes
from sooner.race.evidence import PRIMARY, Contender, Evidence
from sooner.race.journal import Journal
from sooner.race.machine import machine, now, processor, versions
from sooner.race.plan import Plan
from sooner.race.planned import Planned
from sooner.race.pool import Cell, Pool
from sooner.race.result import make_result
from sooner.race.shelf import Shelf
from sooner.race.stamps import costs_of_runs
from sooner.race.targets import targets_anytime, targets_budgeted
from sooner.race.tuners import Tuner
from sooner.space import Settings, Space
from sooner.watch import Several, Watch, watching

COST_ATTEMPTS = 3


def run(
    plan: Planned,
    watch: Watch | str | Iterable[Watch | str] | None = None,
    pool: Pool | None = None,
    shelf: Shelf | None = None,
) -> dict[str, Any]:
    """Run the race, or what is left of it, and return the result (its fields are in docs/result.md).

    Args:
        plan: the race.
        watch: is told what happens, as `sooner.watch.watching` takes it; one that fails stops nothing.
        pool: what runs the cells; None starts `plan.jobs` processes and ends them afterwards.
        shelf: runs that other races have made; equal ones are copied into the journal instead of being run again.

    Raises:
        SoonerError: the folder can't be used, the disk is full, or the baseline itself cannot run.
    """
    told = watching(watch)
    with Journal.open(plan.folder(), plan.identity(), provenance(plan)) as journal:
        told.start(about(plan, journal))
        try:
            if journal.find("result", "result") is None:
                with contextlib.nullcontext(pool) if pool else pool_of(plan) as workers:
                    Race(plan, journal, workers, told, shelf).run()
        except BaseException as error:
            told.end({"error": f"{type(error).__name__}: {error}" if str(error) else type(error).__name__})
            raise
        result = journal.find("result", "result")
        assert result is not None
        result["notes"] = [*result["notes"], *journal.notes]
        for contender in result["contenders"]:
            told.verdict(contender["recipe"], contender["verdict"], contender["sentence"])
        told.end({"finished": result["finished"]})
        return result


def pool_of(plan: Planned) -> Processes:
    """Return the workers of a race: so many, each in its place, and as patient as the plan says."""
    return Processes(plan.jobs, silence_seconds=plan.silence or SILENCE_SECONDS, slots=plan.slots)


def about(plan: Planned, journal: Journal) -> dict[str, Any]:
    """Return what watchers are told when a race starts."""
    return {
        "kind": "race",
        "name": plan.task.name,
        "recipes": [str(recipe) for recipe in plan.recipes],
        "metric": plan.task.metric,
        "higher_is_better": plan.task.higher_is_better,
        "steps": plan.budget,
        "regime": plan.regime,
        "seeds": plan.looks[-1],
        "looks": list(plan.looks),
        "until": plan.until,
        "purposes": {
            name: [min(s), max(s)] for name in ("tuning", "target", "racing", "a/a") if (s := plan.seeds(name))
        },
        "folder": str(plan.folder()),
        "command": plan.command,
        "cells_done": len(journal.all("cell")),
    }


def provenance(plan: Planned) -> dict[str, Any]:
    """Return where a session of a race comes from, for its journal."""
    return {
        "command": plan.command,
        "versions": versions(),
        "machine": machine(),
        "jobs": plan.jobs,
        "started": now(),
    }


class Race:
    """The phases of one race. Each asks the journal first, and runs what is missing.

    Args:
        plan: the race.
        journal: its open journal.
        pool: what runs the cells.
        watch: is told what happens.
        shelf: runs of other races, or None.
    """

    def __init__(self, plan: Planned, journal: Journal, pool: Pool, watch: Watch, shelf: Shelf | None) -> None:
        self.plan, self.journal, self.pool, self.shelf = plan, journal, pool, shelf
        self.watch = watching(watch)
        self.contenders = [Contender(recipe) for recipe in plan.recipes]
        self.baseline = self.contenders[0]
        self.evidence = Evidence(plan, journal, self.contenders)
        self.given_up: set[str] = set()  # of this session only: another session tries once more

    def run(self) -> None:
        """Run all phases and write the result."""
        self.tune()
        self.set_targets()
        self._race()
        costs, memory = self._measure_cost() if self.plan.measure_cost else (None, {})
        self.journal.append("result", "result", make_result(self.evidence, costs, memory, now()))

    def tune(self) -> None:
        """Tune everybody alike.

        Raises:
            SoonerError: no settings of the baseline can be used.
        """
        self._tune()
        if self.baseline.why_out:
            mend = "mend that" if self.baseline.failure else "give it a range that works, written lr=log(low, high)"
            raise SoonerError(
                f"the baseline {self.baseline.recipe} can't race: {self.baseline.why_out}; {mend}, or put another "
                "recipe first"
            )

    def _tune(self) -> None:
        tuner = self.plan.proposing()
        for number, count in enumerate(tuner.rounds(self.plan.tune + 1)):
            wanted = [self._proposed(tuner, c, c.recipe.space, count, number) for c in self.contenders]
            self._run_trials("tuning", wanted)
        if self.plan.tune and any(self._edge(c) for c in self.contenders):
            spaces = [self._wider(c) for c in self.contenders]
            for number, count in enumerate(tuner.rounds(math.ceil(self.plan.tune / 2))):
                both = zip(self.contenders, spaces, strict=True)
                wanted = [self._proposed(tuner, c, space, count, number) for c, space in both]
                self._run_trials("tuning in a wider range", wanted)
        for c in self.contenders:
            c.settings = tuning.best(c.trials, c.scores)
            c.edge = self._edge(c)
            if c.settings is None:
                c.why_out = _why_out(c)

    def _edge(self, c: Contender) -> dict[str, Any]:
        return tuning.edges(c.recipe.space, c.trials, c.scores)

    def _wider(self, c: Contender) -> Space | None:
        """Return the space of one contender's extra trials; all with something to tune get them, on an edge or not."""
        winner = tuning.best(c.trials, c.scores)
        if not c.recipe.space or winner is None:
            return None
        c.widened = bool(self._edge(c))
        return tuning.widening(c.recipe.space, self._edge(c), winner)

    def _proposed(self, tuner: Tuner, c: Contender, space: Space | None, count: int, number: int) -> list[Settings]:
        if space is None:
            return []
        return tuner.propose(space, c.recipe.default, c.trials, c.scores, count, number)

    def _run_trials(self, phase: str, settings: list[list[Settings]]) -> None:
        (seed,) = self.plan.seeds("tuning")
        cells = [
            [self.plan.trial(c.recipe, s, seed) for s in some]
            for c, some in zip(self.contenders, settings, strict=True)
        ]
        self.ensure(
            phase,
            [cell for trial in itertools.zip_longest(*cells) for cell in trial if cell],
            self._work(10 + self._arms()),
        )
        for c, some, theirs in zip(self.contenders, settings, cells, strict=True):
            for tried, cell in zip(some, theirs, strict=True):
                data = self.evidence.data(cell)
                c.trials.append(tried)
                c.scores.append(self.evidence.score(cell))
                c.diverged.append(data["diverged_at"] if data else None)
                c.failure = c.failure if data else self.evidence.cause(cell)

    def set_targets(self) -> None:
        """Set the targets by the tuned baseline, on seeds of their own."""
        plan, evidence = self.plan, self.evidence
        numbers = range(len(plan.seeds("target")))
        self.ensure(
            "setting targets",
            [x for i in numbers for x in evidence.cells(self.baseline, "target", i)],
            self._work(self._arms()),
        )
        curves = [evidence.curve(self.baseline, "target", i) for i in numbers]
        if plan.regime == "anytime":
            targets = targets_anytime([(c.steps, c.values) for c in curves], plan.budget)
        else:
            finals = {h: [evidence.final(self.baseline, "target", i, h) for i in numbers] for h in plan.horizons}
            targets = targets_budgeted(finals, plan.budget)
        start = min((c.values[0] for c in curves if c.values[0] is not None), default=-math.inf)
        evidence.targets = {name: v if v is not None and v < start else None for name, v in targets.items()}

    def _race(self) -> None:
        done = 0
        for look in self.plan.looks:
            running = [c for c in self.contenders if not c.why_out and not c.judgement]
            if done and running == [self.baseline] and self.evidence.raced():
                break
            cells = []
            for number in range(done, look):
                for c in running:
                    cells += self.evidence.cells(c, "racing", number)
                cells += self.evidence.cells(self.baseline, "a/a", number)
            self.ensure(f"racing on {look} seeds", cells, 0.0, stands=True)
            for c in running:
                c.seeds = look
            for c, judgement in [(c, self.evidence.settled(c)) for c in running if c is not self.baseline]:
                c.judgement = judgement  # if settled, it needs no more seeds, and later looks change nothing about it
            done = look

    def _measure_cost(self) -> tuple[dict[str, Any] | None, dict[str, float]]:
        if not isinstance(self.plan, Plan):
            return costs_of_runs(self.evidence), {}
        texts = [str(c.tuned) for c in self.contenders if not c.why_out]
        common = {"task": self.plan.sendable_task(), "steps": self.plan.budget, "processor": processor()}
        common.update(self.plan.crew())
        costs = None
        for attempt in range(COST_ATTEMPTS):
            cell = Cell(f"blocks, attempt {attempt + 1}", {"do": "blocks", "recipes": texts, **common})
            self.ensure("cost per step", [cell], 0.0)
            costs = self.evidence.data(cell) or costs
            if costs is not None and contention(costs) is None:
                break
        memory = {}
        for text in texts:
            cell = Cell(f"memory | {text}", {"do": "memory", "recipe": text, **common})
            if self.evidence.data(cell) is None:
                self.pool.close()  # memory is measured in a fresh process
            self.ensure("memory", [cell], 0.0)
            if data := self.evidence.data(cell):
                memory[text] = data["peak_memory_mib"]
        return costs, memory

    def _arms(self) -> int:
        return self.plan.looks[-1] * (len(self.contenders) + 1)

    def _work(self, runs: int) -> float:
        return float(runs * (sum(self.plan.horizons) if self.plan.regime == "budgeted" else self.plan.budget))

    def ensure(self, phase: str, cells: Iterable[Cell], later: float, *, stands: bool = False) -> None:
        """Run the cells that the journal does not have yet; `stands` tells along how contenders stand."""
        journal, watch = self.journal, self.watch
        stands = stands and watch.wants("standing")
        wanted = {c.key: c for c in cells}
        missing = [c for key, c in wanted.items() if not journal.find("cell", key) and key not in self.given_up]
        if self.shelf:
            missing = [c for c in missing if not self._copied(c, self.shelf)]
        watch.phase(phase, missing, later)
        standing = Standing(self.evidence, watch) if stands else None

        def progress(cell: Cell, fraction: float, info: dict[str, Any]) -> None:
            watch.progress(cell, fraction, info)
            if "value" in info and "step" in info:
                watch.evaluation(info["step"], {self.plan.task.metric: info["value"]}, cell)

        def keep(cell: Cell, data: dict[str, Any]) -> None:
            journal.append("cell", cell.key, data)
            watch.finished(cell, data)
            if standing:
                standing.tell()

        def give_up(cell: Cell, cause: str) -> None:
            if self.plan.task_changed():
                raise SoonerError(
                    f"{self.plan.task.spec} changed while the race was running; put the old file back and run the same "
                    "command again (finished cells are kept), or race the new file in a folder of its own"
                )
            journal.append("failure", cell.key, {"cause": cause})
            self.given_up.add(cell.key)
            watch.failed(cell, cause)

        self.pool.run(missing, keep, progress, give_up)

    def _copied(self, cell: Cell, shelf: Shelf) -> bool:
        data = shelf.find(cell)
        if data is not None:
            self.journal.append("cell", cell.key, data)
        return data is not None


class Standing:
    """Tells how contenders stand in the middle of a race, whenever another pair of runs is complete.

    Args:
        evidence: the runs.
        watch: is told.
    """

    def __init__(self, evidence: Evidence, watch: Several) -> None:
        self._evidence, self._watch, self._told = evidence, watch, [0] * len(evidence.contenders)
        self.tell()

    def tell(self) -> None:
        """Tell it, if it has changed."""
        counts = [0 if c.why_out else self._pairs(c) for c in self._evidence.contenders]
        if counts == self._told:
            return
        self._told = counts
        rows = []
        for c, seeds in list(zip(self._evidence.contenders, counts, strict=True))[1:]:
            if seeds:
                found = self._evidence.ratio(replace(c, seeds=seeds), PRIMARY)
                told = {name: found[name] for name in ("ratio", "low", "high")}
                rows.append({"recipe": str(c.recipe), "tuned_recipe": str(c.tuned), "seeds": seeds, **told})
        self._watch.standing(rows)

    def _pairs(self, c: Contender) -> int:
        """Return on how many seeds, from the first on, a contender and the baseline have both run."""
        evidence, count = self._evidence, 0
        for number in range(evidence.plan.looks[-1]):
            both = [cell for one in (c, evidence.baseline) for cell in evidence.cells(one, "racing", number)]
            if any(evidence.journal.find("cell", cell.key) is None for cell in both):
                break
            count += 1
        return count


def _why_out(c: Contender) -> str:
    """Say why no trial of a contender can be used: when its loss was lost and with which settings, or what failed."""
    lost = [(step, settings) for step, settings in zip(c.diverged, c.trials, strict=True) if step is not None]
    if not lost:
        return f"its runs failed: {c.failure}"
    step, settings = lost[0]
    trials = f"all {len(c.trials)} tuning trials" if len(c.trials) > 1 else "its only tuning trial"
    also = f", and {len(c.trials) - len(lost)} runs failed: {c.failure}" if c.failure else ""
    shown = c.recipe.with_settings(settings)
    return f"its loss became NaN or infinite in {trials} (at step {step} with {shown}{also})"
