"""AdaMuon reaches AdamW's loss with far less training, and Muon's too, by step sizes for single weights."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_TEXT, oracle, oracle_shows, text_regime
from sooner.claims._shape import ADAMW, SCALES, at_scales, changes, steps_over

OURS = "adamuon(weight_decay=0.0)"
"""Nothing decays here, on either side."""
SCALED = "root(quantile=1.0, weight_decay=0.0)"
"""Orthogonal steps at AdamW's scale, with AdamW's rate for the rest, but no second moment and no signs."""

CLAIM = Claim(
    part="adamuon",
    paper="",
    headline="Surpasses Adam by more than 40% in training efficiency, and Muon, at language models of up to 1.5B.",
    source="Si et al., 2025, arXiv 2507.11005, abstract",
    experiment=(
        "A character GPT at three sizes and two lengths of training: steps to the loss of the tuned AdamW. Beside it "
        "Muon, and orthogonal steps of the same scale without a second moment."
    ),
    baseline=ADAMW,
    experiments={
        **at_scales(f"adamw; {OURS}"),
        "against Muon": Race(f"muon; {OURS}; {SCALED}; {oracle('muon')}", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "at most 0.8x of AdamW's steps to the middle target (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", OURS),
            at_most=0.8,
            gain=True,
            paper="0.7x",
        ),
        Criterion(
            "the same with four times the parameters",
            lambda f: f.steps_ratio("4x, long", OURS),
            at_most=0.8,
            gain=True,
            paper="0.7x",
        ),
        Criterion(
            "at most 0.95x of Muon's steps",
            lambda f: f.steps_ratio("against Muon", OURS),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "signs and second moment help: at most 0.95x of the steps of orthogonal ones of the same scale",
            lambda f: f.steps_ratio("against Muon", OURS, against=SCALED),
            at_most=0.95,
            gain=True,
            control=True,
        ),
        oracle_shows("1x, long", "adamw"),
        oracle_shows("4x, long", "adamw"),
        oracle_shows("against Muon", "muon"),
    ],
    trend={
        **steps_over(SCALES, OURS),
        "state, in bytes of AdamW's": lambda f: f.state_ratio("1x, long", OURS),
    },
    changes=changes(OURS),
    regime=text_regime(
        "GPT-2 of 125M to 1.5B parameters on OpenWebText, cosine schedules, weight decay 0.1",
        "a GPT from random weights, as there; constant rates and no weight decay, since steps to a loss are read "
        "within a run",
    ),
    known=ON_TEXT,
    minutes=45,
    limits="The paper counts tokens to a loss with schedules that decay; the abstract's 40% is 0.7x of the tokens.",
)
