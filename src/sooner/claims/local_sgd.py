"""Averaging weights every so many steps is as good as averaging gradients at every one."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clusters import FP16, LOCAL, OUTER, SILENT, SNOO
from sooner.claims._regimes import averaging_shows, workers_regime
from sooner.claims._shape import DENSE_ADAMW

CLAIM = Claim(
    part="local_sgd",
    paper="",
    headline="Workers that average their weights only now and then converge as fast, with far fewer exchanges.",
    source="Stich, 2018, arXiv 1805.09767, abstract",
    experiment=(
        "A language model is trained on text by four workers with the same data that average gradients at every step, "
        "weights every 12 steps, or never: steps to the loss that the tuned baseline reaches, and bytes."
    ),
    baseline=DENSE_ADAMW,
    experiments={"race": OUTER},
    criteria=[
        Criterion(
            "at most 1.1x of the steps to the middle target",
            lambda f: f.steps_ratio("race", LOCAL),
            at_most=1.1,
            paper="1x",
        ),
        Criterion(
            "at most 0.15x of the bytes to it",
            lambda f: f.bytes_ratio("race", LOCAL),
            at_most=0.15,
            gain=True,
        ),
        Criterion(
            "it is the averaging: it ends at most 0.8x as high as workers that never communicate",
            lambda f: f.final_ratio("race", LOCAL, against=SILENT),
            at_most=0.8,
            gain=True,
            control=True,
        ),
        averaging_shows("race", LOCAL, SILENT),
    ],
    trend={
        "float16, bytes to the target": lambda f: f.bytes_ratio("race", FP16),
        "outer momentum without local steps": lambda f: f.steps_ratio("race", SNOO),
    },
    regime=workers_regime(
        "logistic regression by up to 100 workers, decaying steps; convex theory",
        "noise and one distribution of data, as the theory has; a network, and constant rates",
    ),
    minutes=8,
    limits="50 averages in all, and workers that draw from the same text.",
)
