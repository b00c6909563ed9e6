"""Parts that only the tests know: stations that have no bundled part yet, and parts that ask for much."""

import contextlib
from typing import ClassVar

import torch
from torch.optim.lr_scheduler import LRScheduler

from sooner.foundation.surgery import Surgery
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


class Bypass(torch.nn.Module):
    """A model and a new trained layer beside it; what was there is frozen."""

    def __init__(self, model, width):
        super().__init__()
        self.inner, self.beside = model.requires_grad_(False), torch.nn.Linear(width, width, bias=False)

    def forward(self, x):
        return self.inner(x) + self.beside(x)


class Beside(Surgery):
    """Adds parameters, freezes others, and puts another model in the place of the one that it is given."""

    station = "adapter"

    def __init__(self, width=1):
        self.width = width

    def prepare(self, model):
        return Bypass(model, self.width)

    def export(self, model):
        return model.inner


class Halved(Surgery):
    """Halves the weights, in place, and again after every step."""

    station = "precision"

    def prepare(self, model):
        self.follow(model)
        self.after_step()
        return model

    @torch.no_grad()
    def after_step(self):
        for p in self.model.parameters():
            p.mul_(0.5)


class Idle(Part):
    """Says that it changes the model, and has no method that does."""

    station = "model"
