"""APOLLO trains as well as AdamW with a fraction of its state on the matrices that it projects."""

from typing import Any

from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._projected_state import projected_state
from sooner.claims._regimes import ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import ADAMW_AND_FLOOR, SCALES, at_scales, changes, not_just_sgd, steps_over
from sooner.update.apollo import APOLLO


def state(width: int) -> dict[str, Any]:
    """Return the state of the projected matrices relative to AdamW's two numbers per weight."""
    return projected_state(APOLLO, width)


CLAIM = Claim(
    part="apollo",
    paper="apollo",
    headline="Pre-trains on par with AdamW or better, with a small part of its optimizer memory.",
    source="Zhu et al., 2024, arXiv 2412.05270, abstract",
    experiment=(
        "A character GPT at three sizes and two lengths of training, rank one quarter of the width: loss after the "
        "same steps, steps to AdamW's loss, and state counted on the matrices that are projected."
    ),
    baseline=ADAMW_AND_FLOOR,
    experiments={
        "state": Measurement(state, [{"width": w} for w in (64, 96, 128)], [{"width": 32}]),
        **at_scales("adamw; apollo"),
        "against SGD": Race("sgd; apollo", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "state on the projected matrices at most 0.35x of AdamW's",
            lambda f: f.mean("state", "state", "x"),
            at_most=0.35,
            paper="about 0.25x",
        ),
        Criterion(
            "loss after 1,000 steps at most 1.01x of AdamW's (as it is)",
            lambda f: f.final_ratio("1x, long", "apollo"),
            at_most=1.01,
        ),
        Criterion(
            "loss after 1,000 steps at most 1.01x of AdamW's (four times the parameters)",
            lambda f: f.final_ratio("4x, long", "apollo"),
            at_most=1.01,
        ),
        not_just_sgd("apollo"),
        oracle_shows("1x, long", "adamw"),
        oracle_shows("4x, long", "adamw"),
    ],
    trend={
        **steps_over(SCALES, "apollo", before="steps, "),
        "state over all parameters (as it is)": lambda f: f.state_ratio("1x, long", "apollo"),
    },
    changes=changes("apollo"),
    regime=text_regime(
        "LLaMA models of 60M to 7B parameters on C4, batches of 512, warm-up and cosine",
        "pre-training from random weights, as there; constant rates, and embeddings weigh more",
    ),
    known=ON_TEXT,
    minutes=38,
    limits=(
        "Embeddings, which keep AdamW's state, are a large share of so small a model: over all parameters less is "
        "saved (see the trend). Learning rates are constant and there is no warm-up."
    ),
)
