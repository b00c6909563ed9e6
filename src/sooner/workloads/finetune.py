"""A Transformer that knows the language of `grammar` learns a dialect of it from 800 documents.

It shows what most training is today: a pretrained network, little data from elsewhere, a few passes, and something to
lose. The dialect has the same grammar and words but prefers other ones, so that the network has most of it to keep and
some to learn. What it has learned and what it has forgotten are both measured from the best that is possible.
"""

import copy
from functools import cache, partial

import torch
from torch import Tensor, nn

from sooner.recipe import Recipe
from sooner.workloads import grammar
from sooner.workloads._grammar import language
from sooner.workloads._kept import kept
from sooner.workloads._seeded import Batch, Finite, Stream, generator
from sooner.workloads.grammar import documents_of, fingerprint_of, loss

__all__ = ["batches", "evaluations", "fingerprint", "loss", "metric", "metrics", "model", "start", "steps"]

steps = 300
metric = "excess"
evaluations = 20

SHIFT = 1.0
"""Of the dialect: all words are in clusters and orders drawn anew."""
DOCUMENTS = 800
"""Documents of the dialect to learn from, the same for every seed."""
SEQUENCES = 8  # in a training batch
EVALUATED = 64  # documents of each language
STARTS = 2  # different starting points among all seeds
START_STEPS = 1500
START_RECIPE = "adamw(lr=0.003) + linear"
CONSTANT = 512  # seeds the documents of the dialect, which belong to the task and not to a run


def model(seed: int, size: float = 1) -> nn.Module:
    """Return one of STARTS networks that have learned `grammar`, of about `size` times the parameters."""
    return copy.deepcopy(start(seed % STARTS, size))


def batches(seed: int, split: str) -> Stream:
    """Return batches (documents int64 [N, CONTEXT + 1], surprise [N, CONTEXT]) of the dialect, in shuffled passes.

    The evaluation batch goes on with documents and surprise of the language itself.
    """
    if split == "eval":
        return Finite(_evaluation, 1)
    return Stream(partial(_training, seed))


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return by how much losses exceed those of a perfect reader, in nats: of an evaluation batch.

    "excess" is that on the dialect, "excess_before" that on the language known before, and "disagreeing" as in
    `grammar`, on the dialect.
    """
    documents, surprise, known, known_surprise = batch
    found = grammar.metrics(model, (documents, surprise))
    return {**found, "excess_before": grammar.metrics(model, (known, known_surprise))["excess"]}


def fingerprint() -> str:
    """Return the size of the dialect's text, and the size and hash of the dialect."""
    return f"{DOCUMENTS} documents of a dialect, shift {SHIFT}, of {fingerprint_of(SHIFT)}"


@cache
def start(number: int, size: float = 1) -> nn.Module:
    """Return one of the trained starting points; everybody shares it, so copy it before training.

    Args:
        number: 0 .. STARTS - 1.
        size: times the parameters.
    """
    key = (number, size, START_STEPS, START_RECIPE, grammar.fingerprint())
    return kept("finetune", partial(grammar.model, number, size), partial(_pretrain, number), *key)


def _pretrain(number: int, model: nn.Module) -> None:
    training = Recipe(START_RECIPE).build(model, START_STEPS)
    documents = grammar.batches(number, "train")
    for step in range(START_STEPS):
        torch.autograd.backward(loss(model, documents[step]))
        training.step()
        training.zero_grad()


def _training(seed: int, index: int) -> Batch:
    """Return batch `index` of an endless row of passes."""
    documents, surprise = _text("train", DOCUMENTS)
    epoch, position = divmod(index, DOCUMENTS // SEQUENCES)
    order = generator(seed, "train", epoch).permutation(DOCUMENTS)
    chosen = torch.from_numpy(order[position * SEQUENCES : (position + 1) * SEQUENCES])
    return documents[chosen], surprise[chosen]


def _evaluation(index: int) -> Batch:
    return *_text("eval", EVALUATED), *documents_of(0.0, CONSTANT, "eval", EVALUATED, 0)


@cache
def _text(split: str, rows: int) -> tuple[Tensor, Tensor]:
    documents, surprise = language(SHIFT).documents(generator(CONSTANT, split, 0), rows, grammar.CONTEXT)
    return torch.from_numpy(documents), torch.from_numpy(surprise)
