"""Clipping relative to the weights lets networks without normalization train at larger learning rates."""

from typing import Any

from sooner import loop
from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._code import task_file
from sooner.claims._regimes import images_regime, oracle, oracle_shows
from sooner.task import from_file

OURS = "clip_adaptive + sgd"
RIVAL = "clip_norm + sgd"
TASK = "digits_unnormalized"
RATES = [10 ** (i / 4) for i in range(-8, 9)]
"""Learning rates from 0.01 to 100, four per decade."""
ARMS = {
    "plain": "sgd(lr={})",
    "adaptive": "clip_adaptive(clipping=0.02) + sgd(lr={})",
    "norm": "clip_norm(max_norm=1.0) + sgd(lr={})",
}
"""The limits of the clippings are their authors' and the usual one."""
GOOD = 0.5
"""Test loss in nats that a run must reach to count as trained (2.3 is guessing)."""
STEPS = 200


def sweep(arm: str, seed: int, steps: int) -> dict[str, Any]:
    """Train with every rate; return the largest one that trains, None where none does, and all losses."""
    file = task_file(TASK)
    assert file is not None
    task = from_file(file)
    finals = []
    for lr in RATES:
        run = loop.train(task, ARMS[arm].format(lr), seed, steps, evaluate_at=[steps])
        finals.append(run.values[-1] if run.diverged_at is None else float("inf"))
    trained = [lr for lr, value in zip(RATES, finals, strict=True) if value <= GOOD]
    return {"largest": max(trained, default=None), "trained": len(trained), "finals": finals}


CASES = [{"arm": arm, "seed": seed, "steps": STEPS} for seed in range(8) for arm in ARMS]

CLAIM = Claim(
    part="clip_adaptive",
    paper="",
    headline="Networks without normalization train at larger batches and rates, and match normalized ones.",
    source="Brock et al., 2021, arXiv 2102.06171, section 4",
    experiment=(
        "A convolutional network without normalization learns digits with SGD, with SGD behind adaptive clipping, and "
        "behind clipping by the global norm: the largest of seventeen learning rates that trains, and steps to the "
        "loss of the tuned SGD."
    ),
    baseline="SGD with momentum, tuned with as many trials; in the race both clippings tune their limit and the rate.",
    experiments={
        "rates": Measurement(sweep, CASES, [{"arm": arm, "seed": 0, "steps": 1} for arm in ARMS]),
        "digits": Race(f"sgd; {OURS}; {RIVAL}; {oracle('sgd')}", TASK, steps=400, seeds=16, tune=7),
    },
    criteria=[
        Criterion(
            "the largest rate that trains is at least 2x of that without clipping",
            lambda f: f.paired_ratio("rates", "largest", {"arm": "adaptive"}, {"arm": "plain"}),
            at_least=2.0,
            gain=True,
        ),
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
        Criterion(
            "rates can be too large here: SGD trains with at most 14 of the 17",
            lambda f: f.mean("rates", "trained", arm="plain"),
            at_most=14,
            positive=True,
        ),
        oracle_shows("digits", "sgd"),
    ],
    trend={
        "clipping by the global norm": lambda f: f.steps_ratio("digits", RIVAL),
        "largest rate, by the global norm": lambda f: f.paired_ratio(
            "rates", "largest", {"arm": "norm"}, {"arm": "plain"}
        ),
    },
    regime=images_regime(
        "residual networks without normalization on ImageNet, batches of 256 to 4,096, warm-up and cosine",
        "no normalization and rates at which training breaks, as there; a batch of 64 and three layers",
    ),
    minutes=8,
    limits="The paper clips residual networks on ImageNet at batches of 4096; here the batch is 64.",
    extra="sklearn",
)
