"""The network of `digits` without its batch normalization: three plain convolutions and a linear layer.

Without normalization large learning rates lose training, which is what clipping relative to the weights is for.
"""

from torch import Tensor, nn

from sooner.workloads._digits import fingerprint, loss, metrics
from sooner.workloads._seeded import seeded
from sooner.workloads.digits import batches

__all__ = ["batches", "evaluations", "fingerprint", "loss", "metric", "metrics", "model", "steps"]

steps = 200
metric = "loss"
evaluations = 20


class Network(nn.Module):
    """Images [N, 1, 8, 8] -> logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
        )
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the ten classes."""
        logits: Tensor = self.head(self.body(images).mean(dim=(2, 3)))
        return logits


def model(seed: int) -> nn.Module:
    """Return the network with weights drawn from `seed`."""
    with seeded(seed):
        return Network()
