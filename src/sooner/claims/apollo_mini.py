"""APOLLO-Mini trains as well as AdamW with the memory of SGD: a state of rank one."""

from typing import Any

from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._projected_state import projected_state
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import ADAMW_AND_FLOOR, at_horizons, not_just_sgd, steps_over
from sooner.update.apollo_mini import APOLLOMini


def state(width: int) -> dict[str, Any]:
    """Return the state of the projected matrices relative to AdamW's two numbers per weight."""
    return projected_state(APOLLOMini, width)


CLAIM = Claim(
    part="apollo_mini",
    paper="apollo",
    headline="Rank-1 APOLLO-Mini outperforms AdamW in pre-training at the memory of SGD.",
    source="Zhu et al., 2024, arXiv 2412.05270, abstract",
    experiment=(
        "A character GPT: loss after the same steps, steps to AdamW's loss, and state counted on the matrices that "
        "are projected, at three widths."
    ),
    baseline=ADAMW_AND_FLOOR,
    experiments={
        "state": Measurement(state, [{"width": w} for w in (64, 128, 256)], [{"width": 32}]),
        **at_horizons("adamw; apollo_mini"),
        "against SGD": Race("sgd; apollo_mini", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "state on the projected matrices at most 0.05x of AdamW's (three widths)",
            lambda f: f.mean("state", "state", "x"),
            at_most=0.05,
            paper="about 0",
        ),
        Criterion(
            "loss after 1,000 steps at most 1.03x of AdamW's",
            lambda f: f.final_ratio("long", "apollo_mini"),
            at_most=1.03,
        ),
        Criterion(
            "outperforms AdamW: lower loss after 1,000 steps",
            lambda f: f.final_ratio("long", "apollo_mini"),
            at_most=1.0,
            gain=True,
        ),
        not_just_sgd("apollo_mini"),
    ],
    trend={
        **steps_over({"150": "short", "300": "long"}, "apollo_mini", before="steps, "),
        "state over all parameters": lambda f: f.state_ratio("long", "apollo_mini"),
    },
    regime=text_regime(
        "LLaMA models of 60M to 7B parameters on C4, batches of 512, warm-up and cosine",
        "pre-training from random weights, as there; constant rates, and embeddings weigh more",
    ),
    known=ON_TEXT,
    minutes=10,
    limits="Embeddings keep AdamW's state and dominate so small a model. Learning rates are constant, without warm-up.",
)
