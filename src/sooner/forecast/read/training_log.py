"""Text logs of training loops: nanoGPT, llm.c, modded-nanogpt, and any that write step and loss on a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sooner.error import SoonerError
from sooner.forecast.read.delimited import open_text
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.rows import Row, gather
from sooner.forecast.table import Table

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf)"
_STEP = re.compile(r"\b(?:step|iter|iteration|s)\s*[:=]?\s*(\d+)(?:/\d+)?", re.IGNORECASE)
_VALIDATION = re.compile(r"\b(?:val(?:idation)?[_ ]?loss|val|tel)\s*[:=]?\s*" + _NUMBER, re.IGNORECASE)
_TRAINING = re.compile(r"\b(?:train(?:ing)?[_ ]?loss|loss|trl)\s*[:=]?\s*" + _NUMBER, re.IGNORECASE)
_RATE = re.compile(r"\b(?:lr|learning[_ ]rate)\s*[:=]?\s*" + _NUMBER, re.IGNORECASE)


def read_training_log(path: Path, given: Asked) -> Table:
    """Return the curve of a text log: its validation losses where it has some, else its training losses.

    Raises:
        SoonerError: no line has a step and a loss.
    """
    try:
        validation, rate = _has(path)
        headings = ["step", "loss", *(["lr"] if rate else [])]
        table = gather(path, headings, _rows(path, validation=validation, rate=rate), given)
    except UnicodeDecodeError as error:
        raise SoonerError(f"{path.name} can't be read as text ({error}); save it as UTF-8") from None
    return table.with_notes(f"{path.name}: {'validation' if validation else 'training'} losses of a text log")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with open_text(path) as file:
        yield from enumerate(file, start=1)


def _has(path: Path) -> tuple[bool, bool]:
    """Return whether the log has validation losses, and learning rates on the lines of the losses that count."""
    seen, rates = {True: 0, False: 0}, {True: 0, False: 0}
    for _, line in _lines(path):
        if _STEP.search(line) is None:
            continue
        for validation, pattern in ((True, _VALIDATION), (False, _TRAINING)):
            if pattern.search(line):
                seen[validation] += 1
                rates[validation] += _RATE.search(line) is not None
    validation = seen[True] >= 2
    if not seen[validation]:
        raise SoonerError(
            f"{path.name} has no line with a step and a loss, such as 'step 250: val loss 3.21'; give such a log, "
            "or csv or jsonl"
        )
    return validation, rates[validation] == seen[validation]


def _rows(path: Path, *, validation: bool, rate: bool) -> Iterator[Row]:
    pattern = _VALIDATION if validation else _TRAINING
    for number, line in _lines(path):
        step, loss = _STEP.search(line), pattern.search(line)
        if step is None or loss is None:
            continue
        found = _RATE.search(line) if rate else None
        yield number, [step[1], loss[1], *([found[1]] if found else [])]
