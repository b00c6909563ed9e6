"""`sooner show`: a race's table and report, or a claim's card, made again from the journal alone."""

from __future__ import annotations

import json
import webbrowser
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from sooner.claims import _evidence
from sooner.cli.race import finish
from sooner.cli.sizes import show_sizes
from sooner.error import SoonerError
from sooner.race.journal import FILE, read
from sooner.report.claim import card
from sooner.report.html import finite

EVIDENCE = "evidence.jsonl"


def show_race(folder: Path, *, open_browser: bool, as_json: bool) -> None:
    """Print a finished race and write its report, or print the card of a finished claim.

    Raises:
        SoonerError: no race there, a damaged journal, or a race that is not finished.
    """
    if folder.suffix == ".jsonl" or (folder / EVIDENCE).is_file():
        _show_claim(folder if folder.suffix == ".jsonl" else folder / EVIDENCE, as_json=as_json)
        return
    if not (folder / FILE).exists() and any(folder.glob(f"size-*/{FILE}")):
        page = show_sizes(folder, as_json=as_json)
        if open_browser:
            webbrowser.open(page.resolve().as_uri())
        return
    journal = read(folder)
    result = journal.find("result", "result")
    if result is None:
        cells = len(journal.all("cell"))
        command = journal.sessions[-1].data.get("command") or "the command that started it"
        raise SoonerError(f"the race in {folder} is not finished (cells done: {cells}); go on with: {command}")
    result["notes"] = [*result["notes"], *journal.notes]
    page = finish(result, folder, as_json=as_json)
    if open_browser:
        webbrowser.open(page.resolve().as_uri())


def _show_claim(path: Path, *, as_json: bool) -> None:
    evidence = _evidence.read(path)
    if as_json:
        print(json.dumps(finite(asdict(evidence)), indent=1, allow_nan=False))
    else:
        Console(highlight=False).print(card(evidence))
