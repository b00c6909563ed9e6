"""The commands that ask what holds: of a paper's claim, of the lab itself, of everything that was raced."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sooner.cli.numbers import Whole


def claim(
    *names: str,
    all: Annotated[bool, Parameter(negative=())] = False,
    check: Annotated[bool, Parameter(negative=())] = False,
    confirm: Annotated[bool, Parameter(negative=())] = False,
    minutes: float | None = None,
    jobs: Whole | None = None,
    series: Whole = 0,
    out: Path = Path("claims"),
    publish: Path | None = None,
) -> None:
    """Run a paper's claim here against a tuned baseline, by the race rules, and print the verdict.

    Without a name, all claims are listed with the verdicts of the published evidence. The same command, run again, goes
    on where a stopped one left off.

    Parameters
    ----------
    names
        Parts, such as muon.
    all
        Run every claim there is.
    check
        Say which evidence is missing or no longer holds for the code it speaks of; exit code 1 if any is. Where files
        changed, the first steps of every arm are run again to see whether they behave as before.
    confirm
        Write into evidence that is older than its code that the code behaves as before, where it does; exit code 1 if
        any does not.
    minutes
        Start no claim whose estimate goes beyond this many minutes in all; says which were left out.
    jobs
        Worker processes of one thread each. Default: one for every core.
    series
        Another number repeats the races of the claim on other seeds.
    out
        Folder for journals and races.
    publish
        Also write the evidence, as NAME.jsonl, into this folder.
    """
    from sooner import claims
    from sooner.cli.claim import check_claims, confirm_claims, list_claims, run_claims

    if check or confirm:
        if not (confirm_claims(list(names), jobs, publish) if confirm else check_claims(jobs)):
            sys.exit(1)
    elif all or names:
        chosen = claims.names() if all else list(dict.fromkeys(names))
        run_claims(chosen, out=out, jobs=jobs, publish=publish, minutes=minutes, series=series)
    else:
        list_claims()


def lab(
    *names: str,
    list: Annotated[bool, Parameter(negative=())] = False,
    check: Annotated[bool, Parameter(negative=())] = False,
    confirm: Annotated[bool, Parameter(negative=())] = False,
    minutes: float | None = None,
    jobs: Whole | None = None,
    out: Path = Path("lab"),
    publish: Path | None = None,
) -> None:
    """Look for effects that everybody relies on, on the bundled workloads, by the race rules: is the lab calibrated?

    Without a name, those truths are looked for whose published evidence is missing or older than the code. The same
    command, run again, goes on where a stopped one left off.

    Parameters
    ----------
    names
        Truths, such as decay or warm_up.
    list
        List all truths with what the published evidence shows, and run nothing.
    check
        Say which truths have no evidence, evidence older than the code, or are not shown where they should be; exit
        code 1 if any.
    confirm
        Run the first steps of every arm again where evidence is older than the code, and write down where the code
        behaves as before; exit code 1 where it does not.
    minutes
        Start nothing whose estimate goes beyond this many minutes in all; says what was left out.
    jobs
        Worker processes of one thread each. Default: one for every core.
    out
        Folder for journals and races.
    publish
        Also write the evidence, as NAME.jsonl, into this folder.
    """
    from sooner.cli.lab import check_truths, confirm_truths, list_truths, look_for, missing
    from sooner.lab import _panel

    for name in names:
        _panel.load(name)
    if list:
        list_truths()
    elif check:
        if not check_truths([*(names or _panel.names())]):
            sys.exit(1)
    elif confirm:
        if not confirm_truths([*(names or _panel.names())], jobs, publish):
            sys.exit(1)
    else:
        chosen = [*dict.fromkeys(names)] or missing()
        look_for(chosen, out=out, jobs=jobs, publish=publish, minutes=minutes)


def league(
    *folders: Path,
    evidence: bool = True,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Rank all that has raced, from the races on disk and the published evidence, and say how far to trust the order.

    Parameters
    ----------
    folders
        Folders that hold races. Default: races and claims in this directory, where they exist.
    evidence
        Count the published evidence too.
    json
        Print the table as JSON.
    """
    from sooner.cli.league import show_league

    chosen = list(folders) or [folder for folder in (Path("races"), Path("claims")) if folder.is_dir()]
    show_league(chosen, published=evidence, as_json=json)
