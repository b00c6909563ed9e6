"""With StableMax a network generalises on a grokking task without any regularisation."""

from functools import cache
from typing import Any

from sooner import loop, workloads
from sooner.claims._claim import Claim, Criterion, Measurement, Regime

RECIPES = {
    "plain": "adamw(lr={}, weight_decay=0.0)",
    "stablemax": "stablemax + adamw(lr={}, weight_decay=0.0)",
    "decay": "adamw(lr={}, weight_decay=1.0)",
}
RATES = (0.001, 0.003, 0.01)
TUNED = 50_000
"""The seed that chooses learning rates; the reported seeds are others."""


def wrong(arm: str, lr: float, seed: int, steps: int) -> float:
    """Return the share of wrong held-out sums at the end of a run; 1 for one that diverged."""
    run = loop.train(workloads.find("modular"), RECIPES[arm].format(lr), seed, steps, evaluate_at=[steps])
    return run.values[-1] if run.diverged_at is None else 1.0


@cache
def best_rate(arm: str, steps: int) -> float:
    """Return the learning rate with the fewest wrong sums on the tuning seed."""
    return min(RATES, key=lambda rate: wrong(arm, rate, TUNED, steps))


def generalise(arm: str, seed: int, steps: int) -> dict[str, Any]:
    """Train with the learning rate that is best on the tuning seed."""
    lr = best_rate(arm, steps) if steps > 20 else RATES[0]
    return {"error": wrong(arm, lr, seed, steps), "rate": lr}


STEPS = {"plain": 6000, "stablemax": 6000, "decay": 2000}
CASES = [{"arm": arm, "seed": seed, "steps": steps} for arm, steps in STEPS.items() for seed in range(6)]

CLAIM = Claim(
    part="stablemax",
    paper="stablemax-perpgrad",
    headline="StableMax makes networks generalise on grokking tasks without weight decay or other regularisation.",
    source="Prieto et al., 2025, arXiv 2501.04697, abstract and section 4",
    experiment=(
        "A two-layer network learns addition modulo 59 from half of the pairs in 6,000 full batches: the share "
        "of wrong held-out sums with StableMax, with the ordinary loss, and, after 2,000, with weight decay, which is "
        "known to work."
    ),
    baseline="AdamW without weight decay; every arm at the best of three learning rates on a seed of its own.",
    experiments={"modular": Measurement(generalise, CASES, [{"arm": a, "seed": 0, "steps": 5} for a in RECIPES])},
    criteria=[
        Criterion(
            "with StableMax at most 10 % of the held-out sums are wrong (mean of six seeds)",
            lambda f: f.mean("modular", "error", arm="stablemax"),
            at_most=0.1,
        ),
        Criterion(
            "and at most half as many as with the ordinary loss",
            lambda f: f.paired_ratio("modular", "error", {"arm": "stablemax"}, {"arm": "plain"}),
            at_most=0.5,
            gain=True,
        ),
        Criterion(
            "the task can be learned at all in this time: with weight decay at most 10 % are wrong",
            lambda f: f.mean("modular", "error", arm="decay"),
            at_most=0.1,
            control=True,
            positive=True,
        ),
    ],
    regime=Regime(
        "addition and products modulo 113, full batches, 10,000s of steps, float32",
        "AdamW without weight decay",
        "constant, from the first step on",
        "none: full batches",
        "the same task, modulo 59, and 6,000 steps, three times those in which weight decay groks it",
    ),
    minutes=9,
    limits="6,000 steps; the paper runs tens of thousands, where softmax collapse stops plain training.",
)
