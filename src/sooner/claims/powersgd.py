"""Factors of rank 2 train like whole gradients."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clusters import LOCAL_SGD, MOMENTUM
from sooner.claims._regimes import workers_regime
from sooner.claims._shape import DENSE_MOMENTUM

KEPT, FORGOTTEN = "sgd + powersgd(rank=2) + ef", "sgd + powersgd(rank=2)"

CLAIM = Claim(
    part="powersgd",
    paper="",
    headline="Rank-2 factors with error feedback reach the accuracy of SGD with a small share of its bytes.",
    source="Vogels et al., 2019, arXiv 1905.13727, tables 3 and 4",
    experiment=(
        "A language model whose parameters are all matrices is trained on text by two workers: steps to the loss that "
        "the tuned baseline reaches with rank-2 factors, with and without error feedback, and bytes."
    ),
    baseline=DENSE_MOMENTUM,
    experiments={"race": MOMENTUM},
    criteria=[
        Criterion(
            "at most 1.1x of the steps to the middle target",
            lambda f: f.steps_ratio("race", KEPT),
            at_most=1.1,
            paper="1x",
        ),
        Criterion(
            "at most 0.1x of the bytes per step",
            lambda f: f.communicated("race", KEPT, "wire_bytes_per_step"),
            at_most=0.1,
        ),
        Criterion(
            "it needs the memory: fewer steps than without it",
            lambda f: f.steps_ratio("race", KEPT, against=FORGOTTEN),
            at_most=1.0,
            gain=True,
            control=True,
        ),
        Criterion(
            "what is lost shows here: rank-2 factors without a memory end at least 1.02x as high as whole gradients",
            lambda f: f.final_ratio("race", FORGOTTEN),
            at_least=1.02,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "bytes to the target": lambda f: f.bytes_ratio("race", KEPT),
        "float16, bytes to the target": lambda f: f.bytes_ratio("race", "sgd + fp16"),
        "local SGD, bytes to the target": lambda f: f.bytes_ratio("race", LOCAL_SGD),
    },
    regime=workers_regime(
        "ResNet-18 on CIFAR-10 and a recurrent language model on WikiText-2, 90 to 300 passes, rates cut late",
        "momentum SGD on a language model, as one of the paper's; shorter, without the late cut",
        optimizer="SGD with momentum",
    ),
    minutes=8,
    limits="Matrices of 128 by 256 at most; larger ones save more bytes.",
)
