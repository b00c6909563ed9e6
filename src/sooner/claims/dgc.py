"""One gradient in a thousand is enough, if momentum is corrected for what waits."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clusters import LOCAL_SGD, MOMENTUM
from sooner.claims._regimes import workers_regime
from sooner.claims._shape import DENSE_MOMENTUM

DGC, NAIVE = "sgd(momentum=0) + dgc(ratio=0.001)", "sgd + top_k(ratio=0.001) + ef"

CLAIM = Claim(
    part="dgc",
    paper="dgc",
    headline="99.9 % of the gradients need not be sent: 270x to 600x fewer bytes without loss of accuracy.",
    source="Lin et al., 2017, arXiv 1712.01887, abstract",
    experiment=(
        "A language model whose parameters are all matrices is trained on text by two workers that send 0.1 % of their "
        "gradients, with momentum correction and with plain error feedback under the same momentum: bytes, places "
        "included, and steps to the losses that the tuned baseline reaches at half and three quarters of the budget."
    ),
    baseline=DENSE_MOMENTUM,
    experiments={"race": MOMENTUM},
    criteria=[
        Criterion(
            "payload at most 1/270 of the dense one, places included",
            lambda f: f.communicated("race", DGC, "payload_bytes_per_step"),
            at_most=1 / 270,
            paper="0.0017x to 0.0037x",
        ),
        Criterion(
            "at most 1/270 of the bytes on the wire to the loose target",
            lambda f: f.bytes_ratio("race", DGC, target="loose"),
            at_most=1 / 270,
            gain=True,
            paper="0.0017x to 0.0037x",
        ),
        Criterion(
            "at most 1.1x of the steps to the middle target",
            lambda f: f.steps_ratio("race", DGC),
            at_most=1.1,
            paper="1x",
        ),
        Criterion(
            "fewer steps to the loose target than top-k with error feedback and the optimizer's momentum",
            lambda f: f.steps_ratio("race", DGC, against=NAIVE, target="loose"),
            at_most=1.0,
            gain=True,
        ),
        Criterion(
            "what is lost shows here: rank-2 factors without a memory end at least 1.02x as high as whole gradients",
            lambda f: f.final_ratio("race", "sgd + powersgd(rank=2)"),
            at_least=1.02,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "steps to the loose target": lambda f: f.steps_ratio("race", DGC, target="loose"),
        "final loss": lambda f: f.final_ratio("race", DGC),
        "float16, bytes to the target": lambda f: f.bytes_ratio("race", "sgd + fp16"),
        "local SGD, bytes to the target": lambda f: f.bytes_ratio("race", LOCAL_SGD),
        "top-k with error feedback, steps to the loose target": lambda f: f.steps_ratio("race", NAIVE, target="loose"),
    },
    regime=workers_regime(
        "residual networks on ImageNet and CIFAR, recurrent language and speech models, warm-up of four passes",
        "momentum SGD on a language model, as one of the paper's; no warm-up of the ratio, two workers",
        optimizer="SGD with momentum",
    ),
    minutes=8,
    limits="2,400 steps without warm-up and two workers; with more of them everyone receives more.",
)
