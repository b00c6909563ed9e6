"""StableMax cross-entropy: grows linearly where softmax grows exponentially, so that learning never stops by rounding.

    s(x) = x + 1 for x >= 0,   1 / (1 - x) for x < 0;   p_i = s(z_i) / sum over j of s(z_j);   loss = - log p_y

Once a network fits its data, its logits keep growing until 1 - p is 0 in single precision and the gradient of softmax
cross-entropy is exactly 0 (softmax collapse). Here it stays above 0. Since p is the softmax of log s(z), every option
of PyTorch's cross-entropy works as it does there. Values are not comparable with those of softmax: evaluate with the
ordinary loss or with accuracy, which agree on what is predicted.

Use it when a classifier fits its training data and float32 rounds probabilities to one.

Leave it when calibrated probabilities are wanted, or training never gets that far.

It costs one pass per step as the cross-entropy it replaces; no state; nothing on the wire.

Prieto et al., 2025, arXiv 2501.04697, section 4 (computed in float64, as there).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sooner.error import SoonerError
from sooner.foundation.intercept import CrossEntropy
from sooner.part import Part, check_range

__all__ = ["StableMax", "collapsed", "log_s"]

REDUCTIONS = ("mean", "sum", "none")


def log_s(logits: Tensor) -> Tensor:
    """Return ``log s(x)`` element by element, ``sign(x) * log(1 + |x|)``, whose slope at 0 is 1 from both sides."""
    rising, falling = torch.log1p(logits.clamp(min=0)), -torch.log1p(-logits.clamp(max=0))
    return torch.where(logits >= 0, rising, falling)


class StableMax(Part, nn.Module):
    """StableMax cross-entropy, called like `torch.nn.CrossEntropyLoss`.

    Args:
        weight: weights of the classes, ``[classes]``; default None for none.
        ignore_index: a class number in the targets that marks positions without a loss, default -100.
        reduction: "mean" (default), "sum" or "none".
        label_smoothing: in [0, 1], default 0.
        dtype: of the loss; default None is the logits' own, `torch.float64` is the paper's. The loss is computed in
            float64 wherever the device has it.

    Raises:
        SoonerError: a value outside its range.
    """

    station: ClassVar[str] = "loss"
    owns = frozenset({"loss"})

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_range("stablemax", "label_smoothing", label_smoothing, 0.0, 1.0)
        if reduction not in REDUCTIONS:
            raise SoonerError(f"stablemax: reduction={reduction!r} is not one of {', '.join(REDUCTIONS)}")
        self.register_buffer("weight", weight, persistent=False)
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing
        self.dtype = dtype
        self._replaces = False  # whether a task's cross-entropy was ever seen

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss.

        Args:
            logits: ``[classes]``, ``[n, classes]`` or ``[n, classes, d1, …]``, floating point.
            targets: class numbers of the logits' shape without classes, or probabilities of the logits' shape.
        """
        options = {"weight": self.weight, "ignore_index": self.ignore_index, "label_smoothing": self.label_smoothing}
        return self._loss(logits, targets, {**options, "reduction": self.reduction})

    def _loss(self, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> Tensor:
        wide = torch.float32 if logits.device.type == "mps" else torch.float64
        if options.get("weight") is not None:
            options = {**options, "weight": options["weight"].to(wide)}
        targets = targets.to(wide) if targets.is_floating_point() else targets
        loss = functional.cross_entropy(log_s(logits.to(wide)), targets, **options)
        return loss.to(self.dtype or logits.dtype)

    @contextlib.contextmanager
    def around_loss(self) -> Iterator[None]:
        """Inside, every cross-entropy of PyTorch is StableMax's, with the options that the caller gives it.

        Raises:
            SoonerError: options were set here, where those of the task hold; or, at the end of the first use, nothing
                called cross-entropy.
        """
        if (self.weight, self.ignore_index, self.reduction, self.label_smoothing) != (None, -100, "mean", 0.0):
            raise SoonerError(
                "stablemax: weight, ignore_index, reduction and label_smoothing have no effect around a task's loss, "
                "whose own options hold; set them in its call of cross_entropy"
            )
        with CrossEntropy(self._loss) as seen:
            yield
        if not (self._replaces or seen.calls):
            raise SoonerError(
                "stablemax: this task's loss never calls torch.nn.functional.cross_entropy, so there is nothing to "
                "replace; use a task with one, or call sooner.loss.StableMax() in the loss"
            )
        self._replaces = True


def collapsed(
    logits: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    ignore_index: int = -100,
    *,
    right_class: bool = False,
) -> Tensor:
    """Return the share of samples from which nothing is learned any more: their gradient is exactly 0 in every logit.

    Args:
        logits: ``[n, classes]`` or ``[n, classes, d1, …]`` in the precision of training.
        targets: class numbers ``[n, d1, …]`` or probabilities of the logits' shape.
        loss: ``loss(logits, targets)``, the one minimised; default softmax cross-entropy.
        ignore_index: class number of positions that are not counted, default -100.
        right_class: look at the gradient of the right class only, default False. It is 0 as soon as its probability
            rounds to 1, which is where the paper's softmax collapse begins; the others follow when they underflow.

    Returns:
        0-d tensor in [0, 1]; NaN where every position is ignored.
    """
    with torch.enable_grad():
        given = logits.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(given, targets).sum(), given)
    numbers = targets.argmax(1) if targets.is_floating_point() else targets  # [n, d1, …]
    counted = torch.ones_like(numbers, dtype=torch.bool) if numbers is not targets else targets != ignore_index
    if right_class:
        slope = slope.gather(1, numbers.where(counted, 0).unsqueeze(1))
    dead = (slope == 0).all(1)
    return (dead & counted).sum() / counted.sum()
