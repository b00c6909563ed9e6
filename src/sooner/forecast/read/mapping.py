"""Which heading of a file is which column: a list of what people write, shown when used, and overridden by the user."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sooner.error import SoonerError, nearest
from sooner.forecast.table import listed

ALIASES: dict[str, tuple[str, ...]] = {
    "step": ("step", "steps", "globalstep", "iter", "iteration", "iterations", "trainerglobalstep", "update", "s"),
    "loss": (
        *("valloss", "validationloss", "evalloss", "losscval", "testloss", "loss", "trainloss", "trainingloss"),
        *("crossentropy", "ce", "finalloss", "finalval", "finalvalloss"),
    ),
    "lr": ("lr", "learningrate", "optimlearningrategroup0", "lrrate"),
    "parameters": ("parameters", "params", "nparams", "numparams", "modelsize", "size", "n", "nparameters"),
    "tokens": (
        *("tokens", "ntokens", "trainingtokens", "totaltokens", "throughputtotaltokens", "d"),
        *("seenexamples", "samples"),
    ),
    "compute": ("compute", "flop", "flops", "trainingflop", "trainingflops", "flops6nd", "c", "totalflops"),
    "batch": ("batch", "batchsize", "globalbatchsize", "batchsizeintokens", "bs"),
    "unique_tokens": ("uniquetokens", "uniquedata", "u"),
    "experts": ("experts", "nexperts", "numexperts", "e"),
    "width": ("width", "dmodel", "hiddensize", "nembd"),
    "error": ("error", "err", "errorrate"),
    "accuracy": ("accuracy", "acc", "valaccuracy"),
    "seconds": ("seconds", "time", "timeseconds", "traintimes", "submissiontimes", "walltime", "runtime"),
    "run": ("run", "runname", "runid", "name", "model", "trial", "seed"),
}
"""Headings in lower case without punctuation, the preferred one first."""
KINDS = ("model", "trial", "seed")
"""Headings that name runs among curves; in a table of final losses they name kinds of runs, with a run in each row."""


@dataclass(frozen=True)
class Asked:
    """What the user says about the files.

    Args:
        columns: heading by column; for run also several headings, joined by +.
        where: the text that a heading's cells must be, by heading; other rows are left out.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)


def plain(heading: str) -> str:
    """Return a heading as `ALIASES` has it."""
    return re.sub(r"[^a-z0-9]", "", heading.lower())


def find(headings: Sequence[str], asked: Asked, where: str) -> tuple[dict[str, str], list[str]]:
    """Return heading by column, and notes on what was chosen where the heading reads otherwise.

    Args:
        headings: of the file.
        asked: what the user says.
        where: the file, for messages.

    Raises:
        SoonerError: a heading that the user names is not there, a column whose name is misspelt, or a heading twice.
    """
    double = sorted({heading for heading in headings if headings.count(heading) > 1})
    if double:
        raise SoonerError(f"{where} has the heading {double[0]!r} twice; rename one of them")
    given = asked.columns
    for column in given:
        if column not in ALIASES and column not in headings and (meant := nearest(column, ALIASES)):
            raise SoonerError(
                f"--column names {column!r}, which no law reads{meant}; the columns are {', '.join(ALIASES)}"
            )
    for heading in (*asked.where, *(part for one in given.values() for part in parts(one, headings))):
        if heading not in headings:
            raise SoonerError(
                f"{where} has no heading {heading!r}{nearest(heading, headings)}; it has {listed(headings)}"
            )
    chosen, notes = dict(given), []
    taken = set(given.values())
    for column, aliases in ALIASES.items():
        if column in chosen:
            continue
        free = [(i, h) for i, h in enumerate(headings) if plain(h) in aliases and h not in taken]
        if column == "run" and "step" not in chosen:
            free = [(i, h) for i, h in free if plain(h) not in KINDS]
        ranked = sorted((aliases.index(plain(h)), i, h) for i, h in free)
        if not ranked:
            continue
        heading = ranked[0][2]
        chosen[column] = heading
        taken.add(heading)
        others = ", ".join(repr(h) for *_, h in ranked[1:])
        also = f" (not {others}; --column {column}=HEADING chooses)" if others else ""
        if heading != column or others:
            notes.append(f"{column} is read from {heading!r}{also}")
    return chosen, notes


def parts(heading: str, headings: Sequence[str]) -> list[str]:
    """Return the headings that a text names: itself, or those that it joins by +."""
    return [heading] if heading in headings else [one.strip() for one in heading.split("+")]
