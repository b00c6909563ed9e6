"""The GPT of `charlm` with gradients in which one entry in a thousand is replaced by noise a hundred times too large.

It shows what outliers in gradients, as they come from rare tokens or from faulty hardware, do to a method.
"""

import torch
from torch import Tensor, nn

from sooner.workloads.charlm import batches, fingerprint, loss
from sooner.workloads.charlm import model as clean_model

__all__ = ["batches", "evaluations", "fingerprint", "loss", "model", "steps"]

steps = 300
evaluations = 20

SHARE = 1e-3
SIZE = 100.0  # in root mean squares of the gradient


def model(seed: int) -> nn.Module:
    """Return the network of `charlm` whose parameters' gradients get outliers, drawn from `seed`."""
    network = clean_model(seed)
    generator = torch.Generator().manual_seed(seed + 1)

    def corrupted(gradient: Tensor) -> Tensor:
        hit = torch.rand(gradient.shape, generator=generator) < SHARE
        noise = torch.randn(gradient.shape, generator=generator) * SIZE * gradient.square().mean().sqrt()
        return torch.where(hit, noise, gradient)

    for parameter in network.parameters():
        parameter.register_hook(corrupted)  # type: ignore[no-untyped-call]
    return network
