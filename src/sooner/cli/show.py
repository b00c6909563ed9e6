"""`sooner show`: the table and the report of a race, made again from its journal alone."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from sooner.cli.race import finish
from sooner.error import SoonerError
from sooner.race.journal import read


def show_race(folder: Path, *, open_browser: bool, as_json: bool) -> None:
    """Print a finished race and write its report.

    Raises:
        SoonerError: no race there, a damaged journal, or a race that is not finished.
    """
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
