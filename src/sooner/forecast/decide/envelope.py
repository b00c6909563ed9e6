"""The lower envelope of training curves: the lowest loss at every compute, and the model size that has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.table import FloatArray, Table


@dataclass(frozen=True)
class Envelope:
    """The envelope over bins of compute, and the power law of the size on it.

    Args:
        compute: (n,) centres of the bins, FLOP.
        loss: (n,) lowest loss up to there.
        parameters: (n,) size of the model that has it.
        exponent: of compute in the best size.
        amount: the factor.
    """

    compute: FloatArray
    loss: FloatArray
    parameters: FloatArray
    exponent: float
    amount: float


def envelope(table: Table, *, bins: int = 40) -> Envelope:
    """Return the envelope of training curves of several model sizes.

    Hoffmann et al., 2022, arXiv 2203.15556, approach 1. The bins at both ends, where only the smallest or the largest
    model has points, say nothing about the best size and are left out.

    Args:
        table: parameters, compute (or tokens) and loss along curves.
        bins: of compute, evenly in the logarithm.

    Raises:
        SoonerError: fewer than three model sizes, or too little compute in common.
    """
    table = table.require("parameters", "compute", "loss")
    sizes = np.unique(table["parameters"])
    if len(sizes) < 3:
        raise SoonerError(f"an envelope needs three or more model sizes; there are {len(sizes)}")
    logs = np.log(table["compute"])
    edges = np.linspace(logs.min(), logs.max(), bins + 1)
    which = np.clip(np.digitize(logs, edges) - 1, 0, bins - 1)
    compute, loss, best = [], [], []
    for one in range(bins):
        rows = np.flatnonzero(which == one)
        if rows.size:
            lowest = rows[int(np.argmin(table["loss"][rows]))]
            compute.append(np.exp((edges[one] + edges[one + 1]) / 2))
            loss.append(table["loss"][lowest])
            best.append(table["parameters"][lowest])
    sizes_on = np.array(best)
    inner = (sizes_on > sizes[0]) & (sizes_on < sizes[-1])
    if inner.sum() < 3:
        raise SoonerError(
            "the lowest losses belong to the smallest or the largest model almost everywhere; add sizes between them, "
            "or longer runs"
        )
    exponent, offset = np.polyfit(np.log(np.array(compute)[inner]), np.log(sizes_on[inner]), 1)
    return Envelope(np.array(compute), np.array(loss), sizes_on, float(exponent), float(np.exp(offset)))
