"""The images of `digits_workers` are read by a network with a layer of eight experts, two of which answer."""

import torch
from torch import Tensor, nn

from sooner.claims.tasks.digits_workers import batches, fingerprint, loss, metrics
from sooner.workloads._seeded import seeded

__all__ = ["batches", "evaluations", "fingerprint", "loss", "metric", "metrics", "model", "steps"]

steps = 100
metric = "loss"
evaluations = 10

WIDTH, EXPERTS, CHOSEN = 32, 8, 2


class Mixture(nn.Module):
    """Experts of two layers each, all evaluated, and a router that weighs the best two."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, WIDTH, bias=False))
            for _ in range(EXPERTS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return what the chosen experts say, [N, WIDTH]."""
        scores = self.router(x)
        best = scores.topk(CHOSEN, dim=-1).values[..., -1:]
        weights = scores.masked_fill(scores < best, -torch.inf).softmax(-1)
        answers = torch.stack([expert(x) for expert in self.experts], -1)  # [N, WIDTH, EXPERTS]
        made: Tensor = (answers * weights[..., None, :]).sum(-1)
        return made


class Network(nn.Module):
    """Images [N, 1, 8, 8] -> logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, WIDTH, bias=False)
        self.mixture = Mixture()
        self.head = nn.Linear(WIDTH, 10, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the ten classes."""
        x = torch.relu(self.first(images.flatten(1)))
        logits: Tensor = self.head(x + self.mixture(x))
        return logits


def model(seed: int) -> nn.Module:
    """Return the network with weights drawn from `seed`."""
    with seeded(seed):
        return Network()
