"""What a loop of others would leave out of a recipe, refused in a sentence: nothing of a recipe is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer

from sooner.communication._attached import Communication
from sooner.error import SoonerError
from sooner.part import Part


def unheard(others: Sequence[Any], *methods: str) -> str:
    """Return the sentence on the first part that had no say in the gradients."""
    part = next(part for part in others if any(hasattr(part, method) for method in methods))
    name = part.name() if isinstance(part, Part) else type(part).__name__
    if hasattr(part, "backward"):
        return (
            f"{name} finds the gradients itself, which loss.backward() leaves out; call "
            "training.backward(sooner.Objective(model, loss, [batch])) in its place"
        )
    return (
        f"{name} acts on the training loss, which this loop has evaluated without it; call "
        "training.backward(sooner.Objective(model, loss, [batch])), or evaluate the loss inside "
        "`with training.during_loss():`"
    )


def refuse_handing_over(optimizers: Sequence[Optimizer], others: Sequence[Any]) -> None:
    """Refuse a recipe of which a Trainer, which steps one optimizer, would leave something out.

    Raises:
        SoonerError: several optimizers, or a part that has to do with the loss or finds gradients itself.
    """
    if len(optimizers) != 1:
        raise SoonerError(
            f"attach: this recipe has {len(optimizers)} optimizers, and others step one; call training.step() "
            "in a loop of your own, or hand over the training itself where any object with step() is taken"
        )
    for part in others:
        inside = [name for name in ("backward", "around_loss") if hasattr(part, name)]
        if inside or (hasattr(part, "around_step") and getattr(part, "needs", None)):
            name = part.name() if isinstance(part, Part) else type(part).__name__
            raise SoonerError(
                f"attach: {name} works on the loss of a step, which a loop of others doesn't show; leave it out, "
                "or call training.backward(objective) and training.step(objective) in a loop of your own"
            )


def refuse_own_infinities(sent: Communication | None) -> None:
    """Refuse a scaler that has looked before the average: workers would go apart or wait for one another for ever.

    Raises:
        SoonerError: workers average their gradients.
    """
    if sent is not None and sent.averages_gradients and sent.wire.size > 1:
        raise SoonerError(
            "a GradScaler has looked at the gradients of one worker alone; call training.average_gradients() "
            "before scaler.step(training) or scaler.unscale_(training)"
        )
