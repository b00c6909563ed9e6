"""Judging a candidate: what is asked becomes two sides and a bench, or one sentence on what is wrong with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sooner.error import SoonerError
from sooner.judging.bench import Bench
from sooner.judging.evidence import Worth
from sooner.judging.home import home_of
from sooner.judging.judgement import Judgement
from sooner.judging.ledger import claimed, prepare
from sooner.judging.process import Program, words_of
from sooner.judging.sides import Repository, of_commands, of_revisions
from sooner.race.limits import LEAST_UNTIL, MOST_UNTIL

DEFAULT_SEEDS = 64


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
    bench = Bench(
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


def _check(seeds: int, seconds: float | None, q: float | None) -> None:
    if not LEAST_UNTIL <= seeds <= MOST_UNTIL:
        raise SoonerError(f"seeds {seeds}: choose a number from {LEAST_UNTIL} to {MOST_UNTIL}, such as {DEFAULT_SEEDS}")
    if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
        raise SoonerError(f"seconds {seconds:g}: give a positive number, or leave it out for no limit")
    if q is not None and not 0 < q < 0.5:
        raise SoonerError(f"q {q:g} is no share of false discoveries to allow; give one such as 0.05")


def _silent(line: str) -> None:
    pass
