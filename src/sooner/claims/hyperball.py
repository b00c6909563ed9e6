"""Hyperball keeps the norms of matrices and of their steps, and reaches the loss of weight decay sooner."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import SCALES, at_scales, changes, steps_over

OURS = "muon + hyperball"
DECAYED = "muon(weight_decay=0.1)"
ADAM = "adamw(weight_decay=0.0) + hyperball"
ADAM_DECAYED = "adamw(weight_decay=0.1)"

CLAIM = Claim(
    part="hyperball",
    paper="",
    headline="Muon with it needs 20 to 30% fewer tokens than with weight decay, at up to 1.2B parameters.",
    source="Wen et al., 2026, arXiv 2606.16899, abstract",
    experiment=(
        "A character GPT at three sizes and two lengths of training: steps of Muon with constant norms to the loss of "
        "the tuned Muon with weight decay. Beside it the same for AdamW, and Muon without either."
    ),
    baseline="Muon with weight decay 0.1, tuned with as many trials.",
    experiments={
        **at_scales(f"{DECAYED}; {OURS}"),
        "pieces": Race(f"{DECAYED}; {OURS}; muon", "charlm", steps=1000),
        "AdamW": Race(f"{ADAM_DECAYED}; {ADAM}", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "at most 0.9x of the steps of Muon with weight decay to the middle target (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", OURS),
            at_most=0.9,
            gain=True,
            paper="0.77x",
        ),
        Criterion(
            "the same with four times the parameters",
            lambda f: f.steps_ratio("4x, long", OURS),
            at_most=0.9,
            gain=True,
            paper="0.77x",
        ),
        Criterion(
            "not just the absence of decay: at most 0.95x of the steps of Muon without",
            lambda f: f.steps_ratio("pieces", OURS, against="muon"),
            at_most=0.95,
            gain=True,
            control=True,
        ),
        oracle_shows("1x, long", DECAYED),
        oracle_shows("4x, long", DECAYED),
    ],
    trend={
        **steps_over(SCALES, OURS),
        "AdamW with it, against AdamW with decay": lambda f: f.steps_ratio("AdamW", ADAM),
    },
    changes=changes(OURS),
    regime=text_regime(
        "Transformers of up to 1.2B parameters with normalised queries and keys, rates decayed to zero",
        "a GPT from random weights, as there; constant rates, since steps to a loss are read within a run",
        optimizer="Muon",
    ),
    known=ON_TEXT,
    minutes=48,
    limits="Runs are too short for weight decay to bring norms to rest, which is where the paper sees the gain.",
)
