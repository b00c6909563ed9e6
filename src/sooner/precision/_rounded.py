"""Layers that round their weight in every forward: ordinary layers of PyTorch that were given another class.

The weight itself stays a parameter in full precision, with its name, its optimizer and its place in state files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sooner.error import SoonerError
from sooner.foundation.surgery import hold_off_shortcuts, refuse_sharded, swap


def rounded(weight: Tensor, levels: int) -> Tensor:
    """Return the nearest of ``2 levels + 1`` evenly spaced values, the outermost at the largest absolute weight.

        s = (max |W| + 1e-8) / levels,   W_q = s * clamp(round(W / s), -levels, levels)

    The gradient passes through as if nothing had been done (straight-through, without a mask).

    Args:
        weight: of any shape; half precision is rounded by way of float32, and may fall onto fewer values.
        levels: 7 for 4 bits.
    """
    wide = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
    scale = (wide.abs().amax() + 1e-8) / levels
    values = ((wide / scale).round().clamp(-levels, levels) * scale).to(weight.dtype)
    # exactly these values, for a difference from itself is 0; `weight + (values - weight)` would round once more
    return values + (weight - weight.detach())


class Rounded(nn.Module):
    """What all layers with rounded weights have in common.

    Attributes:
        weight: in full precision.
        levels: how many values there are on each side of 0.
    """

    weight: Tensor
    levels: int

    def rounded_weight(self) -> Tensor:
        """Return the weight that the layer computes with."""
        return rounded(self.weight, self.levels)

    def extra_repr(self) -> str:
        """Return the layer's own description and its number of values."""
        return f"{super().extra_repr()}, values={2 * self.levels + 1}"


class RoundedLinear(Rounded, nn.Linear):
    """`torch.nn.Linear` with a rounded weight."""

    def forward(self, input: Tensor) -> Tensor:
        """Return ``x W_q^T + b``."""
        return functional.linear(input, self.rounded_weight(), self.bias)


class RoundedConv1d(Rounded, nn.Conv1d):
    """`torch.nn.Conv1d` with a rounded weight."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution with ``W_q``."""
        return self._conv_forward(input, self.rounded_weight(), self.bias)  # type: ignore[no-any-return]


class RoundedConv2d(Rounded, nn.Conv2d):
    """`torch.nn.Conv2d` with a rounded weight."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution with ``W_q``."""
        return self._conv_forward(input, self.rounded_weight(), self.bias)  # type: ignore[no-any-return]


class RoundedConv3d(Rounded, nn.Conv3d):
    """`torch.nn.Conv3d` with a rounded weight."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution with ``W_q``."""
        return self._conv_forward(input, self.rounded_weight(), self.bias)  # type: ignore[no-any-return]


KINDS: Mapping[type[Any], type[Any]] = {
    nn.Linear: RoundedLinear,
    nn.Conv1d: RoundedConv1d,
    nn.Conv2d: RoundedConv2d,
    nn.Conv3d: RoundedConv3d,
}
"""Of exactly these classes: a subclass may compute anything."""

PLAIN = {kind: plain for plain, kind in KINDS.items()}


def round_layers(part: str, model: nn.Module, levels: int) -> tuple[list[str], list[str]]:
    """Let all linear layers and convolutions of a model round their weights, in place.

    Args:
        part: who asks, for messages.
        model: the model.
        levels: values on each side of 0.

    Returns:
        The names of the layers that do so now, and of modules whose matrices stay as they are.

    Raises:
        SoonerError: it was done before, or there is no such layer.
    """
    if any(isinstance(module, Rounded) for module in model.modules()):
        raise SoonerError(f"{part}: the model's layers round their weights already; do it once")
    done, left = [], []
    for name, module in list(model.named_modules()):
        if type(module) in KINDS:
            swap(module, KINDS[type(module)])
            module.levels = levels
            done.append(name)
        elif any(p.ndim > 1 for p in module.parameters(recurse=False)):
            left.append(name)
    if not done:
        raise SoonerError(f"{part}: the model has no linear layer or convolution of PyTorch's own; leave it out")
    hold_off_shortcuts(model)
    return done, left


@torch.no_grad()
def convert(model: nn.Module) -> nn.Module:
    """Turn layers with rounded weights into plain ones that hold the rounded values, in place, and return the model.

    It computes the same afterwards. A weight that a layer without rounding shares is given up there: the layers that
    rounded it get one of their own.

    Raises:
        SoonerError: a model whose weights are sharded.
    """
    refuse_sharded("convert", model)
    layers = [module for module in model.modules() if isinstance(module, Rounded)]
    elsewhere = {
        id(p) for m in model.modules() if not isinstance(m, Rounded) for p in m.parameters(recurse=False) if p.ndim > 1
    }
    made: dict[int, nn.Parameter] = {}
    for layer in layers:
        place = layer.weight
        if id(place) not in made:
            values = layer.rounded_weight()
            if id(place) in elsewhere:
                made[id(place)] = nn.Parameter(values, place.requires_grad)
            else:
                place.copy_(values)
                made[id(place)] = place  # type: ignore[assignment]
        layer.weight = made[id(place)]
        layer.__class__ = PLAIN[type(layer)]
        del layer.levels
    return model


def packed_bytes(model: nn.Module) -> int:
    """Return the bytes of the model's parameters and buffers when rounded weights are packed.

    Each takes just the bits that its number of values needs, and 4 bytes for its scale. Everything else, weights that a
    layer without rounding shares among them, counts as it is in memory.
    """
    total = 0
    packed: set[int] = set()
    whole: dict[int, Tensor] = {}
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        if isinstance(module, Rounded):
            weight = own.pop("weight")
            if id(weight) not in packed:
                packed.add(id(weight))
                total += -(-weight.numel() * (2 * module.levels).bit_length() // 8) + 4
        whole |= {id(tensor): tensor for tensor in own.values()}
    return total + sum(tensor.numel() * tensor.element_size() for tensor in whole.values())
