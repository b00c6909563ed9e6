"""An outer optimizer on the workers' mean movement makes up for rare communication."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clusters import DILOCO, FP16, LOCAL, OUTER, SILENT, SNOO

CLAIM = Claim(
    part="diloco",
    paper="",
    headline="DiLoCo on eight workers performs as well as synchronous training and communicates 500 times less.",
    source="Douillard et al., 2023, arXiv 2311.08105, abstract",
    experiment=(
        "A language model is trained on text by four workers with outer steps every 12 steps: steps to the loss that "
        "the tuned baseline reaches, and bytes, beside averages of weights and outer momentum without local steps."
    ),
    baseline="AdamW with averaged float32 gradients; learning rates, the outer one too, tuned with as many trials.",
    experiments={"race": OUTER},
    criteria=[
        Criterion(
            "at most 1.1x of the steps to the middle target",
            lambda f: f.steps_ratio("race", DILOCO),
            at_most=1.1,
            paper="1x",
        ),
        Criterion(
            "at most 0.15x of the bytes to it",
            lambda f: f.bytes_ratio("race", DILOCO),
            at_most=0.15,
            gain=True,
            paper="0.002x",
        ),
        Criterion(
            "fewer steps than averages of weights at the same interval",
            lambda f: f.steps_ratio("race", DILOCO, against=LOCAL),
            at_most=1.0,
            gain=True,
            control=True,
        ),
    ],
    trend={
        "outer momentum without local steps": lambda f: f.steps_ratio("race", SNOO),
        "float16, bytes to the target": lambda f: f.bytes_ratio("race", FP16),
        "no communication, final loss": lambda f: f.final_ratio("race", SILENT),
    },
    minutes=3,
    limits="50 outer steps of 12 steps each, where the paper takes hundreds of 500.",
)
