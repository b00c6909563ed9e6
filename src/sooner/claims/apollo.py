"""APOLLO trains as well as AdamW with a fraction of its state on the matrices that it projects."""

from typing import Any

from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._projected_state import projected_state
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
        "A character GPT at two sizes and two lengths of training, rank one quarter of the width: loss after the same "
        "steps, steps to AdamW's loss, and state counted on the matrices that are projected."
    ),
    baseline="AdamW, and SGD with momentum as the floor, tuned with as many trials.",
    experiments={
        "state": Measurement(state, [{"width": w} for w in (64, 96, 128)], [{"width": 32}]),
        "small, short": Race("adamw; apollo", "charlm", steps=150),
        "small, long": Race("adamw; apollo", "charlm", steps=300),
        "large, short": Race("adamw; apollo", "charlm_large", steps=150),
        "large, long": Race("adamw; apollo", "charlm_large", steps=300),
        "against SGD": Race("sgd; apollo", "charlm", steps=300),
    },
    criteria=[
        Criterion(
            "state on the projected matrices at most 0.35x of AdamW's",
            lambda f: f.mean("state", "state", "x"),
            at_most=0.35,
            paper="about 0.25x",
        ),
        Criterion(
            "loss after 300 steps at most 1.01x of AdamW's (small model)",
            lambda f: f.final_ratio("small, long", "apollo"),
            at_most=1.01,
        ),
        Criterion(
            "loss after 300 steps at most 1.01x of AdamW's (large model)",
            lambda f: f.final_ratio("large, long", "apollo"),
            at_most=1.01,
        ),
        Criterion(
            "not just SGD: lower loss than the tuned SGD with momentum",
            lambda f: f.final_ratio("against SGD", "apollo"),
            at_most=1.0,
            gain=True,
            control=True,
        ),
    ],
    trend={
        **{
            f"steps, {name}": lambda f, name=name: f.steps_ratio(name, "apollo")  # type: ignore[misc]
            for name in ("small, short", "small, long", "large, short", "large, long")
        },
        "state over all parameters (small model)": lambda f: f.state_ratio("small, long", "apollo"),
    },
    minutes=10,
    limits=(
        "Embeddings, which keep AdamW's state, are a large share of so small a model: over all parameters less is "
        "saved (see the trend). Learning rates are constant and there is no warm-up."
    ),
)
