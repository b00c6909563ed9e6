"""The task of forecast_accuracy.py on routed models: what smaller ones say of the largest, at every number of experts.

routed_lm/curves.csv.gz is data/curves.csv.gz of github.com/google-deepmind/scaling_laws_for_routing (CC-BY 4.0), the
models of Clark et al., 2022, arXiv 2202.01169.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _forecast_rows import Row, at_most, coverage, covered, opened

from sooner.forecast.automatic import candidates
from sooner.forecast.fit import fit
from sooner.forecast.laws.mixture_of_experts import MixtureOfExperts
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.table import Table, table

ROUTERS = ("Hash", "S-Base", "RL-R")
USUAL = {"k": "1", "routing_frequency": "0.5", "flop_increase": "1.0"}
"""One expert per token in every other block: of the other models there are few."""
BORDERS = {"15M to 130M": 2e8, "15M to 370M": 6e8}
"""Sizes that are fitted, and the one above which all are predicted."""
FEWEST = 3
"""Sizes that a curve at one number of experts needs."""


def routed(folder: Path) -> Iterator[Row]:
    """Yield rows on the law that the columns choose, the one without a floor, and a curve per number of experts."""
    models = list(_models(folder))
    for sizes, border in BORDERS.items():
        errors: dict[str, list[float]] = {}
        alone: list[float] = []
        inside: list[float] = []
        for rows in models:
            known, far = rows.where(rows["parameters"] < border), rows.where(rows["parameters"] > border)
            (ours,) = candidates(known)
            for law in (ours, MixtureOfExperts()):
                done = fit(law, known)
                errors.setdefault(law.name, []).extend(np.abs(done.at(far) / far["loss"] - 1).tolist())
                if law is ours:
                    inside += covered(done, far).tolist()
            for count in np.unique(far["experts"]):
                own, ahead = known.where(known["experts"] == count), far.where(far["experts"] == count)
                if len(np.unique(own["parameters"])) >= FEWEST:
                    alone += np.abs(fit(PowerFloor("parameters"), own, draws=2).at(ahead) / ahead["loss"] - 1).tolist()
        goal = 100 * float(np.mean(alone))
        for name, off in errors.items():
            what = f"routed models, {sizes} predict {len(off)} larger, {name}, mean error"
            yield at_most(what, 100 * float(np.mean(off)), goal, " %", 3)
        yield coverage(f"routed models, {sizes}, {len(inside)} larger", np.array(inside))


def _models(folder: Path) -> Iterator[Table]:
    """Yield a table per router, with the dense models: the validation loss at the last step of each model."""
    ends: dict[tuple[str, str], dict[str, str]] = {}
    for row in opened(folder / "routed_lm/curves.csv.gz"):
        key = (row["hyper_id"], row["seed"])
        if key not in ends or float(row["step"]) > float(ends[key]["step"]):
            ends[key] = row
    usual = [row for row in ends.values() if all(row[key] == value for key, value in USUAL.items())]
    names = {"parameters": "dense_parameter_count", "experts": "num_experts", "loss": "loss_validation"}
    for router in ROUTERS:
        own = [row for row in usual if row["router_type"] in (router, "Dense")]
        yield table(**{name: [float(row[heading]) for row in own] for name, heading in names.items()})
