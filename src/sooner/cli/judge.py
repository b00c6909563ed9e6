"""`sooner judge`: options and help, what it prints, and the exit code that a loop goes by."""

from __future__ import annotations

import json as to_json
import signal
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sooner.cli.numbers import Whole
from sooner.error import SoonerError


def judge(
    *command: str,
    baseline: str | None = None,
    candidate: str | None = None,
    baseline_command: str | None = None,
    candidate_command: str | None = None,
    metric: str = "val_loss",
    higher_is_better: Annotated[bool, Parameter(negative=())] = False,
    worth: str = "1%",
    both_sides: Annotated[bool, Parameter(negative=())] = False,
    seeds: Whole = 64,
    seconds: float | None = None,
    q: float | None = None,
    log: str | None = None,
    share: tuple[str, ...] = (),
    folder: Path | None = None,
    ledger: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Judge a candidate against a baseline, seed after seed, until it is known whether to keep it.

    sooner judge --baseline main --candidate HEAD -- python train.py --seed {seed}

    Exit code 0: better, keep it. 1: worse, or no gain worth having. 3: undecided when the budget ended. 2: bad input,
    or a run that failed. The same command goes on where it stopped and runs nothing twice.

    Parameters
    ----------
    command
        After --: what each revision runs. {seed} is filled in, and {out} is a folder of the run's own.
    baseline
        A git revision. Default, with --candidate: HEAD.
    candidate
        A git revision, or . for the working tree as it stands. Each is checked out into a folder of its own.
    baseline_command
        Instead of revisions: a command to run in this folder, in quotes.
    candidate_command
        The other command.
    metric
        Its name in what the program prints, such as val_loss. The last value counts; NaN is the worst there is.
    higher_is_better
        For accuracies and rewards.
    worth
        The smallest difference that matters: a share such as 1%, or a number in the metric's unit.
    both_sides
        Go on until a loss of that size is excluded too: to show that a candidate loses nothing.
    seeds
        Pairs of runs at most, 8 to 200.
    seconds
        End after so many seconds, decided or not.
    q
        The share of false ones among all that is kept, for a ledger that begins. Default 0.05.
    log
        The file that each run writes, where the metric is not printed; may hold {out} and {seed}.
    share
        A file or folder that git does not keep, such as data, to be linked into the revisions. May be repeated.
    folder
        Of the ledger. Default: .sooner at the root of the repository.
    ledger
        Show what is believed so far, and run nothing.
    json
        Print JSON on standard output instead of a sentence.
    """
    if ledger:
        if command or baseline or candidate or baseline_command or candidate_command:
            raise SoonerError("--ledger shows what was judged and runs nothing; leave the rest out")
        _show(folder, as_json=json)
        return
    from rich.console import Console

    from sooner.judging import judge as decide

    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the run that is going on ends too
    try:
        found = decide(
            command or None,
            baseline=baseline,
            candidate=candidate,
            baseline_command=baseline_command,
            candidate_command=candidate_command,
            metric=metric,
            higher_is_better=higher_is_better,
            worth=worth,
            both_sides=both_sides,
            seeds=seeds,
            seconds=seconds,
            q=q,
            log=log,
            share=share,
            folder=folder,
            say=lambda line: progress.print(line, markup=False),
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    if json:
        print(found.to_json())
    else:
        print(found.sentence)
        for note in found.notes:
            progress.print(f"note: {note}", markup=False)
    sys.exit(found.exit_code)


def _show(folder: Path | None, *, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from sooner.judging.believed import believed, for_json

    ledger, rows = believed(folder)
    kept = len(ledger.discoveries())
    if as_json:
        print(to_json.dumps({"q": ledger.q, "next_level": ledger.next_level(), "judged": for_json(rows)}, indent=1))
        return
    table = Table("", box=None)
    table.add_column("candidate\n  baseline", no_wrap=True, overflow="ellipsis", max_width=48)
    for name in ("verdict\nmetric", "gain\n(95 %)", "seeds", "p\nlevel"):
        table.add_column(name)
    for row in rows:
        table.add_row(*row.words())
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{kept} of {len(rows)} kept; at most {100 * ledger.q:g} % of what is kept is expected to be luck. The next "
        f"candidate has to reach p = {ledger.next_level():.2g}.",
        soft_wrap=True,
        markup=False,
    )
