"""Rows of few tokens, which no law in size and data describes: how many to leave out, found by leaving out the rest.

A law of final losses is a sum of powers; early in training losses fall otherwise, and where a table holds many such
rows they bend the law. On runs of 22 language models of 48M to 2B parameters (Gemstones, McLeish et al., 2025, arXiv
2502.06857) those up to 0.6B and 100 billion tokens predict those beyond 0.9B and 200 billion 2.3 % off, and 1.1 % off
by this rule; of other splits and sets it improves most and harms some (`benchmarks/forecast_accuracy.py`).
"""

from __future__ import annotations

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.check import SAME_SCALE
from sooner.forecast.fit import at_best
from sooner.forecast.law import Law
from sooner.forecast.table import Table
from sooner.forecast.transient import BETTER

SHARES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3)
"""Shares of the most tokens, up to which rows may be left out."""
BEYOND = 4.0
"""Rows of more compute than the most over this are predicted from the others."""
ROWS = 4
"""Rows for each parameter of the law that have to remain."""
SIZES = 3
"""Sizes that have to remain."""


def without_early(law: Law, table: Table) -> Table:
    """Return the table without the rows of few tokens, where that predicts larger runs clearly better; else as it is.

    Args:
        law: a law of the loss in parameters and tokens; for others the table stays as it is.
        table: a row for each run, or for each of several lengths of one.
    """
    if set(law.needs) != {"parameters", "tokens"} or law.target != "loss" or type(law).fit is not Law.fit:
        return table
    try:
        whole = table.require("parameters", "tokens", "compute", "loss")
    except SoonerError:
        return table  # the law says what is missing
    logs = np.log(whole["compute"])
    seen = whole.where(logs <= logs.max() - SAME_SCALE)  # the largest is what a check leaves out, and must not decide
    if not len(seen):
        return table
    inside = seen["compute"] <= seen["compute"].max() / BEYOND
    most = whole["tokens"].max()
    errors: dict[float, float] = {}
    chosen = 0.0
    for share in SHARES:
        late = seen["tokens"] > share * most
        known = seen.where(inside & late)
        if share and late.all():
            continue
        if len(known) < ROWS * len(law.parameters) or len(np.unique(known["parameters"])) < SIZES or inside.all():
            break
        try:
            far = seen.where(~inside)
            errors[share] = float(np.mean(np.abs(np.log(at_best(law, known, far) / far["loss"]))))
        except SoonerError:
            break
        if errors[share] < BETTER * errors[chosen]:
            chosen = share
    if not chosen:
        return table
    late = whole["tokens"] > chosen * most
    note = (
        f"{int((~late).sum())} of {len(table)} rows, of fewer than {chosen * most:.3g} tokens, are left out: the rest "
        f"predicts larger runs better ({100 * errors[chosen]:.2g} % off against {100 * errors[0.0]:.2g} %)"
    )
    return table.where(late).with_notes(note)
