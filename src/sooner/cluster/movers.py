"""Which optimizer moves whom in a simulated cluster: one moves all where its rule allows that, one each otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from sooner.error import SoonerError
from sooner.foundation.lanes import Lanes, Stacked, elementwise, remembers
from sooner.part import SURGERY
from sooner.recipe import Recipe, Slot
from sooner.recipe.training import Training

Rows = Tensor | slice


class Mover(Protocol):
    """Moves rows of ``weights`` ``[n, d]``.

    Attributes:
        trainings: the recipe at work, once or once per row.
        weights: of the workers.
        by_worker: row i is that of worker i, rather than that of the i-th of those that take part.
    """

    trainings: list[Training]
    weights: Tensor
    by_worker: bool

    def move(self, rows: Rows, gradients: Tensor) -> None:
        """Take one optimizer step with these rows, by their gradients ``[m, d]``; leave the others where they are."""


class Alike:
    """Workers that all have the same weights: those of one model, ``[1, d]``."""

    by_worker = False

    def __init__(self, lanes: Lanes, model: nn.Module, recipe: Recipe, steps: int) -> None:
        self._layout = lanes.layout
        self._trained = {name: p for name, p in model.named_parameters() if name in self._layout.shapes}
        self.weights = lanes.start[None].clone()
        for name, place in self._layout.views(self.weights[0]).items():
            self._trained[name].data = place
        self.trainings = [recipe.build(model, steps, prepared=True)]

    def move(self, rows: Rows, gradients: Tensor) -> None:
        """Take a step by the one gradient ``[1, d]``."""
        give(self._trained, self._layout.views(gradients[0]))
        self.trainings[0].step()
        self.trainings[0].zero_grad()


class Together:
    """Workers that one optimizer moves as one parameter: its rule looks at single numbers only."""

    by_worker = False

    def __init__(self, training: Training, weights: Tensor) -> None:
        self.trainings, self.weights = [training], weights
        self._parameter = training.optimizers[0].param_groups[0]["params"][0]

    def move(self, rows: Rows, gradients: Tensor) -> None:
        """Take a step with all rows at once; those that are not meant are put back."""
        if isinstance(rows, slice):
            self._parameter.grad = gradients
            self.trainings[0].step()
        else:
            kept = self.weights.clone()
            self._parameter.grad = torch.zeros_like(kept).index_copy_(0, rows, gradients)
            self.trainings[0].step()
            kept[rows] = self.weights[rows]
            self.weights.copy_(kept)
        self.trainings[0].zero_grad()


class Apart:
    """Workers with an optimizer each, which sees parameters in their shapes and nobody else's.

    Args:
        lanes: of the workers.
        recipe: how each of them is trained.
        steps: optimizer steps planned.
        resting: per worker the names of parameters that it does not train.
    """

    by_worker = True

    def __init__(self, lanes: Lanes, recipe: Recipe, steps: int, resting: Sequence[frozenset[str]]) -> None:
        self.weights, self._layout, self._resting = lanes.weights, lanes.layout, resting
        self._replicas = lanes.replicas()
        self.trainings = [recipe.build(replica, steps, prepared=True) for replica in self._replicas]

    def move(self, rows: Rows, gradients: Tensor) -> None:
        """Take a step with every optimizer that is meant; time passes for all of them alike."""
        numbers = range(len(self.weights)) if isinstance(rows, slice) else rows.tolist()
        going = dict(zip(numbers, gradients, strict=True))
        for worker, training in enumerate(self.trainings):
            if worker in going:
                places = self._layout.views(going[worker])
                trained = {n: p for n, p in self._replicas[worker].named_parameters() if n in places}
                give(trained, {n: place for n, place in places.items() if n not in self._resting[worker]})
                training.step()
                training.zero_grad()
                continue
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                for schedule in training.schedules:
                    schedule.step()


def give(parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
    """Let each parameter have its gradient."""
    for name, gradient in gradients.items():
        parameters[name].grad = gradient


def mover_of(
    lanes: Lanes, recipe: Recipe, steps: int, taking_part: int, partial: bool, resting: Sequence[frozenset[str]]
) -> Mover:
    """Return what moves workers that go their own ways.

    Args:
        lanes: of all workers.
        recipe: how they are trained, without what they communicate.
        steps: optimizer steps planned.
        taking_part: how many workers do so in a round.
        partial: some of the workers may not take part in a step.
        resting: per worker the names of parameters that it does not train.
    """
    if all(_alike(s) for s in recipe.slots) and not any(resting):
        weights = lanes.start.repeat(taking_part, 1)
        try:
            training = recipe.build(Stacked(weights), steps, prepared=True)
        except SoonerError:  # such as a rule for matrices only; what is wrong with the recipe itself is said below
            return Apart(lanes, recipe, steps, resting)
        only = training.optimizers[0] if len(training.optimizers) == 1 else None
        if only is not None and elementwise(only) and not (partial and remembers(only)):
            return Together(training, weights)
    return Apart(lanes, recipe, steps, resting)


def _alike(slot: Slot) -> bool:
    """Whether a part does the same to all workers, as far as its station says: a schedule that only looks at time."""
    if slot.station == "schedule":
        return issubclass(slot.factory, LRScheduler) and slot.factory is not ReduceLROnPlateau
    if slot.station in SURGERY:  # the workers' models are copies of one that has been through it
        return not hasattr(slot.factory, "after_step")
    return slot.station == "loss" or (slot.station == "update" and slot.on is None)
