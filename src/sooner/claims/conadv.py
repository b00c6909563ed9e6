"""Training on inputs attacked with the weights of one step ago lowers the error of large-batch training."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sooner.claims._claim import Claim, Criterion, Measured, Race, Regime
from sooner.claims._findings import Findings, paired
from sooner.gradient import conadv
from sooner.objective import Objective
from sooner.race import statistics

LARGE = "largest batch"
LONGER = "three times the steps"
CONCURRENT = "conadv + adamw"
SEQUENTIAL = "sooner.claims.conadv.Sequential + adamw"
RANDOM = "sooner.claims.conadv.RandomSigns + adamw"


class Sequential(conadv.ConAdv):
    """The exact method (DisAdv): this step's batch is attacked with the present weights, before it is trained on."""

    needs = frozenset({"closure"})

    def backward(self, objective: Objective) -> Tensor:
        """Attack, then put the gradients of both losses into ``.grad`` and return the mean clean loss."""
        self._prepared = [self.attack(objective, batch) for batch in objective.batches]
        return super().backward(replace(objective, next_batches=list))


class RandomSigns(conadv.ConAdv):
    """A perturbation of the same size in a random direction, to tell an attack from mere noise in the inputs."""

    def attack(self, objective: Objective, batch: Any) -> Tensor:
        """Return the images moved by `eps` times the range, up or down at random for every pixel."""
        clean: Tensor = batch[0]
        low, high = clean.amin(), clean.amax()
        return torch.clamp(clean + self.eps * (high - low) * torch.randn_like(clean).sign(), low, high)


def _points_behind(f: Findings, contender: str, other: str) -> Measured:
    """Return the final error of a contender less that of another, in percentage points, paired over seeds."""
    rows = [f.row(LARGE, name) for name in (contender, other)]
    if any(row["status"] == "out" for row in rows):
        return Measured(math.nan, undecided="one of the two is out")
    found = statistics.paired_differences(*(row["final"]["values"] for row in rows))
    low, high = statistics.interval(found)
    return Measured(100 * statistics.center(found), 100 * low, 100 * high, statistics.sign_flip(found), unit=" points")


def _over_longer(f: Findings) -> Measured:
    """Return the final error over that of AdamW with three times the steps, on the same seeds."""
    ours, theirs = f.row(LARGE, CONCURRENT), f.baseline(LONGER)
    if "out" in (ours["status"], theirs["status"]):
        return Measured(math.nan, unit="x", undecided="one of the two is out")
    found = statistics.ratio_summary(ours["final"]["values"], theirs["final"]["values"])
    return Measured(found["ratio"] or math.inf, found["low"], found["high"], found["p"], unit="x")


CLAIM = Claim(
    part="conadv",
    paper="conadv",
    headline=(
        "Concurrent adversarial learning trains ResNet-50 on ImageNet with batches of 96K to 75.3 % accuracy, without "
        "the sequential passes of adversarial training and as well as with them."
    ),
    source="Liu et al., 2021, arXiv 2106.00221, abstract and algorithm 1",
    experiment=(
        "A small convolutional network learns 448 digits for 60 epochs in batches of half of them, and is tested on "
        "1,349 others. Plain training, concurrent and sequential adversarial training, and training on inputs "
        "changed at random are compared by their final error; plain training also gets three times the steps, which "
        "is what the adversarial ones compute."
    ),
    baseline="AdamW on clean inputs; its learning rate gets as many trials as learning rate and attack size together.",
    experiments={
        LARGE: Race(f"adamw; {CONCURRENT}; {SEQUENTIAL}; {RANDOM}", "digits_large_batch", steps=120, tune=8),
        LONGER: Race("adamw", "digits_large_batch", steps=360, tune=8),
    },
    criteria=[
        Criterion(
            "final test error at most 0.9x of plain training's in as many steps",
            lambda f: f.final_ratio(LARGE, CONCURRENT),
            at_most=0.9,
            gain=True,
        ),
        Criterion(
            "at most 0.3 percentage points more errors than sequential adversarial training",
            lambda f: _points_behind(f, CONCURRENT, SEQUENTIAL),
            at_most=0.3,
        ),
        Criterion(
            "fewer errors than with inputs changed at random",
            lambda f: f.final_ratio(LARGE, CONCURRENT, against=RANDOM),
            at_most=1.0,
            gain=True,
            control=True,
        ),
        Criterion(
            "no more errors than plain training in three times the steps",
            _over_longer,
            at_most=1.0,
            control=True,
        ),
        Criterion(
            "the gap of few steps shows here: three times the steps of plain training end at most 0.95x as high",
            lambda f: paired(f.baseline(LONGER)["final"]["values"], f.baseline(LARGE)["final"]["values"]),
            at_most=0.95,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "sequential over plain": lambda f: f.final_ratio(LARGE, SEQUENTIAL),
        "random over plain": lambda f: f.final_ratio(LARGE, RANDOM),
        "steps to middle target": lambda f: f.steps_ratio(LARGE, CONCURRENT),
    },
    regime=Regime(
        "ResNet-50 on ImageNet with LAMB, batches of 32K and 96K, 90 passes, warm-up and decay",
        "AdamW",
        "constant, from the first step on",
        "batches of half of the training set, as large batches have little of it",
        "large batches whose error is the generalization gap, as there; a small network and few images",
    ),
    minutes=5,
    limits=(
        "One batch size and AdamW instead of LAMB. That the attack can run beside the training step is not timed: here "
        "it runs behind it."
    ),
    extra="sklearn",
)
