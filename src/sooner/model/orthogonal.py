"""Orthogonal initialisation: every layer starts as a random rotation, so that depth does not slow down learning.

    W = gain * Q,   Q uniform among the matrices with Q Q^T = I (rows <= columns) or Q^T Q = I (rows >= columns)
    convolutions: Q at the centre of the kernel, 0 elsewhere (delta-orthogonal);   biases 0
    gain = 1.05 in front of tanh, sqrt(2) of ReLU, sqrt(2 / (1 + slope^2)) of a leaky ReLU, else 1

All singular values of a product of such layers are alike, however many there are, where those of Gaussian layers drift
apart exponentially. At its best learning rate a deep linear network then learns in a number of steps that does not grow
with its depth.

Use it when networks are deep and have neither normalisation nor residual connections.

Leave it when layers are normalised or residual, which keeps signals alive by other means.

It costs one QR decomposition per layer before the first step; no state; nothing per step.

Saxe et al., 2013, arXiv 1312.6120, section 3; convolutions as in Xiao et al., 2018, arXiv 1806.05393, algorithm 1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd

from sooner.error import SoonerError
from sooner.foundation.surgery import Surgery, refuse_sharded
from sooner.part import check_choice, check_range

__all__ = ["Orthogonal"]

log = logging.getLogger(__name__)

GAINS = {"linear": 1.0, "tanh": 1.05, "relu": math.sqrt(2)}
"""Gains by name; 1.05 rather than 1, the critical gain of an infinite tanh network, makes up for finite depth."""

_said: set[type[nn.Module]] = set()

_SEEN_THROUGH = (nn.Identity, nn.Flatten, nn.Unflatten, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase, _DropoutNd)
"""Modules that may stand between a layer and its activation."""


class Orthogonal(Surgery):
    """Draws the weights of all linear layers and convolutions anew, in place.

    The three projections of `torch.nn.MultiheadAttention` count as layers of their own. Where a convolution has more
    inputs than outputs no kernel keeps all lengths; then its rows, flattened, are orthonormal. Groups are drawn each by
    itself. A weight that several layers share is drawn once, and one that an embedding shares stays as it is, as do
    embeddings, normalisations and transposed convolutions. Values are drawn and decomposed on the CPU, in float32 at
    least.

    Args:
        model: the model; None (default) to give it to `prepare`.
        gain: a number, ``"linear"`` (1), ``"tanh"`` (1.05), ``"relu"`` (sqrt 2), or ``"auto"`` (default): by the
            activation module that follows the layer in the model's order, 1 where there is none. Functions that
            `forward` calls by itself can't be seen: name the gain for these.

    Attributes:
        gains: what was drawn, ``{name of the weight: its gain}``.

    Raises:
        SoonerError: an unknown or negative gain; a model without such layers, on the meta device or sharded.
    """

    station: ClassVar[str] = "model"
    owns = frozenset({"initial weights"})

    def __init__(self, model: nn.Module | None = None, gain: float | str = "auto") -> None:
        if isinstance(gain, str):
            check_choice("orthogonal", "gain", gain, ["auto", *GAINS])
        else:
            check_range("orthogonal", "gain", gain, 0.0, math.inf, open_high=True)
        self.gain = gain
        self.gains: dict[str, float] = {}
        if model is not None:
            self.prepare(model)

    @torch.no_grad()
    def prepare(self, model: nn.Module) -> nn.Module:
        """Draw the weights, set biases to 0, and return the same model."""
        refuse_sharded("orthogonal", model)
        self.follow(model)
        self.gains = {}
        following = _activations(model)
        looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
        done: set[int] = set()
        for name, module in model.named_modules():
            for place, weight in _weights(module):
                if id(weight) in looked_up or id(weight) in done:
                    continue
                done.add(id(weight))
                gain = self._gain(following.get(name))
                groups = module.groups if isinstance(module, _ConvNd) else 3 if place == "in_proj_weight" else 1
                drawn = [_drawn(one, gain) for one in weight.chunk(groups)]
                weight.copy_(torch.cat(drawn))
                self.gains[f"{name}.{place}" if name else place] = gain
            if any(id(weight) in done for _, weight in _weights(module)):
                for place in ("bias", "in_proj_bias"):
                    if getattr(module, place, None) is not None:
                        getattr(module, place).zero_()
        if not self.gains:
            raise SoonerError("orthogonal: the model has no linear layer or convolution to initialise; leave it out")
        if self.gain == "auto" and len(self.gains) > 1 and not any(following.values()) and type(model) not in _said:
            _said.add(type(model))
            log.warning(
                "orthogonal: no activation module stands behind any layer, so all gains are 1; where forward calls "
                "functions such as relu, say so by gain='relu'"
            )
        return model

    def _gain(self, activation: nn.Module | None) -> float:
        if isinstance(self.gain, str) and self.gain != "auto":
            return GAINS[self.gain]
        if not isinstance(self.gain, str):
            return float(self.gain)
        match activation:
            case nn.Tanh():
                return GAINS["tanh"]
            case nn.ReLU() | nn.ReLU6():
                return GAINS["relu"]
            case nn.LeakyReLU():
                return math.sqrt(2 / (1 + activation.negative_slope**2))
            case _:
                return GAINS["linear"]


def _weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the module's own matrices and kernels with their names."""
    if isinstance(module, nn.Linear) or (isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd)):
        yield "weight", module.weight
    elif isinstance(module, nn.MultiheadAttention):
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if getattr(module, name, None) is not None:
                yield name, getattr(module, name)


def _activations(model: nn.Module) -> dict[str, nn.Module | None]:
    """Return per layer the activation module that comes next in the model's order; None where another layer does."""
    found: dict[str, nn.Module | None] = {}
    waiting: list[str] = []
    for name, module in model.named_modules(remove_duplicate=False):
        if any(True for _ in _weights(module)):
            waiting = [name]
            found.setdefault(name, None)
        elif not any(True for _ in module.children()) and not isinstance(module, _SEEN_THROUGH):
            plain = not any(True for _ in module.parameters(recurse=False))
            for layer in waiting if plain else ():
                found[layer] = found[layer] or module
            waiting = []
    return found


def _drawn(weight: Tensor, gain: float) -> Tensor:
    """Return new values ``[out, in, *kernel]`` for a weight of that shape, dtype and device."""
    values = torch.zeros(weight.shape, dtype=torch.promote_types(weight.dtype, torch.float32))
    kernel = weight.shape[2:]
    if kernel and weight.shape[0] >= weight.shape[1]:
        centre = sum((k - 1) // 2 * math.prod(kernel[i + 1 :]) for i, k in enumerate(kernel))
        values.flatten(2)[:, :, centre] = nn.init.orthogonal_(torch.empty(weight.shape[:2], dtype=values.dtype), gain)
    elif weight.numel():
        nn.init.orthogonal_(values, gain)
    return values.to(weight)
