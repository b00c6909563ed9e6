"""Gradients of every single sample of a batch, and what they say about the noise of their mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from sooner.error import SoonerError


def per_sample_gradients(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    inputs: Tensor,
    targets: Tensor,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """Return the gradient of every sample's loss by every trained parameter. Nothing is put into ``.grad``.

    Args:
        model: called as ``model(inputs)``. Dropout draws anew for every sample.
        loss: ``loss(outputs, targets) -> 0-d tensor`` for a batch, such as a mean; it is given one sample at a time.
        inputs: ``[n, ...]``.
        targets: ``[n, ...]``.
        chunk: samples differentiated at once, to bound memory; default None for all.

    Returns:
        ``{name: [n, *parameter's shape]}``; their mean over n is the gradient of a mean loss.

    Raises:
        SoonerError: batch normalisation in training mode, where one sample's gradient depends on the others.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise SoonerError(
                f"per-sample gradients do not exist for {name or 'a model'} of batch normalisation in training mode, "
                "which mixes samples; use group or layer normalisation, or give micro-batch gradients instead"
            )
    trained = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    fixed = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
    rest = {**fixed, **dict(model.named_buffers())}

    def one(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(model, {**rest, **parameters}, (x.unsqueeze(0),))
        return loss(outputs, y.unsqueeze(0))

    each = vmap(grad(one), in_dims=(None, 0, 0), randomness="different", chunk_size=chunk)
    found: dict[str, Tensor] = each(trained, inputs, targets)
    return {name: value.detach() for name, value in found.items()}


@dataclass(frozen=True)
class Moments:
    """Mean and scatter of independent gradients, each of them the mean over `size` samples.

    Attributes:
        count: number of gradients.
        size: samples behind each.
        means: their mean per parameter, flat.
        scatter: sum of squared distances from the mean over all parameters, 0-d.
        products: dot product of every gradient with the mean, ``[count]``; None after a merge, which loses them.
    """

    count: int
    size: int
    means: list[Tensor]
    scatter: Tensor
    products: Tensor | None

    @classmethod
    def of(cls, gradients: Sequence[Tensor], size: int) -> Moments:
        """Return the moments of gradients ``[count, *shape]``, one tensor per parameter; halves in float32."""
        count = len(gradients[0])
        wide = [g.float() if g.dtype.itemsize < 4 else g for g in gradients]
        flat = [g.reshape(count, -1) for g in wide]
        means = [g.mean(0) for g in flat]
        scatter = _total([(g - m).square().sum() for g, m in zip(flat, means, strict=True)])
        products = _total([g @ m for g, m in zip(flat, means, strict=True)])
        return cls(count, size, means, scatter, products)

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of gradients together, by the law of total variance."""
        count = self.count + other.count
        apart = torch._foreach_sub(other.means, self.means)
        between = _squared(apart) * (self.count * other.count / count)
        means = torch._foreach_add(self.means, apart, alpha=other.count / count)
        return Moments(count, self.size, list(means), self.scatter + other.scatter + between, None)

    def measured(self) -> Tensor:
        """Return ``[4]``, in samples: V, Var(g_i . g), the variance across g, and |G|^2 without its bias."""
        variance = self.scatter * (self.size / (self.count - 1))
        norm = _squared(self.means)  # |g|^2
        along = torch.zeros_like(norm) if self.products is None else self.products.var() * self.size
        across = variance - along / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        return torch.stack([variance, along, across.clamp_min(0), norm - variance / (self.count * self.size)])


def _squared(tensors: Sequence[Tensor]) -> Tensor:
    return _total([t.square().sum() for t in tensors])


def _total(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([p.to(parts[0].device) for p in parts]).sum(0)
