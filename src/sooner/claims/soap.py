"""SOAP reaches AdamW's loss in far fewer steps, because it runs Adam in coordinates that fit every weight matrix."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import ADAMW, SCALES, at_scales, changes, steps_over

RATES = "adamw(betas=(0.95, 0.95))"
"""AdamW with SOAP's decay rates: without it, a gain could be theirs alone."""
OFTEN = "soap(interval=1)"
SELDOM = "soap(interval=50)"

CLAIM = Claim(
    part="soap",
    paper="",
    headline="Language models of 360M and 660M parameters in large batches need over 40 % fewer steps than with AdamW.",
    source="Vyas et al., 2024, arXiv 2409.11321, abstract",
    experiment=(
        "A character GPT is trained with SOAP on its hidden matrices and AdamW on the rest, against AdamW everywhere, "
        "at three sizes and two lengths of training: steps to the loss of the tuned AdamW. Beside it AdamW with SOAP's "
        "decay rates, Muon, and eigenbases that are refreshed at every step and at every fiftieth."
    ),
    baseline=ADAMW,
    experiments={
        **at_scales("adamw; soap"),
        "pieces": Race(f"adamw; soap; {RATES}; {OFTEN}; {SELDOM}; muon", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "at most 0.8x of AdamW's steps to the middle target (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", "soap"),
            at_most=0.8,
            gain=True,
            paper="below 0.6x",
        ),
        Criterion(
            "the same with four times the parameters",
            lambda f: f.steps_ratio("4x, long", "soap"),
            at_most=0.8,
            gain=True,
            paper="below 0.6x",
        ),
        Criterion(
            "an old basis will do: refreshed every 10 steps, at most 1.1x of the steps of one never old",
            lambda f: f.steps_ratio("pieces", "soap", against=OFTEN),
            at_most=1.1,
            paper="slightly more",
        ),
        Criterion(
            "the basis, not the decay rates: at most 0.9x of the steps of AdamW with these",
            lambda f: f.steps_ratio("pieces", "soap", against=RATES),
            at_most=0.9,
            gain=True,
            control=True,
        ),
        oracle_shows("1x, long", "adamw"),
        oracle_shows("4x, long", "adamw"),
    ],
    trend={
        **steps_over(SCALES, "soap"),
        "steps, against Muon": lambda f: f.steps_ratio("pieces", "soap", against="muon"),
        "steps, refreshed every 50 steps, against every 10": lambda f: f.steps_ratio("pieces", SELDOM, against="soap"),
        "state, in bytes of AdamW's": lambda f: f.state_ratio("1x, long", "soap"),
    },
    changes=changes("soap"),
    regime=text_regime(
        "Transformers of 360M and 660M parameters on C4, batches of 2 million tokens, warm-up and cosine",
        "a GPT from random weights, as there; constant rates, and batches of hundreds of tokens, where the paper finds "
        "less to gain",
    ),
    known=ON_TEXT,
    minutes=55,
    limits=(
        "Batches are small. A step costs more than one of AdamW: six products per matrix and the refreshes. Sides here "
        "are at most a few hundred, so nothing is said about blocks."
    ),
)
