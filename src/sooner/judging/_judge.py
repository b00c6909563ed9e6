"""The loop: pairs of runs, one after another, until the bets decide or the budget ends."""

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
from sooner.judging.judgement import Judgement
from sooner.judging.ledger import SIDES, Ledger, claimed, prepare
from sooner.judging.process import OutOfTimeError, Program, words_of
from sooner.judging.sides import Repository, Side, Tree, of_commands, of_revisions
from sooner.judging.words import notes, sentence
from sooner.race import statistics
from sooner.race.limits import LEAST_SEEDS, LEAST_UNTIL, MOST_UNTIL
from sooner.race.statistics.planning import Looking, Spread, power

FOLDER = ".sooner"
DEFAULT_SEEDS = 64
ALIKE = 5
"""So many seeds that all give one side the same single number are no chance."""


def judge(
    command: str | Sequence[str] | None = None,
    *,
    baseline: str | None = None,
    candidate: str | None = None,
    baseline_command: str | Sequence[str] | None = None,
    candidate_command: str | Sequence[str] | None = None,
    metric: str = "val_loss",
    higher_is_better: bool = False,
    worth: str | float = "1%",
    both_sides: bool = False,
    seeds: int = DEFAULT_SEEDS,
    seconds: float | None = None,
    q: float | None = None,
    log: str | None = None,
    share: Sequence[str] = (),
    folder: str | Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Judgement:
    """Judge a candidate against a baseline on paired seeds, one after another, until it is known which is better.

    Either two git revisions that run the same command, or two commands in the present folder. Everything is kept in a
    ledger, so that a judgement that was interrupted goes on where it stopped and one that is known is told at once. All
    candidates of a ledger share one budget of false discoveries.

    Args:
        command: what to run in each revision, with `{seed}` where it takes the seed; `{out}` is a folder of each run.
        baseline: a git revision, "HEAD" where only the candidate is given.
        candidate: a git revision, or "." for the working tree as it stands.
        baseline_command: instead of revisions.
        candidate_command: instead of revisions.
        metric: its name in what the program prints; its last value counts, and NaN or infinity is the worst there is.
        higher_is_better: for accuracies and rewards.
        worth: the smallest difference that matters: a share such as "1%", or a number in the metric's unit.
        both_sides: go on until a loss of that size is excluded too, to show that a candidate loses nothing. Otherwise
            "no gain" ends the judgement, which takes fewer runs.
        seeds: pairs at most, 8 to 200.
        seconds: start no run after these, and stop the one that is going on; None for no limit.
        q: the share of false discoveries that the ledger allows, 0.05 when it is begun.
        log: the file that each run writes, where the metric is not printed; may hold `{out}` and `{seed}`.
        share: files and folders that git does not keep, such as data, to be linked into the revisions.
        folder: of the ledger. Default: `.sooner` in the root of the repository, else in this folder.
        say: is told in a line what happens.

    Raises:
        SoonerError: bad input; or a program that fails, prints no metric or does not heed its seed.
    """
    limit = Worth.read(worth)
    _check(seeds, seconds, q)
    here = Path.cwd()
    revisions = baseline is not None or candidate is not None
    if revisions and (baseline_command is not None or candidate_command is not None):
        raise SoonerError("give two revisions (--baseline, --candidate) or two commands, not both")
    repository = Repository(here) if revisions else None
    home = Path(folder) if folder is not None else home_of(here, repository)
    prepare(home)
    if repository is not None:
        if candidate is None:
            raise SoonerError(
                f"--baseline {baseline} has no candidate; name its revision with --candidate, such as HEAD"
            )
        program = Program(words_of(command), log)
        sides = of_revisions(repository, baseline or "HEAD", candidate, program, home / "scratch")
    else:
        if baseline_command is None or candidate_command is None:
            raise SoonerError(
                "a judgement needs two sides: --baseline main --candidate HEAD -- COMMAND, or --baseline-command and "
                "--candidate-command"
            )
        if command:
            raise SoonerError("two commands are given, and a third one that both share; leave out what follows --")
        if share:
            raise SoonerError("--share links files into revisions; two commands run in this folder, where they are")
        sides = of_commands(here, Program(words_of(baseline_command), log), Program(words_of(candidate_command), log))
    if sides[0].identity == sides[1].identity:
        raise SoonerError(
            f"{sides[0].name} and {sides[1].name} are the same files and the same command; change one of them"
        )
    bench = _Bench(
        home.resolve(),
        here,
        sides,
        metric,
        higher_is_better,
        limit,
        both_sides,
        tuple(share),
        repository,
        say or _silent,
    )
    with claimed(home, bench.key):
        return bench.judge(seeds, math.inf if seconds is None else time.monotonic() + seconds, q)


@dataclass
class _Bench:
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
        known = spread_of(self.ledger, self.metric, self.sides[0], self.worth, self.higher_is_better)
        if known is not None:
            looking = Looking(tuple(range(LEAST_SEEDS, most + 1)), level, every_seed=True)
            for times in (1, 2):
                gain = times * self.worth.size
                chance, used = power(known, math.exp(-gain), looking)
                self.say(
                    f"a gain of {self.worth.show(gain)} would be found with a chance of {100 * chance:.0f} %, after "
                    f"{used:.0f} seeds on average, if luck is as large as in what the ledger holds"
                )

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


def spread_of(ledger: Ledger, metric: str, baseline: Side, worth: Worth, higher_is_better: bool) -> Spread | None:
    """Return how far gains scatter by luck, from earlier comparisons of this metric and command; None without any."""
    squares, freedom, runs = 0.0, 0, ledger.runs()
    for key, record in ledger.all("comparison").items():
        if (record.data["metric"], record.data["command"]) != (metric, " ".join(baseline.program.words)):
            continue
        sides = [runs.get(key, {}).get(side, {}) for side in SIDES]
        both = [seed for seed in sides[0] if seed in sides[1]]
        values = [[float(side[seed]["value"]) for seed in both] for side in sides]
        x = gains(values[0], values[1], higher_is_better=higher_is_better, relative=worth.relative)
        sd = statistics.spread(x)
        if sd and len(x) >= LEAST_SEEDS:
            squares, freedom = squares + sd**2 * (len(x) - 1), freedom + len(x) - 1
    return Spread(math.sqrt(squares / freedom), freedom) if freedom else None


def home_of(here: Path, repository: Repository | None) -> Path:
    """Return the folder of the ledger: at the root of the repository, where there is one."""
    if repository is None:
        with suppress(SoonerError):
            repository = Repository(here)
    return (here if repository is None else repository.root) / FOLDER


def _refuse_deaf(side: Side, runs: Sequence[dict[str, Any]], first: int) -> None:
    """Refuse a program that gives the same numbers whatever the seed: its runs are no evidence but one run."""
    enough = 3 if runs[0]["values"] >= 3 else ALIKE
    if len(runs) >= enough and math.isfinite(runs[0]["value"]) and len({run["digest"] for run in runs}) == 1:
        raise SoonerError(
            f"{side.name} gives the same numbers for the seeds {first} to {first + len(runs) - 1} (at last "
            f"{runs[0]['value']:g}), so it does not heed its seed; use {{seed}} for the initial weights and the "
            "order of the data"
        )


def _check(seeds: int, seconds: float | None, q: float | None) -> None:
    if not LEAST_UNTIL <= seeds <= MOST_UNTIL:
        raise SoonerError(f"seeds {seeds}: choose a number from {LEAST_UNTIL} to {MOST_UNTIL}, such as {DEFAULT_SEEDS}")
    if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
        raise SoonerError(f"seconds {seconds:g}: give a positive number, or leave it out for no limit")
    if q is not None and not 0 < q < 0.5:
        raise SoonerError(f"q {q:g} is no share of false discoveries to allow; give one such as 0.05")


def _silent(line: str) -> None:
    pass
