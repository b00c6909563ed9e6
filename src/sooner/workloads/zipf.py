"""An embedding and a linear layer learn which token follows which, where tokens come in Zipf's proportions.

It shows why Adam leaves SGD behind on language: the gradient of a rare token is tiny and comes seldom, so SGD learns
the head of the distribution and hardly the tail, while Adam's steps do not shrink with a token's frequency. The
setting is that of Kunstner et al. (2024: Heavy-Tailed Class Imbalance and Why Adam Outperforms Gradient Descent on
Language Models, arXiv 2402.19449).
"""

import hashlib
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.workloads._seeded import Batch, Finite, Stream, generator, scaled, seeded

steps = 300
evaluations = 20

VOCABULARY = 4096
WIDTH = 64
TOKENS = 256  # in a training batch
EVAL_TOKENS = 400
SCALE = 100.0  # of the logits: with it, learning rates that are usual elsewhere are usual here, SGD's and Adam's
CONSTANT = 4096  # seeds the map from a token to the next one, which belongs to the task and not to a run


class Bigram(nn.Module):
    """Tokens [N] -> logits of the next token [N, VOCABULARY]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        nn.init.normal_(self.embedding.weight, std=SCALE**-0.5 / 10)
        nn.init.normal_(self.head.weight, std=SCALE**-0.5 / 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next token."""
        logits: Tensor = SCALE * self.head(self.embedding(tokens))
        return logits


def model(seed: int, size: float = 1) -> nn.Module:
    """Return the network with weights drawn from `seed`, of about `size` times the parameters."""
    width = scaled(WIDTH, size, linear=1.0)
    with seeded(seed):
        return Bigram(width)


def batches(seed: int, split: str) -> Stream:
    """Return batches (tokens int64 [N], next tokens int64 [N]); token r (from 0) has probability ~ 1 / (r + 1)."""
    if split == "eval":
        return Finite(partial(_evaluation_batch, seed), 1)
    return Stream(partial(_training_batch, seed))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the next token, in nats."""
    tokens, following = batch
    return F.cross_entropy(model(tokens), following)


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the loss of each tenth of the probability: loss_decile_0 the commonest tokens, loss_decile_9 the rarest.

    A decile of which the batch holds no token is NaN.
    """
    tokens, following = batch
    losses = F.cross_entropy(model(tokens), following, reduction="none")
    decile = torch.from_numpy(_deciles())[tokens]
    return {f"loss_decile_{number}": losses[decile == number].mean() for number in range(10)}


def fingerprint() -> str:
    """Return the shape of the task and the hash of the map from a token to the next one."""
    return (
        f"{VOCABULARY} tokens with probability ~ 1/rank, a fixed random next token for each, "
        f"sha256 {hashlib.sha256(_following().tobytes()).hexdigest()}"
    )


def _training_batch(seed: int, index: int) -> Batch:
    return _pairs(generator(seed, "train", index).random(TOKENS))


def _evaluation_batch(seed: int, index: int) -> Batch:
    # evenly spaced quantiles instead of independent draws: every decile gets its exact share, so the loss is less noisy
    offset = generator(seed, "eval", index).random()
    return _pairs((np.arange(EVAL_TOKENS) + offset) / EVAL_TOKENS)


def _pairs(quantiles: npt.NDArray[np.float64]) -> Batch:
    tokens = np.searchsorted(_cumulative(), quantiles, side="right").clip(max=VOCABULARY - 1)
    return torch.from_numpy(tokens), torch.from_numpy(_following()[tokens])


@cache
def _cumulative() -> npt.NDArray[np.float64]:
    """Return the probability of the tokens up to and including each one."""
    weights = 1 / np.arange(1, VOCABULARY + 1)
    return np.asarray(np.cumsum(weights / weights.sum()))


@cache
def _deciles() -> npt.NDArray[np.int64]:
    """Return for each token the tenth of the probability (0 .. 9) in which the middle of its own share lies."""
    cumulative = _cumulative()
    middle = (cumulative + np.concatenate([[0.0], cumulative[:-1]])) / 2
    return np.asarray(10 * middle, dtype=np.int64)


@cache
def _following() -> npt.NDArray[np.int64]:
    """Return the token that follows each token: a fixed permutation, so the targets are as heavy-tailed."""
    return np.asarray(np.random.default_rng(CONSTANT).permutation(VOCABULARY), dtype=np.int64)
