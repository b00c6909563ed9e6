"""A network reads eight characters of `charlm`'s text and predicts the ninth: long training at a small price.

A neural probabilistic language model (Bengio et al., 2003) without biases: all its parameters are matrices, so that
codecs for matrices have all of it. Workers draw their windows from the same text.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from sooner.workloads._seeded import Batch, Finite, Stream, seeded
from sooner.workloads.charlm import SYMBOLS, fingerprint, windows

__all__ = ["batches", "evaluations", "fingerprint", "loss", "model", "steps"]

steps = 600
evaluations = 40

CONTEXT = 8
EMBEDDED = 32
WIDTH = 128
BATCH = 32
EVAL_WINDOWS = 2048


def model(seed: int) -> nn.Module:
    """Return the network, symbols [N, CONTEXT] -> logits [N, SYMBOLS], with weights drawn from `seed`."""
    with seeded(seed):
        return nn.Sequential(
            nn.Embedding(SYMBOLS, EMBEDDED),
            nn.Flatten(),
            nn.Linear(CONTEXT * EMBEDDED, WIDTH, bias=False),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH, bias=False),
            nn.ReLU(),
            nn.Linear(WIDTH, SYMBOLS, bias=False),
        )


def batches(seed: int, split: str) -> Stream:
    """Return batches of windows (int64 [N, CONTEXT + 1]) at random places of the files of `split`."""
    if split == "eval":
        return Finite(partial(windows, CONTEXT, seed, split, EVAL_WINDOWS), 1)
    return Stream(partial(windows, CONTEXT, seed, split, BATCH))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the character after the window, in nats."""
    (windows,) = batch
    return F.cross_entropy(model(windows[:, :-1]), windows[:, -1])
