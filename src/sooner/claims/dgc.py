"""One gradient in a hundred is enough, if momentum is corrected for what waits."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clusters import LOCAL_SGD, MOMENTUM

DGC, NAIVE = "sgd(momentum=0) + dgc(ratio=0.01)", "sgd + top_k(ratio=0.01) + ef"

CLAIM = Claim(
    part="dgc",
    paper="dgc",
    headline="99.9 % of the gradients need not be sent: 270x to 600x fewer bytes without loss of accuracy.",
    source="Lin et al., 2017, arXiv 1712.01887, abstract",
    experiment=(
        "A perceptron whose parameters are all matrices is trained on digits by four workers that send 1 % of their "
        "gradients, with momentum correction and with plain error feedback under the same momentum: steps to the loss "
        "that the tuned baseline reaches, and bytes with the places."
    ),
    baseline="SGD with momentum 0.9 and averaged float32 gradients, tuned with as many trials as anybody's.",
    experiments={"race": MOMENTUM},
    criteria=[
        Criterion(
            "payload at most 1/40 of the dense one, places included",
            lambda f: f.communicated("race", DGC, "payload_bytes_per_step"),
            at_most=0.025,
            paper="0.0017x to 0.0037x at a ratio of 0.1 %",
        ),
        Criterion(
            "at most 1.1x of the steps to the middle target",
            lambda f: f.steps_ratio("race", DGC),
            at_most=1.1,
            paper="1x",
        ),
        Criterion(
            "fewer steps than top-k with error feedback and the optimizer's momentum",
            lambda f: f.steps_ratio("race", DGC, against=NAIVE),
            at_most=1.0,
            gain=True,
        ),
    ],
    trend={
        "bytes to the target, on the wire": lambda f: f.bytes_ratio("race", DGC),
        "float16, bytes to the target": lambda f: f.bytes_ratio("race", "sgd + fp16"),
        "local SGD, bytes to the target": lambda f: f.bytes_ratio("race", LOCAL_SGD),
        "top-k with error feedback, steps": lambda f: f.steps_ratio("race", NAIVE),
    },
    minutes=2,
    limits="96 steps without warm-up at a ratio of 1 %: what is sent late is late by a good part of the training.",
)
