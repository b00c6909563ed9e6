"""AdamP gains over Adam by not letting momentum inflate weights whose scale does not matter."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._regimes import ON_DIGITS, ON_TEXT, images_regime
from sooner.claims._scale_invariance import only_where_idle, probe
from sooner.claims._shape import ADAMW, at_horizons, steps_over
from sooner.update.adamp import AdamP
from sooner.update.adamw import AdamW

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "adamw": lambda params: AdamW(params, lr=3e-3, weight_decay=0.0),
    "adamp": lambda params: AdamP(params, lr=3e-3),
}


def norms(arm: str, seed: int, steps: int) -> dict[str, Any]:
    """Return how scale-invariant weights grow, and where the method's test finds them."""
    return probe(OPTIMIZERS[arm], seed, steps)


CASES = [{"arm": arm, "seed": seed, "steps": 200} for seed in range(6) for arm in OPTIMIZERS]
SMALL = [{"arm": arm, "seed": 0, "steps": 4} for arm in OPTIMIZERS]

CLAIM = Claim(
    part="adamp",
    paper="adamp",
    headline="Uniform gains over Adam on 13 benchmarks, from ImageNet to retrieval and WikiText.",
    source="Heo et al., 2020, arXiv 2006.08217, abstract",
    experiment=(
        "A convolutional network with batch normalization on handwritten digits and a character GPT at two sizes and "
        "two lengths of training: steps to AdamW's loss. The mechanism at equal learning rates without decay: how "
        "much the norms of scale-invariant weights grow, and whether the test finds those weights and no others."
    ),
    baseline=ADAMW,
    experiments={
        "norms": Measurement(norms, CASES, SMALL),
        "digits": Race("adamw; adamp", "digits", steps=400),
        **at_horizons("adamw; adamp", before="text, "),
    },
    criteria=[
        Criterion(
            "on digits at most 0.9x of AdamW's steps to the middle target",
            lambda f: f.steps_ratio("digits", "adamp"),
            at_most=0.9,
            gain=True,
        ),
        *only_where_idle("adamp", "adamw", "Adam"),
    ],
    trend=steps_over(("digits", "text, short", "text, long"), "adamp"),
    regime=images_regime(
        "residual networks with batch normalization on ImageNet, 100 to 250 passes, cosine, weight decay",
        "batch normalization and momentum, which the method corrects; far fewer passes for norms to grow",
        optimizer="AdamW",
    ),
    known=(*ON_DIGITS, *ON_TEXT),
    minutes=9,
    limits="The paper trains for 100 passes and more, so norms grow further; weight decay would hide it and is off.",
)
