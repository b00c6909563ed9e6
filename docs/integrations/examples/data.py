"""What the examples train, and for how long."""

import torch
from torch import nn

RECIPE = "clip_norm + muon + cosine + ema"
EPOCHS = 2


class Net(nn.Module):
    """A small classifier that returns its loss, as models of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss and the logits."""
        logits = self.layers(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def examples() -> list[dict[str, torch.Tensor]]:
    """Return 32 examples, always the same."""
    drawn = torch.Generator().manual_seed(1)
    x, y = torch.randn(32, 6, generator=drawn), torch.randint(3, (32,), generator=drawn)
    return [{"x": one, "labels": label} for one, label in zip(x, y, strict=True)]
