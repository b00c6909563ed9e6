"""A learning-rate schedule from a file of steps and rates."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.read.names import ALIASES, plain
from sooner.forecast.schedules import Schedule, of_knots, parse
from sooner.forecast.table import listed

SUFFIXES = (".csv", ".tsv", ".txt")


def schedule_of(text: str, *, total: float | None = None, peak: float | None = None) -> Schedule:
    """Return the schedule that a text means: a file of steps and rates by its ending, else words; see `parse`.

    Args:
        text: FILE.csv with the headings step and lr (or other names of them), or KIND:NAME=VALUE,...
        total: steps, where words do not say them.
        peak: largest learning rate, where words do not say it.

    Raises:
        SoonerError: the file can't be read, lacks one of the columns, or words can't be parsed.
    """
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        return parse(text, total=total, peak=peak)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SoonerError(f"the schedule {text!r} can't be read: {error}; give a csv file with step and lr") from None
    headings = [one.strip() for one in rows[0]] if rows else []
    at = {}
    for column in ("step", "lr"):
        found = [k for k, heading in enumerate(headings) if plain(heading) in ALIASES[column]]
        if not found:
            raise SoonerError(f"the schedule {text!r} has no heading {column}; it has {listed(headings) or 'none'}")
        at[column] = found[0]
    values = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            values.append([float(row[at["step"]]), float(row[at["lr"]])])
        except (ValueError, IndexError):
            raise SoonerError(
                f"line {number} of the schedule {text!r} has no step and learning rate; mend or drop it"
            ) from None
    steps, rates = np.array(values, dtype=np.float64).reshape(-1, 2).T
    return of_knots(steps, rates, path.name)
