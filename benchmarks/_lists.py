"""The lists of parameters that optimizers are timed on, each as a model with constant gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sooner.update.muon import hidden_matrices


def small(layers: int = 37, width: int = 160) -> nn.Module:
    """150 tensors with about 1 million parameters: square layers with biases, and normalisation between them."""
    made = [layer for _ in range(layers) for layer in (nn.LayerNorm(width), nn.Linear(width, width))]
    return nn.Sequential(*made, nn.LayerNorm(width))


def middle(layers: int = 30, width: int = 256) -> nn.Module:
    """60 tensors with about 32 million parameters, too many for any cache."""
    shapes = [(width, 16 * width), (16 * width, width)]
    return nn.Sequential(*(nn.Linear(*shapes[i % 2]) for i in range(layers)))


def gpt2(width: int = 768, depth: int = 12, vocabulary: int = 50257, context: int = 1024) -> nn.Module:
    """GPT-2 small: 148 tensors with 124 439 808 parameters.

    Only the parameters are meant; nothing calls the model. Radford et al., 2019, "Language Models are Unsupervised
    Multitask Learners": token and position embeddings, 12 blocks (norm, attention in and out, norm, two layers of four
    times the width), a final norm, and an output layer that shares the token embedding.
    """
    blocks = [
        layer
        for _ in range(depth)
        for layer in (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )
    ]
    tokens = nn.Embedding(vocabulary, width)
    head = nn.Linear(width, vocabulary, bias=False, device="meta")
    head.weight = tokens.weight
    return nn.Sequential(tokens, nn.Embedding(context, width), *blocks, nn.LayerNorm(width), head)


LISTS: dict[str, Callable[[], nn.Module]] = {"small": small, "middle": middle, "gpt2": gpt2}


def make(name: str) -> nn.Module:
    """Return a list of `LISTS` with its gradients, the same in every process."""
    torch.manual_seed(0)
    return with_gradients(LISTS[name]())


def with_gradients(model: nn.Module) -> nn.Module:
    """Give every parameter a fixed random gradient of size 1e-3, and return the model."""
    for p in model.parameters():
        p.grad = torch.randn_like(p).mul_(1e-3)
    return model


def count(model: nn.Module) -> int:
    """Return the number of parameters, shared ones once."""
    return sum(p.numel() for p in model.parameters())


def matrices_and_rest(model: nn.Module, name: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights that Muon is for and all other parameters.

    The list "small" has no output layer: every matrix counts. In the others the rule of `sooner.update.Muon` decides.
    """
    chosen = {p for p in model.parameters() if p.ndim == 2} if name == "small" else hidden_matrices(model)
    return [p for p in model.parameters() if p in chosen], [p for p in model.parameters() if p not in chosen]
