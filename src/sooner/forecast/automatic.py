"""Which laws a table can be given to, where the user names none; what leaving out shows then chooses among them."""

from __future__ import annotations

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.consensus import Consensus
from sooner.forecast.law import Law
from sooner.forecast.laws.annealing import Annealing
from sooner.forecast.laws.broken_power import BrokenPower
from sooner.forecast.laws.chinchilla import Chinchilla
from sooner.forecast.laws.data_constrained import DataConstrained
from sooner.forecast.laws.loss_to_accuracy import LossToAccuracy
from sooner.forecast.laws.loss_to_error import LossToError
from sooner.forecast.laws.m4 import M4
from sooner.forecast.laws.mixture_of_experts import MixtureOfExperts
from sooner.forecast.laws.mixture_of_experts_floor import MixtureOfExpertsFloor
from sooner.forecast.laws.multi_power import MultiPower
from sooner.forecast.laws.overtraining import Overtraining
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.laws.river_valley import RiverValley
from sooner.forecast.table import Table, listed

_DENSE = 3
"""From this many rows per run on, a table with steps holds curves, not final losses."""
_SAME = 1.01
"""A column whose values lie within this factor does not change."""
_SIZES = 3
"""A floor and an exponent need so many sizes of models."""


def of_curves(table: Table) -> list[Law]:
    """Return the laws for loss curves: those in the learning rate where it is known and changes."""
    if "lr" not in table:
        return [PowerFloor("step")]
    # one curve does not hold seven parameters: measured in benchmarks/forecast_accuracy.py
    return [Annealing(), MultiPower(), RiverValley()] if len(table.runs) > 1 else [Annealing()]


def candidates(table: Table, over: str | None = None) -> list[Law]:
    """Return the laws that fit the table's columns, the plainest first.

    Args:
        table: measurements.
        over: the column to forecast along; left out, the table's columns decide.

    Raises:
        SoonerError: there is neither a loss nor an accuracy to predict, or nothing to predict it from.
    """
    if over is not None:
        return _in_one(over, len(table))
    if (
        "loss" in table
        and ("accuracy" in table or "error" in table)
        and not {"tokens", "parameters"} & {*table.columns}
    ):
        return [LossToAccuracy()] if "accuracy" in table else [LossToError()]
    if "loss" not in table:
        raise SoonerError(
            f"there is no loss to predict{_like(table)}; the columns are {listed(table.columns)}: name it with "
            "--column loss=HEADING"
        )
    if "step" in table and len(table) >= _DENSE * len(table.runs):
        return of_curves(table)
    varied = [n for n in ("parameters", "tokens", "compute") if n in table and len(np.unique(table[n])) > 1]
    if "experts" in table and "parameters" in table and len(np.unique(table["experts"])) > 1:
        return [_of_experts(table)]
    if len(varied) >= 2 and ("unique_tokens" in table or "epoch" in table):
        whole = table.require("tokens", "unique_tokens")
        if (whole["tokens"] > _SAME * whole["unique_tokens"]).any():
            return [DataConstrained()]
    if len(varied) >= 2:
        return [Chinchilla(), Overtraining()]
    if varied:
        return _in_one(varied[0], len(table))
    if "step" in table and len(np.unique(table["step"])) > 1:
        return of_curves(table)
    raise SoonerError(
        f"nothing in {listed(table.columns)} changes along which a loss could be forecast; add parameters, tokens, "
        "compute or steps, or name one with --over"
    )


def unread(law: Law, table: Table) -> dict[str, tuple[float, float]]:
    """Return the columns that change between final losses and that the law does not read, with their ends.

    A law in one quantity is meant to leave sizes and tokens out, but not experts or passes over the same data.
    """
    if law.target != "loss" or "step" in law.needs:
        return {}
    names = ["experts"] if len(law.needs) == 1 else ["parameters", "tokens", "experts"]
    found = {name: (float(table[name].min()), float(table[name].max())) for name in names if name in table}
    try:
        whole = table.require("tokens", "unique_tokens")
        passes = whole["tokens"] / whole["unique_tokens"]
        found["unique_tokens" if "unique_tokens" in table else "epoch"] = (1.0, max(1.0, float(passes.max())))
    except SoonerError:
        pass
    read = {*law.needs, *(("epoch",) if "unique_tokens" in law.needs else ())}
    return {name: ends for name, ends in found.items() if name not in read and ends[1] > _SAME * ends[0]}


def _of_experts(table: Table) -> Law:
    """Return the law with a floor, as all laws of losses that are tried unasked, where the sizes can show one.

    Leaving out the largest of a few sizes leaves too few for a floor, and would choose the law without.
    """
    law = MixtureOfExpertsFloor()
    enough = len(np.unique(table["parameters"])) >= _SIZES and len(table) >= 2 * len(law.parameters)
    return law if enough else MixtureOfExperts()


def _like(table: Table) -> str:
    """Return the columns that may be a loss, in a clause."""
    near = [
        name for name in table.columns if any(word in name.lower() for word in ("loss", "_ce", "bpb", "perplexity"))
    ]
    return f" (is it {' or '.join(near[:4])}?)" if near else ""


def _in_one(over: str, rows: int) -> list[Law]:
    laws: list[Law] = [PowerFloor(over), M4(over), BrokenPower(over)]
    kept = [law for law in laws if rows >= 2 * len(law.parameters)] or laws[:1]
    return [*kept, Consensus(over)] if len(kept) > 1 else kept
