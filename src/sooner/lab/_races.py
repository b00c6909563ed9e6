"""The races of the lab: one per workload and budget, each with one reference arm and the arms of many truths.

Tuning, targets and the A/A arm of the reference are so paid once. An arm that is added here ages the evidence of every
truth of that race, but only its own runs are made: the others are taken over from the race before.
"""

from __future__ import annotations

from sooner.claims._claim import Race

EXTRA = "sooner.lab._extra_steps.ExtraSteps"
ROUNDED = "sooner.lab._rounded_weights.RoundedWeights"

SHARES = {1: 1 / 2, 3: 3 / 4, 9: 9 / 10}
"""By ``every`` of `ExtraSteps`: the share of the steps in which its recipe arrives."""
AHEAD = 40
"""Steps of the head start."""


def oracle(reference: str, task: str, steps: int) -> Race:
    """Return the race of a recipe, all of whose settings are fixed, with itself taking additional steps."""
    arms = [f"{reference} + {EXTRA}(every={every})" for every in SHARES]
    return Race("; ".join([reference, *arms, f"{reference} + {EXTRA}(first={AHEAD})"]), task, steps=steps, tune=0)


TEXT_PLAIN, BOWL_PLAIN = "adamw(lr=0.003)", "sgd(lr=0.3, momentum=0.0)"
IMAGES_PLAIN, TAIL_PLAIN = "sgd(lr=0.1, momentum=0.0)", "adamw(lr=0.003)"
ORACLES = {
    "charlm": (TEXT_PLAIN, oracle(TEXT_PLAIN, "charlm", 500)),
    "digits": (IMAGES_PLAIN, oracle(IMAGES_PLAIN, "digits", 200)),
    "quadratic": (BOWL_PLAIN, oracle(BOWL_PLAIN, "quadratic", 300)),
    "zipf": (TAIL_PLAIN, oracle(TAIL_PLAIN, "zipf", 200)),
}
"""By workload: the plain recipe, and its race with additional steps."""

LOW, HIGH, HOT, SMALL = "adamw(lr=0.0003)", "adamw(lr=0.1)", "adamw(lr=0.01)", "adamw(lr=0.0001)"
"""Rates ten times and more from the best one on `charlm`, one that needs a warm-up, and one whose steps are tiny."""
WARM = f"{HOT} + constant(warmup=100)"
TEXT = Race(
    "; ".join(
        [
            *("adamw", "sgd", "sgd(momentum=0.0)", "muon", "adamw + ema"),
            *(LOW, HIGH, HOT, WARM),
            *(SMALL, f"{SMALL} + {ROUNDED}", f"{SMALL} + {ROUNDED}(how='stochastic')"),
        ]
    ),
    "charlm",
    steps=1000,
)
CONSTANT = "adamw + constant(warmup=50)"
TEXT_TO_THE_END = Race(f"{CONSTANT}; adamw + cosine; {CONSTANT} + ema", "charlm", steps=1000)

IMAGES = Race(
    "; ".join(
        [
            *("sgd", "sgd(momentum=0.0)", "adamw", "muon", "sgd + ema"),
            *("sgd(lr=0.001)", "sgd(lr=3.0)"),
            *("sgd(lr=0.001) + " + ROUNDED, "sgd(lr=0.001) + " + ROUNDED + "(how='stochastic')"),
        ]
    ),
    "digits",
)
IMAGES_TO_THE_END = Race("sgd + constant(warmup=20); sgd + cosine; sgd + linear", "digits")

OUTLINES = Race(
    "sgd; sgd(momentum=0.0); adamw; muon; sgd + ema; sgd(lr=0.001); sgd(lr=3.0)", "shapes", steps=500, tune=4
)
OUTLINES_TO_THE_END = Race("sgd + constant(warmup=25); sgd + cosine", "shapes", steps=500, tune=4)

WORDS = Race("adamw; sgd; muon; adamw + ema; adamw(lr=0.0003); adamw(lr=0.1)", "grammar", steps=400, tune=4)

TAIL = Race("adamw; sgd; sgd(momentum=0.0); adamw(lr=0.0001); adamw(lr=0.03)", "zipf")
TAIL_TO_THE_END = Race("adamw + constant(warmup=15); adamw + cosine; adamw + linear", "zipf")

PLAIN = "sgd(momentum=0.0, lr=log(0.01, 3.0))"
BOWL = Race(f"{PLAIN}; {PLAIN} + ema; sgd(momentum=0.0, lr=0.01); sgd(momentum=0.0, lr=1.5)", "quadratic", steps=1000)
BOWL_TO_THE_END = Race(f"{PLAIN}; {PLAIN} + cosine; {PLAIN} + linear; {PLAIN} + ema", "quadratic", steps=1000)

PLANE = Race("sgd(momentum=0.0); sgd", "separable")

# without decay hardly anything is learnt at any rate, so the best one may lie anywhere: a range with room at its ends
SUMS = Race(
    "adamw(weight_decay=1.0); adamw(weight_decay=0.0, lr=log(3e-5, 1)); adamw(weight_decay=0.01, lr=log(3e-5, 1))",
    "modular",
)

SENT = (
    "sgd(momentum=0.0) + dense; sgd(momentum=0.0) + local_sgd(every=10); sgd(momentum=0.0) + silent; "
    "sgd(momentum=0.0) + top_k(ratio=0.01); sgd(momentum=0.0) + top_k(ratio=0.01) + ef"
)
CLUSTERS = {
    "charlm": Race(SENT, "charlm", steps=200, tune=3, workers=4),
    "digits_federated": Race(SENT, "digits_federated", steps=200, tune=3, workers=8, seeds=12),  # 1 of 8 may miss
    "quadratic": Race(SENT, "quadratic", steps=300, tune=3, workers=4),
}
"""By workload: a simulated cluster."""
