"""A task on another device, or in mixed precision: its model is moved once, each batch where the loss asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sooner.error import SoonerError
from sooner.task._task import Task

PRECISIONS = {"bf16": torch.bfloat16}


def check_precision(amp: str | None) -> None:
    """Refuse a precision that autocast is not used with here.

    Raises:
        SoonerError: names it.
    """
    if amp is not None and amp not in PRECISIONS:
        raise SoonerError(
            f"--amp {amp!r} is unknown; choose bf16, or leave it out (float16 needs a GradScaler, which a loop of your "
            "own has)"
        )


def placed(task: Task, device: str = "cpu", amp: str | None = None) -> Task:
    """Return the task with its model and the batches of its losses on a device; initial weights stay the same.

    Args:
        task: makes its model, and its batches, on the processor or on the device.
        device: as `torch.device` takes it.
        amp: "bf16" runs loss and metrics under `torch.autocast`; None as they are.

    Raises:
        SoonerError: another precision.
    """
    check_precision(amp)
    if device == "cpu" and amp is None:
        return task
    where = torch.device(device)

    def model(seed: int) -> nn.Module:
        return task.model(seed).to(where)

    def around(function: Callable[[nn.Module, Any], Any] | None) -> Any:
        if function is None:
            return None

        def moved(model: nn.Module, batch: Any) -> Any:
            with torch.autocast(where.type, PRECISIONS[amp]) if amp else contextlib.nullcontext():
                return function(model, to_device(batch, where))

        return moved

    return replace(task, model=model, loss=around(task.loss), metrics=around(task.metrics), losses=around(task.losses))


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a batch, in any nesting of tuples, lists and dicts, with its tensors on a device."""
    return pytree.tree_map(lambda x: x.to(device, non_blocking=True) if isinstance(x, Tensor) else x, batch)
