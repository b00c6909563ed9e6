"""DoRA with factored norms: a low-rank change of every weight's direction and a length of its own per row.

    W' = m * (W + s B A) / ||W + s B A||,   s = alpha / rank      norms of rows, through which no gradient goes
    ||W + s B A||^2 = ||W||^2 + 2 s sum(B o (W A^T)) + s^2 sum((B (A A^T)) o B)

Only A [rank, in], B [out, rank] and m [out] are trained. The norms come from the factors, so that neither the product
B A nor the changed weight is ever formed, and the layer is applied to activations:
y = x W^T + (g - 1) * x W^T + g * s * (x A^T) B^T + bias with g = m / norm.

Use it when a large model is fine-tuned with few weights, and LoRA of the same rank falls short of full fine-tuning.

Leave it when plain LoRA does as well: norms cost as much time as a pass of `rank` examples through every layer.

It costs one product with W of `rank` columns per layer and forward; optimizer state for the few weights; nothing on the
wire.

The adapter is due to Liu et al., 2024, arXiv 2402.09353; the norm from its factors is that of the repository
sockeye44/dorafactors, 2026.
"""

from __future__ import annotations

import fnmatch
import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sooner.adapter._factored import factored_norm
from sooner.error import SoonerError
from sooner.foundation.surgery import Surgery, hold_off_shortcuts, refuse_sharded, refuse_wrapped, swap
from sooner.part import check_range

__all__ = ["DoRA", "DoRALinear"]


