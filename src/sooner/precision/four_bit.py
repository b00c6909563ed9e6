"""Training with weights of 15 values per layer, so that the trained network takes 4 bits per weight.

    s = (max |W| + 1e-8) / 7,   W_q = s * clamp(round(W / s), -7, 7)     in every forward; the gradient goes to W
    W <- clip * tanh(W / clip)                                           after every step of the optimizer

Every linear layer and convolution computes with W_q, the first and the last too, while the optimizer moves W itself.
The soft clip takes W^3 / (3 clip^2) off every weight per step, whatever the learning rate: a cubic decay, which keeps
the largest weight, and so the distance between values, small.

Use it when the finished network has to be small: its weights pack into an eighth of float32.

Leave it when memory during training is what is short: weights, gradients and moments stay as they were.

It costs one pass over the weights per forward and one per step; no state; nothing on the wire.

Tathe, 2026, arXiv 2603.13931, as its published code has it. There the gradient's norm is cut off at 0.5 and AdamW takes
the steps: ``clip_norm(max_norm=0.5) + four_bit + adamw(lr=1e-3, weight_decay=5e-4) + cosine``.
"""

from __future__ import annotations

import logging
import math
from typing import ClassVar

import torch
from torch import nn

from sooner.foundation.surgery import Surgery
from sooner.part import check_range
from sooner.precision._rounded import Rounded, convert, round_layers

__all__ = ["FourBit"]

log = logging.getLogger(__name__)


class FourBit(Surgery):
    """Lets the linear layers and convolutions of a model compute with rounded weights, by a change of their class.

    Parameters, their names, deep copies, pickling and state files stay as they were, and a model may be moved, cast,
    wrapped or compiled afterwards. Other modules with matrices (embeddings, attention of PyTorch's own, subclasses of a
    layer) stay in full precision; they are named in `left`, and once in the log.

    In a loop of your own call `after_step` after every step of the optimizer, or hang it there:
    ``optimizer.register_step_post_hook(lambda *_: part.after_step())``. `export` or `sooner.precision.convert` gives a
    plain model.

    Args:
        model: the model; None (default) to give it to `prepare`.
        bits: of a weight, 2 to 8, default 4: ``2^bits - 1`` values.
        clip: where `after_step` bends weights off, default 3.0; None leaves the soft clip out.

    Attributes:
        layers: the names of the layers that round.
        left: the names of modules whose matrices stay in full precision.

    Raises:
        SoonerError: a number out of range; a model without such layers, or with layers that round already.
    """

    station: ClassVar[str] = "precision"
    owns = frozenset({"precision of weights"})

    def __init__(self, model: nn.Module | None = None, bits: int = 4, clip: float | None = 3.0) -> None:
        check_range("four_bit", "bits", bits, 2, 8, whole=True)
        if clip is not None:
            check_range("four_bit", "clip", clip, 1e-3, math.inf, open_high=True)
        self.bits, self.clip = int(bits), clip
        self.layers: list[str] = []
        self.left: list[str] = []
        if model is not None:
            self.prepare(model)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Change the layers' class, and return the same model."""
        self.layers, self.left = round_layers("four_bit", model, 2 ** (self.bits - 1) - 1)
        if self.left:
            log.warning(
                "four_bit: matrices of %s stay in full precision",
                ", ".join(name or "the model itself" for name in self.left),
            )
        self.follow(model)
        return model

    @torch.no_grad()
    def after_step(self) -> None:
        """Bend the weights of the layers that round and are trained; shared ones once.

        Weights of less than 32 bits are bent in float32 and rounded once.
        """
        if self.clip is None:
            return
        found = {id(m.weight): m.weight for m in self.model.modules() if isinstance(m, Rounded)}
        weights = [w for w in found.values() if w.requires_grad]
        exact = [w for w in weights if w.element_size() >= 4]
        if exact:
            torch._foreach_div_(exact, self.clip)
            torch._foreach_tanh_(exact)
            torch._foreach_mul_(exact, self.clip)
        for w in weights:
            if w.element_size() < 4:
                w.copy_(self.clip * torch.tanh(w.float() / self.clip))

    def export(self, model: nn.Module) -> nn.Module:
        """Return the model with plain layers that hold the rounded values, changed in place."""
        return convert(model)
