"""The GPT of `charlm` at three times the size: wider and deeper by half, on the same text and batches.

It answers whether a gain seen on `charlm` shrinks as the model grows, which it often does.
"""

from torch import nn

from sooner.workloads._seeded import seeded
from sooner.workloads.charlm import GPT, batches, fingerprint, loss

__all__ = ["batches", "evaluations", "fingerprint", "loss", "model", "steps"]

steps = 400
evaluations = 20

WIDTH = 96
BLOCKS = 3


def model(seed: int) -> nn.Module:
    """Return the network with weights drawn from `seed`."""
    with seeded(seed):
        return GPT(WIDTH, BLOCKS)
