"""With gradients orthogonal to the weights a network generalises at once, without any weight decay."""

import math

from sooner.claims._claim import Claim, Criterion, Measured, Race, Regime
from sooner.claims._findings import Findings
from sooner.claims._regimes import ON_DIGITS
from sooner.race import statistics

GROKKING = "addition modulo 59"
ORDINARY = "digits"
PERPGRAD = "perpgrad + adamw(weight_decay=0)"
PLAIN = "adamw(weight_decay=0)"


def _final_error(f: Findings, contender: str) -> Measured:
    """Return the mean share of wrong held-out sums at the end; a diverged run counts as all wrong."""
    row = f.row(GROKKING, contender)
    if row["status"] == "out":
        return Measured(math.nan, undecided=f"{contender} is out: {row['why_out']}")
    values = [1.0 if value is None else value for value in row["final"]["values"]]
    return Measured(sum(values) / len(values), *statistics.interval(values))


CLAIM = Claim(
    part="perpgrad",
    paper="stablemax-perpgrad",
    headline=(
        "perpGrad makes networks generalise on grokking tasks without weight decay or any other regularisation, "
        "almost as soon as they fit their data."
    ),
    source="Prieto et al., 2025, arXiv 2501.04697, section 5",
    experiment=(
        "A two-layer network learns addition modulo 59 from half of the pairs in full batches. AdamW with perpGrad and "
        "without weight decay races against AdamW with weight decay: steps to the held-out error that the latter "
        "reaches. AdamW without decay is there to show that the task does need help. On digits, where nothing has to "
        "be grokked, perpGrad should cost nothing."
    ),
    baseline=(
        "AdamW with weight decay from 0.1 to 3, tuned together with its learning rate by as many trials as the "
        "learning rate of the others alone; on digits AdamW with its learning rate tuned."
    ),
    experiments={
        GROKKING: Race(f"adamw(weight_decay=log(0.1, 3.0)); {PERPGRAD}; {PLAIN}", "modular", steps=2000, tune=9),
        ORDINARY: Race("adamw; perpgrad + adamw", "digits", steps=400),
    },
    criteria=[
        Criterion(
            "steps to the middle target at most 0.5x of AdamW's with tuned weight decay",
            lambda f: f.steps_ratio(GROKKING, PERPGRAD),
            at_most=0.5,
            gain=True,
        ),
        Criterion(
            "without weight decay it gets at most 5 % of the held-out sums wrong in the end (mean over seeds)",
            lambda f: _final_error(f, PERPGRAD),
            at_most=0.05,
        ),
        Criterion(
            "AdamW without weight decay gets at least 90 % of them wrong in the end",
            lambda f: _final_error(f, PLAIN),
            at_least=0.9,
            control=True,
        ),
        Criterion(
            "on digits it takes at most 1.05x of AdamW's steps",
            lambda f: f.steps_ratio(ORDINARY, "perpgrad + adamw"),
            at_most=1.05,
            control=True,
        ),
        Criterion(
            "grokking can be hastened here: AdamW with weight decay gets at most 10 % wrong in the end",
            lambda f: _final_error(f, "adamw(weight_decay=log"),
            at_most=0.1,
            positive=True,
        ),
    ],
    regime=Regime(
        "addition and products modulo 113 and sparse parity, full batches, 10,000s of steps",
        "AdamW",
        "constant, from the first step on",
        "none: full batches",
        "the same task, modulo 59, for 2,000 steps, in which weight decay groks it",
    ),
    known=ON_DIGITS,
    minutes=28,
    trend={
        "loose target": lambda f: f.steps_ratio(GROKKING, PERPGRAD, target="loose"),
        "tight target": lambda f: f.steps_ratio(GROKKING, PERPGRAD, target="tight"),
        "error of AdamW with weight decay": lambda f: _final_error(f, "adamw(weight_decay=log"),
    },
    limits="One task of a few thousand pairs; the paper also shows sparse parity and a transformer.",
)
