"""Clipping relative to the weights lets networks without normalization train at larger learning rates."""

from sooner.claims._claim import Claim, Criterion, Race

OURS = "clip_adaptive + sgd"
RIVAL = "clip_norm + sgd"

CLAIM = Claim(
    part="clip_adaptive",
    paper="",
    headline="Networks without normalization train at larger batches and rates, and match normalized ones.",
    source="Brock et al., 2021, arXiv 2102.06171, section 4",
    experiment=(
        "A convolutional network without normalization learns digits with SGD, with SGD behind adaptive clipping, and "
        "behind clipping by the global norm: steps to the loss of the tuned SGD."
    ),
    baseline="SGD with momentum, tuned with as many trials; both clippings tune their limit and the learning rate.",
    experiments={"digits": Race(f"sgd; {OURS}; {RIVAL}", "digits_unnormalized", steps=200, tune=7)},
    criteria=[
        Criterion(
            "steps to the middle target at most 0.95x of SGD's",
            lambda f: f.steps_ratio("digits", OURS),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "and no more than with clipping by the global norm: at most 1.0x",
            lambda f: f.steps_ratio("digits", OURS, against=RIVAL),
            at_most=1.0,
            control=True,
        ),
    ],
    trend={"clipping by the global norm": lambda f: f.steps_ratio("digits", RIVAL)},
    minutes=2,
    limits="The paper clips residual networks on ImageNet at batches of 4096; here the batch is 64.",
)
