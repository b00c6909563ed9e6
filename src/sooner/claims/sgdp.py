"""SGDP gains over SGD with momentum by not letting momentum inflate weights whose scale does not matter."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._regimes import ON_DIGITS, images_regime
from sooner.claims._scale_invariance import only_where_idle, probe
from sooner.update.sgd import SGD
from sooner.update.sgdp import SGDP

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "sgd": lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "sgdp": lambda params: SGDP(params, lr=0.1, momentum=0.9, weight_decay=0.0),
}


def norms(arm: str, seed: int, steps: int) -> dict[str, Any]:
    """Return how scale-invariant weights grow, and where the method's test finds them."""
    return probe(OPTIMIZERS[arm], seed, steps)


CASES = [{"arm": arm, "seed": seed, "steps": 200} for seed in range(6) for arm in OPTIMIZERS]
SMALL = [{"arm": arm, "seed": 0, "steps": 4} for arm in OPTIMIZERS]

CLAIM = Claim(
    part="sgdp",
    paper="adamp",
    headline="Uniform gains over SGD with momentum on ImageNet classification and other benchmarks.",
    source="Heo et al., 2020, arXiv 2006.08217, abstract and table 1",
    experiment=(
        "A convolutional network with batch normalization on handwritten digits: steps to the loss of the tuned SGD. "
        "The mechanism at equal learning rates without decay: how much the norms of scale-invariant weights grow, and "
        "whether the test finds those weights and no others."
    ),
    baseline="SGD with Nesterov momentum 0.9, tuned with as many trials.",
    experiments={
        "norms": Measurement(norms, CASES, SMALL),
        "digits": Race("sgd(nesterov=True); sgdp", "digits", steps=400),
    },
    criteria=[
        Criterion(
            "on digits at most 0.9x of SGD's steps to the middle target",
            lambda f: f.steps_ratio("digits", "sgdp"),
            at_most=0.9,
            gain=True,
        ),
        *only_where_idle("sgdp", "sgd", "SGD"),
    ],
    regime=images_regime(
        "residual networks with batch normalization on ImageNet, 100 to 250 passes, cosine, weight decay",
        "batch normalization and momentum, which the method corrects; far fewer passes for norms to grow",
    ),
    known=ON_DIGITS,
    minutes=3,
    limits="The paper trains for 100 passes and more, over which norms grow further.",
)
