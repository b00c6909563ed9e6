"""`sooner claim`: say what will be run and how long it takes, run it, print the verdict, write the evidence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from sooner import claims
from sooner.error import SoonerError

if TYPE_CHECKING:
    from sooner.claims._claim import Claim
    from sooner.race.pool import Pool
    from sooner.watch import Watch


def list_claims() -> None:
    """Print every claim with its headline's verdict, without importing PyTorch more than needed."""
    from sooner.claims import _evidence

    grid = Table("claim", box=None, pad_edge=False)
    grid.add_column("verdict", max_width=len("(older than the code)"))
    grid.add_column("headline")
    for name in claims.names():
        evidence = _evidence.find(name)
        said = evidence.said["headline"] if evidence else claims.load(name).headline
        grid.add_row(name, verdict_of(evidence).replace(" (", "\n("), said)
    _console().print(grid)


def verdict_of(evidence: object) -> str:
    """Return the verdict of published evidence, or that there is none."""
    from sooner.claims._evidence import Evidence

    if not isinstance(evidence, Evidence):
        return "not run yet"
    return f"{evidence.verdict} (older than the code)" if evidence.older_than_code() else evidence.verdict


def check_claims(jobs: int | None = None) -> bool:
    """Print which evidence is missing or no longer holds for the code; return whether all is in order.

    Files are compared first. Where they differ, the first steps of every arm are run again: evidence whose arms behave
    as they did still holds, and `confirm_claims` writes that down.
    """
    from sooner.claims import _evidence

    console, sound = _console(), True
    found = {name: _evidence.find(name) for name in claims.names()}
    older = {name for name, evidence in found.items() if evidence and evidence.older_than_code()}
    reasons = _not_confirmed([found[name] for name in sorted(older)], jobs)
    for name, evidence in found.items():
        if evidence is None:
            says = f"no evidence; run `sooner claim {name}`"
        elif name in older and reasons[name]:
            says = f"older than {', '.join(evidence.older_than_code())}: {reasons[name]}; run `sooner claim {name}`"
        elif name in older:
            console.print(f"{name}: edited, and behaves as before; `sooner claim {name} --confirm` writes that down")
            continue
        else:
            continue
        sound = False
        console.print(f"{name}: {says}", markup=False, soft_wrap=True)
    if sound:
        console.print(f"the evidence of all {len(claims.names())} claims is of the code as it stands")
    return sound


def confirm_claims(names: list[str], jobs: int | None = None, publish: Path | None = None) -> bool:
    """Write into evidence that is older than its code that the code behaves as before, where it does.

    Args:
        names: of claims; none for all.
        jobs: worker processes.
        publish: folder of the evidence; None for where the published one lies.

    Returns:
        Whether all of it could be confirmed.

    Raises:
        SoonerError: an unknown name, or a claim without evidence.
    """
    from sooner.claims import _evidence
    from sooner.claims._evidence import write

    console = _console()
    for name in names:
        claims.load(name)
    missing = [name for name in names if _evidence.find(name) is None]
    if missing:
        raise SoonerError(f"{missing[0]} has no evidence to confirm; run `sooner claim {missing[0]}`")
    chosen = [_evidence.find(name) for name in (names or _evidence.published()) if name in claims.names()]
    older = [evidence for evidence in chosen if evidence and evidence.older_than_code()]
    confirmed: list[object] = []
    reasons = _not_confirmed(older, jobs, confirmed)
    for evidence in confirmed:
        assert isinstance(evidence, _evidence.Evidence)
        write(evidence, (publish or _evidence.folder()) / f"{evidence.claim}.jsonl")
        console.print(f"{evidence.claim}: behaves as before, confirmed")
    for name, why in reasons.items():
        if why:
            console.print(f"{name}: {why}; run `sooner claim {name}`", markup=False, soft_wrap=True)
    if not older:
        console.print("nothing is older than its code")
    return not any(reasons.values())


def _not_confirmed(older: Sequence[object], jobs: int | None, confirmed: list[object] | None = None) -> dict[str, str]:
    """Return by claim why its evidence does not hold for the code as it stands, "" where it does."""
    if not older:
        return {}
    from sooner.claims._evidence import Evidence
    from sooner.claims._freshness import confirm
    from sooner.claims._run import WORKER
    from sooner.race.engines.processes import Processes

    reasons = {}
    with Processes(jobs or os.cpu_count() or 1, WORKER) as pool:
        for evidence in older:
            assert isinstance(evidence, Evidence)
            if evidence.claim not in claims.names():
                reasons[evidence.claim] = "its claim is gone"
                continue
            renewed, reasons[evidence.claim] = confirm(evidence, pool)
            if renewed is not None and confirmed is not None:
                confirmed.append(renewed)
    return reasons


def run_claims(
    names: list[str], *, out: Path, jobs: int | None, publish: Path | None, minutes: float | None, series: int
) -> None:
    """Run claims one after the other, as many as fit into `minutes`, and print each verdict.

    Raises:
        SoonerError: anything the user can mend.
    """
    if publish and series:
        raise SoonerError(f"--series {series} checks the published evidence on other seeds; leave --publish out")
    from sooner.claims._evidence import Evidence, write
    from sooner.claims._run import WORKER, run
    from sooner.cli.studies import Studies
    from sooner.race.engines.processes import Processes
    from sooner.report.claim import card

    chosen = [claims.load(name).on_series(series) for name in names]
    workers = jobs or os.cpu_count() or 1

    def estimate(claim: Claim) -> float:
        return claim.minutes * 2 / workers

    def introduced(claim: Claim) -> list[str]:
        about = f"about {estimate(claim):.0f} min on {workers} cores, less what is already there"
        return [f"[bold]{claim.part}[/bold]: {claim.headline}", about]

    def run_one(claim: Claim, watch: Watch, pool: Pool) -> Evidence:
        command = f"sooner claim {claim.part}"
        evidence = run(claim, out, jobs=workers, command=command, watch=watch, pool=pool)
        if publish:
            write(evidence, publish / f"{claim.part}.jsonl")
        return evidence

    studies = Studies(
        name=lambda claim: claim.part,
        introduced=introduced,
        minutes=estimate,
        run=run_one,
        told=lambda evidence: f"{evidence.claim}: {evidence.verdict}",
        out=out,
    )
    with Processes(workers, WORKER) as pool:
        studies.run(chosen, pool, workers, minutes)
    if len(chosen) == 1:
        _console().print(card(studies.found[0]))
    else:
        grid = Table("claim", "verdict", box=None, pad_edge=False)
        for evidence in studies.found:
            grid.add_row(evidence.claim, evidence.verdict)
        _console().print(grid)
        _console().print(f"{len(studies.found)} claims in {studies.took:.0f} min on {workers} cores")
    if studies.left_out:
        _console().print(
            f"left out, for want of time or of a package: {', '.join(studies.left_out)}; run them with "
            "sooner claim NAME",
            soft_wrap=True,
        )


def _console() -> Console:
    return Console(highlight=False)
