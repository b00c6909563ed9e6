"""The 104 over-trained models that Gadre et al. (2024, arXiv 2403.08540) published, and their chain of two laws."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import numpy as np
from _forecast_rows import opened

from sooner.forecast.laws.loss_to_error import LossToError
from sooner.forecast.laws.overtraining import Overtraining
from sooner.forecast.laws.task_ladder import FittedLadder, TaskLadder
from sooner.forecast.table import Table, table

Run = tuple[str, float]
"""Model, and its tokens as a multiple of 20 per parameter."""

ONCE = ("d=96_l=8_h=4", "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8")
FITTED = frozenset({*((model, 1.0) for model in ONCE), (ONCE[0], 16.0)})
"""The five runs that the paper fits its law of the loss to."""
LARGER = ("open_lm_1b", 1.0)
"""The one run more that its law of the error sees."""
TASKS = (
    "bigbench_operators",
    "pubmed_qa_labeled",
    "hellaswag_zeroshot",
    "boolq",
    "arc_easy",
    "coqa",
    "bigbench_dyck_languages",
    "lambada_openai",
    "bigbench_novel_concepts",
    "winograd",
    "bigbench_cs_algorithms",
    "commonsense_qa",
    "bigbench_qa_wikidata",
    "hellaswag",
    "copa",
    "squad",
    "piqa",
)
"""The tasks of the paper's 17-task average, chosen there because small models are above chance on them."""


def runs(folder: Path, data: str, chosen: Set[Run], *, without: bool = False) -> Table:
    """Return the chosen runs on a training set, or with `without` all others; `folder` holds the public curves."""
    rows = [row for row in opened(folder / "gadre_testbed/testbed.csv") if row["train_set"] == data]
    kept = [row for row in rows if ((row["model"], float(row["chinchilla_mult"])) in chosen) is not without]
    return table(
        [row["name"] for row in kept],
        parameters=[float(row["N"]) for row in kept],
        tokens=[float(row["D"]) for row in kept],
        loss=[float(row["loss_c4_val"]) for row in kept],
        error=[np.mean([float(row[f"err_{task}"]) for task in TASKS]) for row in kept],
    )


def ladder(folder: Path) -> FittedLadder:
    """Return the paper's chain from size and tokens to loss, and from loss to the mean error of its tasks."""
    five, six = (runs(folder, "rpj", chosen) for chosen in (FITTED, FITTED | {LARGER}))
    return TaskLadder(Overtraining(), LossToError(), average=1, skip=0.0).fit(five, six)
