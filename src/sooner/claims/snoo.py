"""Outer momentum helps a worker that has nobody to average with."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clusters import DILOCO, FP16, LOCAL, OUTER, SILENT, SNOO

CLAIM = Claim(
    part="snoo",
    paper="",
    headline="Nesterov momentum on movements over several steps saves 1.5x to 2.5x of compute without distribution.",
    source="Kallusky et al., 2025, arXiv 2510.15830, abstract",
    experiment=(
        "A language model is trained on text by four workers that average gradients at every step, with and without an "
        "outer step every 12 steps: steps to the loss that the tuned baseline reaches."
    ),
    baseline="AdamW with averaged gradients; learning rates, the outer one too, tuned with as many trials.",
    experiments={"race": OUTER},
    criteria=[
        Criterion(
            "at most 0.85x of the steps to the middle target",
            lambda f: f.steps_ratio("race", SNOO),
            at_most=0.85,
            gain=True,
            paper="0.4x to 0.67x",
        ),
        Criterion(
            "it ends at most 0.95x as high",
            lambda f: f.final_ratio("race", SNOO),
            at_most=0.95,
            gain=True,
        ),
    ],
    trend={
        "DiLoCo, steps": lambda f: f.steps_ratio("race", DILOCO),
        "local SGD, steps": lambda f: f.steps_ratio("race", LOCAL),
        "float16, steps": lambda f: f.steps_ratio("race", FP16),
        "no communication, final loss": lambda f: f.final_ratio("race", SILENT),
    },
    minutes=3,
    limits="50 outer steps of 12 steps each, by a model of 65,000 parameters.",
)
