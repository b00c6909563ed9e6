"""How a command ends that has an answer: on the screen or as JSON, and as a page in the folder of its races."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from sooner.report.forecast import page, terminal
from sooner.report.forecast.answer import Answer
from sooner.report.html import finite


def show_answer(answer: Answer, folder: Path, *, as_json: bool) -> Path:
    """Show an answer and write its page; what was found is on the screen before that can fail.

    Args:
        answer: what was found.
        folder: of its races, where ``report.html`` goes.
        as_json: print JSON and nothing else.

    Raises:
        SoonerError: the page can't be written.
    """
    console = Console(highlight=False)
    if as_json:
        print(json.dumps(finite(answer.json()), indent=1, allow_nan=False))
    else:
        terminal.show(answer, console)
    written = page.write(answer, folder / "report.html")
    if not as_json:
        console.print(f"report: {written}", soft_wrap=True, markup=False)
    return written
