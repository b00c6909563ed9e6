"""Parts that only the tests know: stations that have no bundled part yet, and parts that ask for much."""

import contextlib
from typing import ClassVar

import torch
from torch.optim.lr_scheduler import LRScheduler

from sooner.part import Part
from sooner.space import Uniform


class RunningMean(Part):
    """Evaluation weights: an exponential average of the weights after every step."""

    station = "weights"
    owns = frozenset({"evaluation weights"})
    space: ClassVar = {"rate": Uniform(0.5, 1.0)}

    def __init__(self, model, rate=0.9):
        self.model = model
        self.rate = rate
        self.mean = {n: p.detach().clone() for n, p in model.named_parameters()}

    @torch.no_grad()
    def after_step(self):
        for n, p in self.model.named_parameters():
            self.mean[n].mul_(self.rate).add_(p, alpha=1 - self.rate)

    @contextlib.contextmanager
    def view(self):
        kept = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        try:
            self._put(self.mean)
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, weights):
        for n, p in self.model.named_parameters():
            p.copy_(weights[n])

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = {n: v.clone() for n, v in state["mean"].items()}


class OtherMean(RunningMean):
    """A second owner of the evaluation weights."""


class Demanding(Part, torch.optim.SGD):
    """An optimizer that needs what the reference loop does not offer."""

    station = "update"
    needs = frozenset({"process group", "per-sample gradients"})
    owns = frozenset({"step"})


class Homeless(Part):
    """A part that names no station."""


class Lost(Part):
    """A part of a station that does not exist."""

    station = "nowhere"


class Halving(LRScheduler):
    """A plain PyTorch scheduler of the user's own."""

    def get_lr(self):
        return [base * 0.5**self.last_epoch for base in self.base_lrs]
