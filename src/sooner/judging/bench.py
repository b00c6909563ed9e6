"""The bench: pairs of runs of both sides, one after another, until the bets decide or the budget ends."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sooner.error import SoonerError
from sooner.judging.evidence import SAME, UNDECIDED, Finding, Worth, decide, gains
from sooner.judging.expectation import expected
from sooner.judging.judgement import Judgement
from sooner.judging.ledger import SIDES, Ledger, claimed
from sooner.judging.process import OutOfTimeError
from sooner.judging.sides import Repository, Side, Tree, of_commands
from sooner.judging.words import notes, sentence
from sooner.race import statistics
from sooner.race.limits import MOST_UNTIL

ALIKE = 5
"""So many seeds that all give one side the same single number are no chance."""


@dataclass
class Bench:
    """A comparison and where it takes place."""

    home: Path
    here: Path
    sides: tuple[Side, Side]
    metric: str
    higher_is_better: bool
    worth: Worth
    both_sides: bool
    shared: tuple[str, ...]
    repository: Repository | None
    say: Callable[[str], None]

    @property
    def key(self) -> str:
        """What makes this comparison this comparison. What is worth having is not in it: the runs are the same."""
        parts = [side.identity for side in self.sides] + [p for side in self.sides for p in side.program.words]
        parts += [self.sides[0].program.log or "", self.metric, str(self.higher_is_better), *self.shared]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def judge(self, most: int, end: float, q: float | None) -> Judgement:
        """Go on where the ledger stopped, and say what is known in the end.

        Args:
            most: pairs at most.
            end: on the monotonic clock, after which no run is started.
            q: as of `judge`.

        Raises:
            SoonerError: a program that fails, prints no metric or does not heed its seed.
        """
        self.ledger = Ledger(self.home)
        with self.ledger.alone():
            self.ledger.begin(q)
            about = {
                "baseline": self.sides[0].name,
                "candidate": self.sides[1].name,
                "command": " ".join(self.sides[0].program.words),
                "metric": self.metric,
                "higher_is_better": self.higher_is_better,
                "identities": [side.identity for side in self.sides],
            }
            self.first = int(self.ledger.comparison(self.key, about)["first_seed"])
        self.runs: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        while (pair := self._known(len(self.runs[0]))) is not None and len(self.runs[0]) < most:
            self._take(pair)
        found = self._look()
        if found.outcome == UNDECIDED and not self._identical() and len(self.runs[0]) < most:
            self._expect(most)
            self._sweep()
            with ExitStack() as stack:
                trees = [self._tree(stack, side, place) for side, place in zip(self.sides, SIDES, strict=True)]
                with suppress(OutOfTimeError):
                    while found.outcome == UNDECIDED and not self._identical() and len(self.runs[0]) < most:
                        seed = self.first + len(self.runs[0])
                        self._take([self._run(k, trees[k], seed, end) for k in range(2)])
                        found = self._look()
                        self._tell(found)
        return self._conclude(found, most)

    def _known(self, place: int) -> list[dict[str, Any]] | None:
        pair = [self.ledger.find("run", f"{self.key}/{side}/{self.first + place}") for side in SIDES]
        return None if None in pair else [run for run in pair if run is not None]

    def _take(self, pair: Sequence[dict[str, Any]]) -> None:
        for runs, run in zip(self.runs, pair, strict=True):
            runs.append(run)
        for side, runs in zip(self.sides, self.runs, strict=True):
            _refuse_deaf(side, runs, self.first)
        if len(self.runs[0]) == ALIKE and not any(math.isfinite(run["value"]) for runs in self.runs for run in runs):
            raise SoonerError(
                f"both sides diverged on all of the first {ALIKE} seeds, so nothing can be told; mend the baseline"
            )

    def _tree(self, stack: ExitStack, side: Side, place: str) -> Tree | None:
        if self.repository is None or side.commit is None:
            return None
        at = self.home / "worktrees" / f"{self.key}-{place}"
        return stack.enter_context(self.repository.checked_out(side.commit, at, self.shared))

    def _sweep(self) -> None:
        """Remove what killed judgements have left checked out."""
        if self.repository is not None:
            for place in (self.home / "worktrees").glob("*-*"):
                key = place.name.rpartition("-")[0]
                if key == self.key:
                    continue  # made anew in a moment
                with suppress(SoonerError), claimed(self.home, key):  # nobody is at it
                    self.repository.remove(place)

    def _run(self, k: int, tree: Tree | None, seed: int, end: float) -> dict[str, Any]:
        key = f"{self.key}/{SIDES[k]}/{seed}"
        known = self.ledger.find("run", key)
        if known is not None:
            return known
        left = end - time.monotonic()
        if left <= 0:
            raise OutOfTimeError
        if tree is not None:
            tree.clean()
        else:
            self._still_the_same()
        out = self.home / "runs" / self.key / f"{SIDES[k]}-{seed}"
        folder = self.here if tree is None else tree.folder
        course, seconds = self.sides[k].program.run(folder, seed, out, self.metric, None if left == math.inf else left)
        data = {
            "value": course.last,
            "values": len(course.values),
            "digest": course.digest,
            "seconds": round(seconds, 3),
        }
        with self.ledger.alone():
            self.ledger.add("run", key, data)
        return data

    def _still_the_same(self) -> None:
        """Refuse to go on when somebody edits the files of two commands under our hands."""
        now = of_commands(self.here, self.sides[0].program, self.sides[1].program)
        if [side.identity for side in now] != [side.identity for side in self.sides]:
            raise SoonerError(
                "the files changed while they were judged; run the same command again to judge them as they are now, "
                "or judge git revisions, which nobody edits"
            )

    def _values(self) -> tuple[list[float], list[float]]:
        baseline, candidate = ([float(run["value"]) for run in runs] for runs in self.runs)
        return baseline, candidate

    def _look(self) -> Finding:
        """Say what is known now; the first complete pair enters the stream."""
        x = gains(*self._values(), higher_is_better=self.higher_is_better, relative=self.worth.relative)
        self.number, self.level = 0, math.nan
        if len(x):
            with self.ledger.alone():
                self.number, self.level = self.ledger.enter(self.key)
        return decide(x, self.level, self.worth.size, self.both_sides)

    def _identical(self) -> bool:
        """Whether candidate and baseline do the very same, number by number, on several seeds."""
        pairs = list(zip(*self.runs, strict=True))
        return len(pairs) >= ALIKE and all(b["digest"] == c["digest"] for b, c in pairs)

    def _expect(self, most: int) -> None:
        """Say beforehand what can be found."""
        level = self.level if self.number else self.ledger.next_level()
        fewest = next((n for n in range(1, most + 1) if statistics.smallest_betting_p(n) <= level), None)
        if fewest is None:
            raise SoonerError(
                f"candidate {self.number or len(self.ledger.all('level')) + 1} has to reach p = {level:.2g}, which "
                f"{most} seeds can't, however clear they are; give more with --seeds (at most {MOST_UNTIL})"
            )
        self.say(
            f"{self.sides[1].name} against {self.sides[0].name}: better has to reach p = {level:.2g}, which takes "
            f"{fewest} seeds at least"
        )
        for line in expected(self.ledger, self.metric, self.sides[0], self.worth, self.higher_is_better, level, most):
            self.say(line)

    def _tell(self, found: Finding) -> None:
        b, c = (runs[-1]["value"] for runs in self.runs)
        self.say(
            f"seed {self.first + len(self.runs[0]) - 1}: {b:.5g} and {c:.5g}; {len(self.runs[0])} so far, gain "
            f"{self.worth.show(found.gain, sign=True)}, p {found.p:.2g} (level {self.level:.2g})"
        )

    def _conclude(self, found: Finding, most: int) -> Judgement:
        b, c = self._values()
        told: dict[str, Any] = {
            "outcome": found.outcome,
            "seeds": found.seeds,
            "worth": str(self.worth),
            "gain": found.gain,
        }
        identical = found.outcome == UNDECIDED and self._identical()
        if identical:
            told["outcome"] = SAME
        told |= {"low": found.low, "high": found.high, "p": found.p, "relative": self.worth.relative}
        if told != self.ledger.find("verdict", self.key) and len(b):
            with self.ledger.alone():
                self.ledger.add("verdict", self.key, told)
        used = found.seeds
        names = (self.sides[0].name, self.sides[1].name)
        return Judgement(
            outcome=told["outcome"],
            sentence=sentence(
                found, names, self.metric, self.worth, level=self.level, number=self.number, identical=identical
            ),
            gain=found.gain,
            low=found.low,
            high=found.high,
            p=found.p,
            level=self.level,
            number=self.number,
            seeds=tuple(range(self.first, self.first + used)),
            baseline=names[0],
            candidate=names[1],
            baseline_values=tuple(b[:used]),
            candidate_values=tuple(c[:used]),
            notes=tuple(notes(b[:used], c[:used], names, self.ledger, identical=identical)),
        )


def _refuse_deaf(side: Side, runs: Sequence[dict[str, Any]], first: int) -> None:
    """Refuse a program that gives the same numbers whatever the seed: its runs are no evidence but one run."""
    enough = 3 if runs[0]["values"] >= 3 else ALIKE
    if len(runs) >= enough and math.isfinite(runs[0]["value"]) and len({run["digest"] for run in runs}) == 1:
        raise SoonerError(
            f"{side.name} gives the same numbers for the seeds {first} to {first + len(runs) - 1} (at last "
            f"{runs[0]['value']:g}), so it does not heed its seed; use {{seed}} for the initial weights and the "
            "order of the data"
        )
