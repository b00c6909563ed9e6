"""What a decay of the learning rate brings, where no fitted curve has shown one yet.

Before its decay a run says nothing of the decay's gain, and a fit sets the coefficient to anything. So it gets a prior:
a full decay to zero lowers the loss of a language model by 4 %, within a factor of 3.2 at 90 % (1.3 to 13 %). Gemstones
(McLeish et al., 2025, arXiv 2502.06857) publish 199 cool-downs of 20 shapes of 48M to 2B parameters, each over a tenth
of the steps before it: they took 0.087 nats on average, 2.8 % of the loss, at most 3.6 %. Longer ones take more. Median
and spread are ours. A decay that ends above zero brings its share. `sooner.forecast.decide.gain_of_decay` learns the
gain from finished runs instead.
"""

from __future__ import annotations

import copy

import numpy as np

from sooner.forecast.formula import Prior
from sooner.forecast.law import Law
from sooner.forecast.laws.annealing import Annealing
from sooner.forecast.schedules import FULL
from sooner.forecast.table import Table

GAIN = 0.04
"""Share of the loss that a full decay to zero takes away: the median."""
SPREAD = 0.7
"""Deviation of its logarithm."""
SEEN = 0.5
"""Curves that show this share of the annealing ahead tell the gain themselves."""
_RELIABLE = 0.001
"""How far the law is off on smooth curves, relative: rows count for no more than that."""


def with_prior(law: Law, table: Table, at: Table) -> tuple[Law, list[str]]:
    """Return the law with a prior over the gain of the decay ahead, and what to say of it.

    Only `Annealing` takes one; it is returned as it is where nothing decays ahead, or where the table shows a decay.

    Args:
        law: the law.
        table: the curves it is fitted to.
        at: the run that is forecast, with its learning rates.
    """
    if not isinstance(law, Annealing) or "lr" not in at:
        return law, []
    ahead = law.prepare(at)[1]
    last = int(np.argmax(ahead))
    peak, low = float(at["lr"].max()), float(at["lr"][int(np.argmax(at["step"]))])
    if not ahead[last] > 0 or low >= FULL * peak:
        return law, []
    seen = float(law.prepare(table)[1].max(initial=0.0))
    if seen >= SEEN * ahead[last]:
        return law, []
    share = 1 - low / peak
    end = table.where(np.argsort(table["step"], kind="stable")[-max(3, len(table) // 10) :])
    loss = float(np.exp(np.mean(np.log(end["loss"]))))
    scatter = float(np.std(np.diff(np.log(end["loss"])))) / np.sqrt(2) if len(end) > 2 else 0.0
    made = copy.copy(law)
    centre = GAIN * share * loss / float(ahead[last])
    made.prior = Prior("C", centre, SPREAD, float(np.hypot(_RELIABLE, scatter)))
    middle, low_gain, high_gain = (GAIN * share * np.exp(k * 1.645 * SPREAD) for k in (0, -1, 1))
    known = "no decay of the learning rate" if seen < 0.02 * ahead[last] else "little of the decay"
    return made, [
        f"the curves show {known}: what it brings is taken from published runs ({100 * middle:.2g} % of the loss, "
        f"{100 * low_gain:.2g} to {100 * high_gain:.2g} % at 90 %); one finished run of this family, given along, "
        "narrows that to a fraction of a per cent"
    ]
