"""What the tasks of forecast_accuracy.py share: rows of the answer, and reading the public files."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sooner.forecast.fitted import Fit
from sooner.forecast.table import FloatArray, Table

Row = tuple[str, str, str, bool | None]
"""What, the figure here, the figure to reach, and whether it was reached (None where there is none to reach)."""

LEVEL = 0.9
LEAST, MOST = 80, 97
"""Per cent of held-out losses that bands with this nominal level are to cover."""


def at_most(what: str, value: float, goal: float, unit: str = "", digits: int = 4) -> Row:
    """Return a row whose figure is to be at most the goal, at the goal's own precision: goals are printed figures."""
    places = len(f"{goal:.10g}".partition(".")[2])
    return what, f"{value:.{digits}g}{unit}", f"<= {goal:g}{unit}", round(value, places) <= goal


def coverage(what: str, inside: FloatArray) -> Row:
    """Return a row on the share of held-out losses (ones of zeros and ones) that lay inside their bands."""
    share = 100 * float(np.mean(inside))
    return f"{what}, coverage at {LEVEL:.0%}", f"{share:.0f} %", f"{LEAST} to {MOST} %", LEAST <= share <= MOST


def covered(fitted: Fit, rows: Table) -> FloatArray:
    """Return (n,) ones where the band holds the loss, else zeros."""
    band = fitted.predict(rows, LEVEL)
    return np.where((band.low <= rows["loss"]) & (rows["loss"] <= band.high), 1.0, 0.0)


def opened(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a csv file, gzipped or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        yield from csv.DictReader(file)
