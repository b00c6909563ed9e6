"""One row for each model size and number of tokens: sweeps over learning rate and batch are no runs."""

from __future__ import annotations

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.table import Table, listed

SAME = 1e-3
"""Sizes and tokens within this share of each other, in logarithm, are one cell."""
SEEDS = 0.01
"""Losses of one cell within this share of the lowest may be seeds of one run."""


def one_per_cell(table: Table) -> Table:
    """Return the table with the lowest loss of every (parameters, tokens) cell, where cells hold sweeps; else as it is.

    Rows that are equal count once. Seeds of a run, whose losses lie within 1 %, all stay.

    Args:
        table: parameters, tokens or compute, and loss of finished runs.

    Raises:
        SoonerError: a cell has different losses, and neither lr nor batch tells them apart.
    """
    table = table.require("parameters", "tokens", "loss")
    settings = [name for name in ("lr", "batch") if name in table and len(np.unique(table[name])) > 1]
    others = [name for name in table.columns if name not in ("parameters", "tokens", "compute", "loss", *settings)]
    logs = np.round(np.log(np.stack([table["parameters"], table["tokens"]], 1)) / SAME)
    _, which = np.unique(logs, axis=0, return_inverse=True)
    which = which.ravel()
    kept: list[int] = []
    equal = swept = 0
    for cell in range(int(which.max(initial=-1)) + 1):
        rows = np.flatnonzero(which == cell)
        if len(rows) > 1:
            values = np.stack([table[name][rows] for name in ("loss", *settings, *others)], 1)
            _, first = np.unique(values, axis=0, return_index=True)
            equal += len(rows) - len(first)
            rows = rows[np.sort(first)]
        loss = table["loss"][rows]
        if len(rows) > 1 and any(len(np.unique(table[name][rows])) > 1 for name in settings):
            swept += len(rows) - 1
            rows = rows[[int(np.argmin(loss))]]
        elif len(rows) > 1 and loss.max() > (1 + SEEDS) * loss.min():
            differ = [name for name in others if len(np.unique(table[name][rows])) > 1]
            apart = f"; {listed(differ)} differ between them" if differ else ""
            raise SoonerError(
                f"{len(rows)} rows with {table['parameters'][rows[0]]:.4g} parameters and "
                f"{table['tokens'][rows[0]]:.4g} tokens have losses from {loss.min():.4g} to {loss.max():.4g}{apart}; "
                "keep those of one kind (a data set, a split, a variant) with --where HEADING=TEXT"
            )
        kept += rows.tolist()
    notes = []
    if equal:
        notes.append(f"{equal} rows that were there twice count once")
    if swept:
        notes.append(
            f"of each size and number of tokens the lowest loss counts: {swept} rows with another "
            f"{' or '.join(settings)} are left out"
        )
    return table.where(np.array(sorted(kept), dtype=np.intp)).with_notes(*notes) if notes else table
