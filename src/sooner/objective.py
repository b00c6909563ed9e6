"""What a training loop lets parts ask: the loss of the step about to be taken, again and with the graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

PROVIDED = frozenset({"closure", "batch", "next batch", "held-out loss"})
"""What an `Objective` with all its fields offers; parts name these in `Part.needs`. With `losses` also "losses"."""


@dataclass
class Objective:
    """The loss of one step. Calling it evaluates the mean loss of the step's micro-batches; it never calls backward.

    Attributes:
        model: the model, with its training weights.
        loss: ``loss(model, batch) -> 0-d tensor``.
        batches: the micro-batches of the step.
        next_batches: the micro-batches of the step after this one.
        held_out: a batch that this run does not train on at this step, for checks.
        losses: optional ``losses(model, batch) -> {name: 0-d tensor}``, the terms whose sum is the loss.
        around: contexts in which the loss is evaluated while training, such as another cross-entropy.
    """

    model: nn.Module
    loss: Callable[[nn.Module, Any], Tensor]
    batches: Sequence[Any]
    next_batches: Callable[[], Sequence[Any]] | None = None
    held_out: Callable[[], Any] | None = None
    losses: Callable[[nn.Module, Any], Mapping[str, Tensor]] | None = None
    around: Sequence[Callable[[], contextlib.AbstractContextManager[Any]]] = field(default_factory=tuple)

    def __call__(self) -> Tensor:
        """Return the mean loss over the micro-batches, with its graph where gradients are enabled."""
        return torch.stack([self.of(batch) for batch in self.batches]).mean()

    def of(self, batch: Any) -> Tensor:
        """Return the training loss of one batch."""
        with self.training_loss():
            return self.loss(self.model, batch)

    def held_out_loss(self) -> Tensor:
        """Return the loss of a batch that is not trained on, without gradients and with the model in evaluation mode.

        Raises:
            TypeError: the loop offers none (a part that needs it declares "held-out loss").
        """
        if self.held_out is None:
            raise TypeError("this loop offers no held-out batch")
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                return self.loss(self.model, self.held_out())
        finally:
            self.model.train(was_training)

    @contextlib.contextmanager
    def training_loss(self) -> Iterator[None]:
        """Inside, the loss is what training minimises, as parts of the loss station want it."""
        with contextlib.ExitStack() as stack:
            for enter in self.around:
                stack.enter_context(enter())
            yield
