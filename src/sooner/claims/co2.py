"""Averages that are used one window late cost nobody any time."""

from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Measured, Measurement
from sooner.claims._clusters import ARMS, DILOCO, FP16, LOCAL, SILENT, SNOO, WINDOW, workers
from sooner.claims._findings import Findings, times
from sooner.claims._quadratics import Quadratics, exchange_of
from sooner.claims._regimes import averaging_shows, workers_regime
from sooner.communication._outer import Window
from sooner.communication.co2 import CO2

LATE = f"adamw + co2(every={WINDOW}, momentum=0.0)"
SLOW = 8
"""Steps that take as long as an average."""
SECONDS = {"adamw": 1 + SLOW, LOCAL: 1 + SLOW / WINDOW, DILOCO: 1 + SLOW / WINDOW, LATE: max(1, SLOW / WINDOW)}
"""Per step, in steps."""


def late(seed: int, rounds: int) -> dict[str, Any]:
    """Return how far CO2 without momentum and penalty is from local steps whose averages arrive a window late."""
    problem, exchange = Quadratics(seed, 4, 20), exchange_of("dense", 4, 20)
    outer, state = CO2(every=5, penalty=1.0, clip=1e9), {"momentum": torch.zeros(20, dtype=torch.float64)}
    x = y = torch.zeros(20, dtype=torch.float64)
    moved: list[torch.Tensor] = []
    for number in range(1, rounds + 1):
        ours, theirs = x.expand(4, -1), y.expand(4, -1)
        for _ in range(5):
            ours, theirs = ours - 0.3 * problem.gradients(ours), theirs - 0.3 * problem.gradients(theirs)
        x = outer.step(Window(x, ours, state, exchange, number, 5 * number))
        moved.append(theirs.mean(0) - y)
        if number != 2:  # the first window is waited for, so that none arrives at the end of the second
            y = y + moved[max(0, number - 2)]
    return {"apart": float((x - y).norm() / y.norm())}


def _time(f: Findings, against: str | None) -> Measured:
    """Return the ratio of simulated time to the middle target."""
    return times(f.steps_ratio("race", LATE, against), SECONDS[LATE] / SECONDS[against or "adamw"])


CLAIM = Claim(
    part="co2",
    paper="co2",
    headline="Communication overlaps fully with local steps, and accuracy is on par with AdamW.",
    source="Sun et al., 2024, arXiv 2401.16265, abstract",
    experiment=(
        "A perceptron is trained on digits by four workers with windows of 12 steps on a simulated clock where an "
        "average takes as long as 8 steps: time to the loss that the tuned baseline reaches. Beside it, on quadratic "
        "losses, CO2 without momentum and penalty against local steps with late averages, written out."
    ),
    baseline="AdamW with averaged gradients, local SGD and DiLoCo at the same interval, all tuned alike.",
    experiments={
        "race": workers(ARMS, DILOCO, LATE),
        "late": Measurement(late, [{"seed": s, "rounds": 30} for s in range(3)], [{"seed": 0, "rounds": 4}]),
    },
    criteria=[
        Criterion("at most 0.5x of the time of AdamW to the middle target", lambda f: _time(f, None), at_most=0.5),
        Criterion(
            "at most 0.8x of the time of local SGD, which waits", lambda f: _time(f, LOCAL), at_most=0.8, gain=True
        ),
        Criterion(
            "it ends at most 1.02x as high as DiLoCo",
            lambda f: f.final_ratio("race", LATE, against=DILOCO),
            at_most=1.02,
            paper="1x",
        ),
        Criterion(
            "without momentum and penalty it is local SGD with late averages: at most 1e-12 apart",
            lambda f: f.largest("late", "apart"),
            at_most=1e-12,
            control=True,
        ),
        averaging_shows("race", LOCAL, SILENT),
    ],
    trend={
        "steps over AdamW": lambda f: f.steps_ratio("race", LATE),
        "steps over local SGD": lambda f: f.steps_ratio("race", LATE, against=LOCAL),
        "final loss over no communication": lambda f: f.final_ratio("race", LATE, against=SILENT),
        "float16, steps": lambda f: f.steps_ratio("race", FP16),
        "outer momentum without local steps": lambda f: f.steps_ratio("race", SNOO),
    },
    regime=workers_regime(
        "ResNet, ViT and Transformers of up to 7B parameters on up to 128 accelerators, decayed rates",
        "AdamW on a language model from random weights, as there; four workers, 50 windows and constant rates",
    ),
    minutes=8,
    limits="The clock is a model. Fifty windows in all, of which one is always on its way.",
)
