"""A small network learns two generated languages of 24 symbols, one of which has two hundred times as many sentences.

Each symbol depends on the two before it. Four fifths of these dependencies are common to both languages, so that what
is learned from the one helps the other, and the hundred sentences of the rare one can be learned by heart: what mixing
domains by hand is for. Languages, sentences and their split are the same for every seed.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from sooner.task import Examples, Passes
from sooner.workloads._seeded import seeded

steps = 1200
metric = "mean"
evaluations = 12
provides = {"domains"}

SYMBOLS = 24
LENGTH = 32
"""Symbols of a sentence; the first two are given."""
BATCH = 32
SIZES = (20_000, 100)
COMMON = 0.8
"""Share of pairs of symbols after which both languages go on alike."""
HELD_OUT = 500
"""Sentences of each language for evaluation."""


def model(seed: int) -> nn.Module:
    """Return the network, (sentences int64 [N, 32], languages int64 [N]) -> logits [N, 30, 24]."""
    with seeded(seed):
        return Network()


class Network(nn.Module):
    """Two layers over the embeddings of the last two symbols and of the language."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols = nn.Embedding(SYMBOLS, 16)
        self.languages = nn.Embedding(len(SIZES), 16)
        self.hidden = nn.Linear(48, 128)
        self.head = nn.Linear(128, SYMBOLS)

    def forward(self, sentences: Tensor, languages: Tensor) -> Tensor:
        """Return the logits of every symbol but the first two."""
        x = self.symbols(sentences)  # [N, 32, 16]
        said = self.languages(languages)[:, None].expand(-1, LENGTH - 2, -1)
        logits: Tensor = self.head(F.relu(self.hidden(torch.cat([x[:, :-2], x[:, 1:-1], said], -1))))
        return logits


def examples(split: str) -> Examples:
    """Return the sentences of a split: (symbols int64 [32], language), with the language as domain."""
    return examples_of(SIZES, COMMON, split)


batches = Passes(examples)


def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Return the mean cross-entropy in nats."""
    return losses_of(model, batch).mean()


def losses_of(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Return the mean cross-entropy of every sentence, ``[N]``."""
    sentences, languages = batch
    return F.cross_entropy(model(sentences, languages).transpose(1, 2), sentences[:, 2:], reduction="none").mean(1)


def metrics(model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
    """Return the loss of each language, and the mean of both."""
    losses = losses_of(model, batch)
    common, rare = (losses[batch[1] == language].mean() for language in range(len(SIZES)))
    return {"mean": (common + rare) / 2, "common": common, "rare": rare}


def fingerprint() -> str:
    """Return how many sentences there are, and the hash of all of them."""
    digest = hashlib.sha256()
    for split in ("train", "eval"):
        for sentences in examples(split).dataset.tensors:  # type: ignore[attr-defined]
            digest.update(sentences.numpy().tobytes())
    return f"generated, {SIZES[0]} and {SIZES[1]} sentences of {LENGTH} symbols, sha256 {digest.hexdigest()}"


@cache
def examples_of(sizes: tuple[int, int], common: float, split: str) -> Examples:
    """Return the sentences of two languages of these sizes; for evaluation `HELD_OUT` of each, in batches of one
    language.

    Args:
        sizes: training sentences of each.
        common: share of pairs of symbols after which both go on alike.
        split: "train" or "eval".
    """
    generator = np.random.default_rng([2024, 410])
    logits = 1.5 * generator.standard_normal((2, SYMBOLS, SYMBOLS, SYMBOLS))
    alike = generator.random((SYMBOLS, SYMBOLS)) < common
    logits[1][alike] = logits[0][alike]
    chances = np.exp(logits)
    bounds = (chances / chances.sum(-1, keepdims=True)).cumsum(-1)
    found = []
    for language, size in enumerate(sizes):
        count = HELD_OUT if split == "eval" else size
        draws = np.random.default_rng([2024, language, int(split == "eval")])
        text = draws.integers(SYMBOLS, size=(count, LENGTH))
        for place in range(2, LENGTH):
            row = bounds[language][text[:, place - 2], text[:, place - 1]]  # [count, 24]
            text[:, place] = (draws.random((count, 1)) > row[:, :-1]).sum(1)
        found.append(text)
    languages = torch.arange(2).repeat_interleave(torch.tensor([len(text) for text in found]))
    sentences = torch.from_numpy(np.concatenate(found))
    return Examples(
        TensorDataset(sentences, languages),
        len(sentences) if split == "eval" else BATCH,
        domains=languages,
        labels=languages,
    )