class DoRALinear(nn.Linear):
    """`torch.nn.Linear` with a DoRA adapter.

    Attributes:
        weight: frozen, ``[out, in]``.
        lora_A: ``[rank, in]``, trained.
        lora_B: ``[out, rank]``, trained.
        magnitude: ``[out]``, trained.
        scale: of the product, ``s``.
    """

    lora_A: nn.Parameter  # noqa: N815  # peft's names
    lora_B: nn.Parameter  # noqa: N815
    magnitude: nn.Parameter
    scale: float

    def gain(self) -> Tensor:
        """Return ``m / ||W + s B A||`` of every row, ``[out]``; gradients go to m alone."""
        return self.magnitude / factored_norm(
            self.weight.detach(), self.lora_A.detach(), self.lora_B.detach(), self.scale
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return ``x W'^T + bias``."""
        base = functional.linear(input, self.weight)
        low = functional.linear(functional.linear(input.to(self.lora_A.dtype), self.lora_A), self.lora_B)
        gain = self.gain()
        # not g * (base + ...): close to g = 1 that would round the difference away in half precision
        extra = torch.addcmul(low * (self.scale * gain), base, gain - 1)
        out = base + extra.to(base.dtype)
        return out if self.bias is None else out + self.bias

    @torch.no_grad()
    def merged(self) -> Tensor:
        """Return the weight that the layer computes with, ``[out, in]``."""
        whole = self.weight.to(self.magnitude.dtype) + self.scale * self.lora_B @ self.lora_A
        return (self.gain()[:, None] * whole).to(self.weight.dtype)

    def extra_repr(self) -> str:
        """Return the layer's own description and the rank."""
        return f"{super().extra_repr()}, rank={len(self.lora_A)}"


class DoRA(Surgery):
    """Gives linear layers of a model DoRA adapters, and freezes everything else.

    At first the model computes what it did before. Layers keep their weight under its name, beside three new parameters
    ``lora_A``, ``lora_B`` and ``magnitude``; of weights in half precision these are in float32. The class of a layer is
    changed, so deep copies and pickling work. Weights to start from have to be loaded before; state files of the
    changed model load after the same change. `export` merges the adapters into plain layers.

    Args:
        model: the model; None (default) to give it to `prepare`.
        rank: of the change, default 16.
        alpha: strength of the change, ``s = alpha / rank``; default None for ``rank``.
        layers: which linear layers get one, a pattern of their names such as ``"*.attn.*"``; default all. Subclasses of
            `torch.nn.Linear` are left alone, for they may compute anything.
        train: what else goes on being trained, a pattern of parameter names such as ``"head.*"``; default nothing.

    Attributes:
        adapted: the names of the layers that have an adapter.

    Raises:
        SoonerError: a number out of range; no such layer; a model that is wrapped, sharded or on the meta device.
    """

    station: ClassVar[str] = "adapter"
    owns = frozenset({"choice of trained weights"})

    def __init__(
        self,
        model: nn.Module | None = None,
        rank: int = 16,
        alpha: float | None = None,
        layers: str = "*",
        train: str = "",
    ) -> None:
        check_range("dora", "rank", rank, 1, 2**20, whole=True)
        if alpha is not None:
            check_range("dora", "alpha", alpha, 0, math.inf, open_high=True)
        self.rank, self.alpha, self.layers, self.train = int(rank), alpha, layers, train
        self.adapted: list[str] = []
        if model is not None:
            self.prepare(model)

    @torch.no_grad()
    def prepare(self, model: nn.Module) -> nn.Module:
        """Add the adapters, freeze the rest, and return the same model."""
        refuse_wrapped("dora", model)
        refuse_sharded("dora", model)
        chosen = [
            (name, module)
            for name, module in model.named_modules()
            if type(module) is nn.Linear and fnmatch.fnmatchcase(name, self.layers)
        ]
        if not chosen:
            names = [name for name, module in model.named_modules() if type(module) is nn.Linear]
            shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
            among = f"matches no linear layer among {shown or 'none'}; change it"
            raise SoonerError(f"dora: layers={self.layers!r} {among}")
        if self.train and not any(fnmatch.fnmatchcase(name, self.train) for name, _ in model.named_parameters()):
            raise SoonerError(f"dora: train={self.train!r} matches no parameter of the model; change it or drop it")
        for name, p in model.named_parameters():
            if not (self.train and fnmatch.fnmatchcase(name, self.train)):
                p.requires_grad_(False)
        for _, module in chosen:
            self._adapt(module)
        hold_off_shortcuts(model)
        self.adapted = [name for name, _ in chosen]
        self.follow(model)
        return model

    def _adapt(self, layer: nn.Module) -> None:
        weight: Tensor = layer.weight  # type: ignore[assignment]
        exact = torch.promote_types(weight.dtype, torch.float32)
        a = torch.empty(self.rank, weight.shape[1], dtype=exact)
        nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        b = torch.zeros(weight.shape[0], self.rank, dtype=exact, device=weight.device)
        a = a.to(weight.device)
        swap(layer, DoRALinear)
        layer.scale = (self.rank if self.alpha is None else self.alpha) / self.rank  # type: ignore[assignment]
        layer.lora_A, layer.lora_B = nn.Parameter(a), nn.Parameter(b)
        layer.magnitude = nn.Parameter(factored_norm(weight, a, b, 0.0))

    @torch.no_grad()
    def export(self, model: nn.Module) -> nn.Module:
        """Return the model with plain layers that hold the merged weights, changed in place.

        A weight that another module shares stays as it is there, and the merged layer has one of its own.
        """
        refuse_sharded("dora", model)
        layers = [module for module in model.modules() if isinstance(module, DoRALinear)]
        uses: dict[int, int] = {}
        for module in model.modules():
            for p in module.parameters(recurse=False):
                uses[id(p)] = uses.get(id(p), 0) + 1
        for layer in layers:
            merged = layer.merged()
            if uses[id(layer.weight)] == 1:
                layer.weight.copy_(merged)
            else:
                layer.weight = nn.Parameter(merged, layer.weight.requires_grad)
            del layer.lora_A, layer.lora_B, layer.magnitude, layer.scale
            layer.__class__ = nn.Linear  # type: ignore[assignment]
        return model
