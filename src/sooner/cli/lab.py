"""`sooner lab`: say what looking for the known truths takes, look for them, print where they are shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from sooner.lab import _panel

if TYPE_CHECKING:
    from sooner.lab._evidence import Evidence
    from sooner.lab._truth import Truth
    from sooner.race.pool import Pool
    from sooner.watch import Watch


def list_truths() -> None:
    """Print every truth, and where the published evidence shows it."""
    from sooner.lab import _evidence
    from sooner.report.lab import told

    grid = Table("truth", "shown on", "not shown on", "what it says", box=None, pad_edge=False)
    for name in _panel.names():
        evidence = _evidence.find(name)
        here = told(evidence) if evidence else ("not looked for yet", "")
        grid.add_row(name, *here, evidence.said["says"] if evidence else _panel.load(name).says)
    _console().print(grid)


def check_truths(names: list[str]) -> bool:
    """Print which truths have no evidence, old evidence, or are not shown where they should be; return whether none."""
    from sooner.lab import _evidence

    console, wrong = _console(), []
    for name in names:
        evidence = _evidence.find(name)
        changed = evidence.older_than_code() if evidence else []
        if evidence is None or changed:
            why = f"older than {', '.join(changed)}" if changed else "no evidence"
            wrong.append(f"{name}: {why}; run `sooner lab {name}`")
        elif evidence.failing():
            wrong.append(f"{name}: {_failing(evidence)}")
    for line in wrong:
        console.print(line, markup=False, soft_wrap=True)
    if not wrong:
        console.print(f"{counted(len(names))}: all are shown where they should be, by the code as it stands")
    return not wrong


def confirm_truths(names: list[str], jobs: int | None, publish: Path | None) -> bool:
    """Write into evidence that is older than its code that the code behaves as before, where it does; say of which.

    Evidence without a fingerprint of its behaviour gets one, where it is of the code as it stands.
    """
    from sooner.lab import _evidence, _published
    from sooner.lab._freshness import confirm
    from sooner.lab._run import WORKER
    from sooner.race.engines.processes import Processes

    found = [evidence for name in names if (evidence := _evidence.find(name))]
    asked = [evidence for evidence in found if evidence.older_than_code() or not evidence.fingerprint]
    console, sound = _console(), True
    with Processes(jobs or os.cpu_count() or 1, WORKER) as pool:
        for evidence in asked:
            renewed, why = confirm(evidence, pool)
            if renewed is None:
                sound = False
                console.print(
                    f"{evidence.truth}: {why}; run `sooner lab {evidence.truth}`", markup=False, soft_wrap=True
                )
            else:
                _evidence.write(renewed, (publish or _published.folder()) / f"{evidence.truth}.jsonl")
                console.print(f"{evidence.truth}: confirmed")
    if not asked:
        console.print("nothing is older than its code")
    return sound


def missing() -> list[str]:
    """Return the truths without published evidence, or with evidence older than the code."""
    from sooner.lab import _evidence

    found = {name: _evidence.find(name) for name in _panel.names()}
    return [name for name, evidence in found.items() if evidence is None or evidence.older_than_code()]


def look_for(names: list[str], *, out: Path, jobs: int | None, publish: Path | None, minutes: float | None) -> None:
    """Look for truths one after the other, cheap ones first, as many as fit into `minutes`, and print what is shown.

    Raises:
        SoonerError: anything the user can mend.
    """
    from sooner.cli.studies import Studies
    from sooner.lab import _cost
    from sooner.lab._evidence import write
    from sooner.lab._run import WORKER, finished, run
    from sooner.race.engines.processes import Processes
    from sooner.report.lab import card, told

    truths = [_panel.load(name) for name in names]
    workers = jobs or os.cpu_count() or 1
    cores = f"{workers} core{'s' * (workers != 1)}"
    done = [truth for truth in truths if finished(truth, out)]
    truths.sort(key=lambda truth: 0.0 if truth in done else _cost.minutes([truth]))
    left = [truth for truth in truths if truth not in done]
    amount = _cost.minutes(left)
    Console(stderr=True, highlight=False).print(
        f"{counted(len(truths))}, {len(done)} already there: about {_cost.said(amount)} of processor time, "
        f"{_cost.said(amount / workers)} on {cores}, less what was begun",
        soft_wrap=True,
    )

    def estimate(truth: Truth) -> float:
        """What it takes beyond the truths before it, with which it shares races."""
        i = truths.index(truth)
        before, behind = (_cost.minutes(t for t in some if t not in done) for some in (truths[:i], truths[: i + 1]))
        return (behind - before) / workers

    def run_one(truth: Truth, watch: Watch, pool: Pool) -> Evidence:
        evidence = run(truth, out, jobs=workers, command=f"sooner lab {truth.name}", watch=watch, pool=pool)
        if publish:
            write(evidence, publish / f"{truth.name}.jsonl")
        return evidence

    def where(evidence: Evidence) -> str:
        shown, not_shown = told(evidence)
        return f"shown on {shown or 'none'}" + f"; not shown on {not_shown}" * bool(not_shown)

    studies = Studies(
        name=lambda truth: truth.name,
        introduced=lambda truth: [f"[bold]{truth.name}[/bold]: {truth.says}"],
        minutes=estimate,
        run=run_one,
        told=where,
        out=out,
    )
    with Processes(workers, WORKER) as pool:
        studies.run(truths, pool, workers, minutes)
    if len(truths) == 1:
        _console().print(card(studies.found[0]))
    elif studies.found:
        _print(studies.found)
        _console().print(f"{counted(len(studies.found))} in {studies.took:.0f} min on {cores}")
    if studies.left_out:
        _console().print(
            f"left out, for want of time or because they failed: {', '.join(studies.left_out)}; run them with "
            "sooner lab NAME",
            soft_wrap=True,
        )


def counted(number: int) -> str:
    """Return "1 truth", "2 truths"."""
    return f"{number} truth{'' if number == 1 else 's'}"


def _print(found: list[Evidence]) -> None:
    from sooner.report.lab import told

    grid = Table("truth", "shown on", "not shown on", box=None, pad_edge=False)
    for evidence in sorted(found, key=lambda one: one.truth):
        grid.add_row(evidence.truth, *told(evidence))
    _console().print(grid)


def _failing(evidence: Evidence) -> str:
    shown = evidence.shown()
    should = [w for w in evidence.failing() if not shown[w]]
    should_not = [w for w in evidence.failing() if shown[w]]
    words = [f"not shown on {', '.join(should)}"] if should else []
    words += [f"shown on {', '.join(should_not)}, which is said not to show it"] if should_not else []
    return "; ".join(words)


def _console() -> Console:
    return Console(highlight=False)
