"""Text logs of training loops: nanoGPT, llm.c, modded-nanogpt, and any that write step and loss on a line."""

from __future__ import annotations

import re
from pathlib import Path

from sooner.error import SoonerError
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.rows import gather
from sooner.forecast.read.runs import refuse_backward
from sooner.forecast.read.text import opened
from sooner.forecast.read.thin import Backward, Thinned
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
    found = {"validation": Thinned(), "training": Thinned()}
    backward = {"validation": Backward(), "training": Backward()}
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            validation, training = _VALIDATION.search(line), _TRAINING.search(line)
            if validation is None and training is None:
                continue
            step = _STEP.search(line)
            if step is None:
                continue
            rate = _RATE.search(line)
            for kind, loss in (("validation", validation), ("training", training)):
                if loss is not None:
                    backward[kind].add("", float(step[1]))
                    found[kind].add((number, [step[1], loss[1], rate[1] if rate else None]))
    kind = "validation" if found["validation"].count >= 2 else "training"
    kept = found[kind].rows
    if not kept:
        raise SoonerError(
            f"{path.name} has no line with a step and a loss, such as 'step 250: val loss 3.21'; give such a log, "
            "or csv or jsonl"
        )
    refuse_backward(path.name, backward[kind], found[kind])
    headings = ["step", "loss", "lr"]
    if any(cells[2] is None for _, cells in kept):
        headings, kept = headings[:2], [(number, cells[:2]) for number, cells in kept]
    table = gather(path, headings, kept, given)
    return table.with_notes(*found[kind].note(path.name), f"{path.name}: {kind} losses of a text log")
