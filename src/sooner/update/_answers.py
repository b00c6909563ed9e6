"""The classifications inside a loss that somebody else wrote: their logits, and how much the loss counts each of them.

Every call of cross-entropy, over classes or binary, is seen. How a loss averages, masks or weighs is found out by
differentiating it by the single terms, so that no number of samples has to be told or guessed.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sooner.error import SoonerError
from sooner.foundation.intercept import CrossEntropy
from sooner.update._closure import Evaluation, with_graph


@dataclass(frozen=True)
class Answers:
    """The answers of one cross-entropy.

    Attributes:
        logits: ``[n, classes]``; a binary logit z stands here as the two logits (0, z).
        wrong: probability of all classes but the right one, ``[n]``; with soft targets its mean under them.
        weights: by how much the loss grows where the cross-entropy of one answer grows by 1, ``[n]``; 0 where ignored.
    """

    logits: Tensor
    wrong: Tensor
    weights: Tensor


@dataclass(frozen=True)
class _Call:
    logits: Tensor
    wrong: Tensor
    scale: Tensor
    probe: Tensor


class Watch(contextlib.ExitStack):
    """A context in which every cross-entropy is noted, and computed as ever.

    Attributes:
        calls: what was noted, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.enter_context(CrossEntropy(self._categorical))
        self.enter_context(_BinaryCrossEntropy(self._binary))

    def _categorical(self, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> Tensor:
        rows = logits.movedim(1, -1).flatten(0, -2) if logits.ndim > 1 else logits.unsqueeze(0)  # [n, classes]
        weight, smoothing = options.get("weight"), options.get("label_smoothing", 0.0)
        if targets.is_floating_point():
            targets = targets.movedim(1, -1).flatten(0, -2) if logits.ndim > 1 else targets.unsqueeze(0)
            own = targets @ weight if weight is not None else targets.sum(1)
            counted, total = torch.ones_like(own), len(rows)
            wrong = (wide(rows).softmax(1) * (1 - targets)).sum(1)  # not 1 - sum: that would round to 0
        else:
            targets = targets.flatten()
            kept = targets != options.get("ignore_index", -100)
            chosen = torch.where(kept, targets, 0)
            own = weight[chosen] if weight is not None else torch.ones_like(rows[:, 0])
            counted, total = kept, (own * kept).sum()
            wrong = wide(rows).softmax(1).scatter(1, chosen.unsqueeze(1), 0.0).sum(1)
        if weight is not None and smoothing:
            own = (1 - smoothing) * own + smoothing * weight.mean()
        more = {name: value for name, value in options.items() if name in ("weight", "ignore_index", "label_smoothing")}
        single = functional.cross_entropy(rows, targets, reduction="none", **more)
        shape = logits.shape[:1] + logits.shape[2:] if logits.ndim > 1 else logits.shape[:0]
        return self._note(rows, wrong, own * counted, single, options.get("reduction", "mean"), total, shape)

    def _binary(self, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> Tensor:
        more = {name: value for name, value in options.items() if name in ("weight", "pos_weight")}
        single = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none", **more)
        scale = torch.ones_like(logits)
        if options.get("pos_weight") is not None:
            scale = (1 - targets) + options["pos_weight"] * targets
        if options.get("weight") is not None:
            scale = scale * options["weight"]
        wrong = targets * (-wide(logits)).sigmoid() + (1 - targets) * wide(logits).sigmoid()
        rows = torch.stack([torch.zeros_like(logits), logits], dim=-1).reshape(-1, 2)
        flat = [one.expand_as(logits).reshape(-1) for one in (wrong, scale)]
        reduction = options.get("reduction", "mean")
        return self._note(rows, flat[0], flat[1], single.reshape(-1), reduction, logits.numel(), logits.shape)

    def _note(
        self, logits: Tensor, wrong: Tensor, scale: Tensor, single: Tensor, reduction: str, total: Any, shape: Any
    ) -> Tensor:
        """Note the call and return its loss from those of the single answers, ``single [n]``."""
        probe = torch.zeros_like(single, requires_grad=True)
        self.calls.append(_Call(logits, wrong.detach(), scale.detach(), probe))
        single = single + probe
        if reduction == "none":
            return single.reshape(shape)
        return single.sum() / total if reduction == "mean" else single.sum()


def answers(part: str, evaluate: Evaluation) -> tuple[Tensor, list[Answers]]:
    """Evaluate a loss and return it, with its graph, and the classifications that it is made of.

    Raises:
        SoonerError: the closure returns no loss with a graph, or no cross-entropy is called in it.
    """
    with Watch() as watch:
        loss = with_graph(part, evaluate)
    probes = [call.probe for call in watch.calls]
    if not probes:
        raise SoonerError(
            f"{part} sees no cross-entropy in the loss; compute it with torch.nn.functional.cross_entropy or "
            "binary_cross_entropy_with_logits, or use another method"
        )
    slopes = torch.autograd.grad(loss, probes, retain_graph=True, materialize_grads=True)
    return loss, [Answers(c.logits, c.wrong, s * c.scale) for c, s in zip(watch.calls, slopes, strict=True)]


def wide(logits: Tensor) -> Tensor:
    """Return logits in float32 or better, where probabilities near 1 are told apart."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


_BINARY = inspect.signature(functional.binary_cross_entropy_with_logits)


class _BinaryCrossEntropy(TorchFunctionMode):
    """A context in which `handle` answers for binary cross-entropy with logits, as `CrossEntropy` does for classes."""

    def __init__(self, handle: Callable[[Tensor, Tensor, dict[str, Any]], Tensor]) -> None:
        super().__init__()
        self._handle = handle

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Answer for binary cross-entropy; let everything else through."""
        if func is not functional.binary_cross_entropy_with_logits:
            return func(*args, **(kwargs or {}))
        given = dict(_BINARY.bind(*args, **(kwargs or {})).arguments)
        return self._handle(given.pop("input"), given.pop("target"), given)
