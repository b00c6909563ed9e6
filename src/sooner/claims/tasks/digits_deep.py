"""Thirty tanh layers of 64 units read the images of `digits`, with neither normalization nor residual connections.

The weights begin as Glorot and Bengio (2010) draw them. How deep signals reach decides whether this can be learned at
all.
"""

from torch import Tensor, nn

from sooner.workloads._seeded import seeded
from sooner.workloads.digits import batches, fingerprint, loss, metrics

__all__ = ["batches", "evaluations", "fingerprint", "loss", "metric", "metrics", "model", "steps"]

steps = 300
metric = "loss"
evaluations = 30

DEPTH = 30
WIDTH = 64


class Network(nn.Module):
    """Images [N, 1, 8, 8] -> logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        widths = [64] + [WIDTH] * (DEPTH - 1)
        self.body = nn.Sequential(*(m for i in widths for m in (nn.Linear(i, WIDTH), nn.Tanh())))
        self.head = nn.Linear(WIDTH, 10)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the ten classes."""
        logits: Tensor = self.head(self.body(images.flatten(1)))
        return logits


def model(seed: int) -> nn.Module:
    """Return the network with weights drawn from `seed`."""
    with seeded(seed):
        return Network()
