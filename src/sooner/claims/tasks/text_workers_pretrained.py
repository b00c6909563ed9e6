"""The network of `text_workers` after 600 steps by one worker: outer optimizers are mostly begun from such a start.

The start is one of two networks, each a pure function of its number, trained once and kept in the user's cache.
"""

import copy
from functools import cache, partial

import torch
from torch import nn

from sooner.claims.tasks.text_workers import batches, evaluations, fingerprint, loss
from sooner.claims.tasks.text_workers import model as untrained
from sooner.recipe import Recipe
from sooner.workloads._kept import kept

__all__ = ["batches", "evaluations", "fingerprint", "loss", "model", "steps"]

steps = 2000

STARTS = 2
START_STEPS = 600
START_RECIPE = "adamw(lr=0.003)"


def model(seed: int) -> nn.Module:
    """Return one of `STARTS` trained networks, symbols [N, CONTEXT] -> logits [N, SYMBOLS]."""
    return copy.deepcopy(_start(seed % STARTS))


@cache
def _start(number: int) -> nn.Module:
    key = (number, START_STEPS, START_RECIPE, fingerprint())
    return kept("text_workers", partial(untrained, number), partial(_pretrain, number), *key)


def _pretrain(number: int, model: nn.Module) -> None:
    training = Recipe(START_RECIPE).build(model, START_STEPS)
    text = batches(number, "train")
    for step in range(START_STEPS):
        torch.autograd.backward(loss(model, text[step]))
        training.step()
        training.zero_grad()
