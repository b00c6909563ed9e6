"""Recipes in a loop written for Hugging Face's Accelerate.

model, optimizer, loader, training = prepare(accelerator, "clip_norm + muon + cosine + ema", model, loader, epochs=3)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import nn

from sooner.error import SoonerError
from sooner.integrations._driven import drive, driven, recipe_for
from sooner.part import check_range
from sooner.recipe import Recipe
from sooner.recipe.training import Training

try:
    from accelerate.utils import DistributedType
except ImportError as error:
    raise SoonerError(
        "sooner.integrations.accelerate drives loops of Accelerate, which is not installed; pip install "
        "sooner[accelerate]"
    ) from error

__all__ = ["Prepared", "prepare"]

_SHARDED = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "XLA")


class Prepared(NamedTuple):
    """What `prepare` returns, in the order in which it is unpacked.

    Attributes:
        model: the model to call, wrapped as the Accelerator does it.
        optimizer: the whole recipe, to be stepped as any prepared optimizer; learning rates are advanced inside.
        loader: the batches, shared among the processes.
        training: the recipe at work: evaluate inside ``training.view()``, and where a part acts on the loss, evaluate
            that inside ``training.during_loss()``.
    """

    model: nn.Module
    optimizer: Any
    loader: Any
    training: Training


def prepare(
    accelerator: Any,
    recipe: Recipe | str,
    model: nn.Module,
    loader: Any,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
) -> Prepared:
    """Prepare model, batches and a recipe for an Accelerator, as ``accelerator.prepare`` does the first two.

    The steps are counted from what each process really does: batches of the prepared loader, accumulation and epochs.
    The loop is written as usual, except that there is no scheduler to step. ``accelerator.save_state`` saves everything
    and ``load_state``, after the same `prepare`, goes on bit for bit on a CPU.

    Args:
        accelerator: the Accelerator.
        recipe: a recipe or its text.
        model: the model, not prepared yet.
        loader: a DataLoader, not prepared yet.
        epochs: how often the loop goes through the loader.
        steps: in place of `epochs`, the optimizer steps of each process.
        seed: decides what parts draw that change the model; None for PyTorch's global state.

    Raises:
        SoonerError: neither or both of epochs and steps, a loader without a length, a part that such a loop would drop,
            or a model that is sharded.
    """
    read = recipe_for(recipe, "Accelerate")
    if (epochs is None) is (steps is None):
        raise SoonerError("a recipe plans its steps: give prepare either epochs= or steps=")
    if accelerator.distributed_type in {getattr(DistributedType, name) for name in _SHARDED}:
        raise SoonerError(
            f"Accelerate shards this model itself ({accelerator.distributed_type.value}), for which no recipe is built "
            "here; call Recipe(...).build(model, steps) on the sharded model in a loop of your own"
        )
    if any(driven(one) is not None for one in accelerator._optimizers):
        raise SoonerError("this Accelerator has a recipe already; prepare one model with one recipe")
    changed = read.prepare(model, seed)
    wrapped, batches = accelerator.prepare(changed, loader)
    if steps is None:
        steps = _steps(accelerator, batches, epochs)
    check_range("prepare", "steps", steps, 1, math.inf, whole=True)
    optimizer = drive(read, wrapped, steps, prepared=True, weights=False)
    return Prepared(wrapped, accelerator.prepare(optimizer), batches, optimizer.training)


def _steps(accelerator: Any, batches: Any, epochs: Any) -> int:
    """Return how many steps a process takes; the last batches of an epoch are one, if not told otherwise."""
    check_range("prepare", "epochs", epochs, 1, math.inf, whole=True)
    try:
        each: int = len(batches)
    except TypeError:
        raise SoonerError("this loader has no length, so epochs say nothing about its steps; give steps=") from None
    accumulated: int = accelerator.gradient_accumulation_steps
    if accelerator.gradient_state.sync_with_dataloader:
        return math.ceil(each / accumulated) * int(epochs)
    return each * int(epochs) // accumulated
