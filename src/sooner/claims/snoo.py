"""Outer momentum helps a worker that has nobody to average with."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._outer import STEPS, arms, averaging_matters, over, regime

SHORTER = round(0.85 * STEPS)

CLAIM = Claim(
    part="snoo",
    paper="",
    headline="Nesterov momentum on movements over several steps saves 1.5x to 2.5x of compute without distribution.",
    source="Kallusky et al., 2025, arXiv 2510.15830, abstract",
    experiment=(
        "A language model that has been trained for 600 steps is trained on by four workers that average gradients at "
        "every step, AdamW with cosine inside, with and without an outer step every 20 of 2,000 steps: loss at the "
        "end, also of runs with outer steps that are 0.85x as long."
    ),
    baseline="AdamW with cosine and averaged gradients; inner and outer rates tuned on a seed of their own.",
    experiments={"workers": arms(("dense", "snoo", "silent"), {"snoo": SHORTER})},
    criteria=[
        Criterion(
            "with 0.85x of the steps it ends at most as high",
            lambda f: over(f, "loss", "snoo", "dense", SHORTER),
            at_most=1.0,
            paper="the same with 0.4x to 0.67x of the steps",
        ),
        Criterion(
            "with as many steps it ends lower",
            lambda f: over(f, "loss", "snoo", "dense", STEPS),
            at_most=1.0,
            gain=True,
        ),
        averaging_matters(),
    ],
    regime=regime(
        "dense and expert models of 100M to 1B parameters on text, from random weights, AdamW with warm-up and decay, "
        "windows of 20 to 100 steps",
        "AdamW with a decay inside and Nesterov outside, as there; a small network and a pretrained start",
    ),
    minutes=5,
    limits="A model of 65,000 parameters, a hundred outer steps.",
)
