"""What can't be communicated: parts that share a wire, parameters without an average, steps it does not reach."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded
from sooner.objective import Objective
from sooner.part import Part

Kind = TypeVar("Kind", bound=Part)


def only(parts: Sequence[Part], kind: type[Kind]) -> Kind | None:
    """Return the part of this kind, None where there is none.

    Raises:
        SoonerError: there are several.
    """
    found = [part for part in parts if isinstance(part, kind)]
    if len(found) > 1:
        names = " and ".join(type(part).__name__ for part in found)
        raise SoonerError(f"{names} can't share one wire: both are a {kind.__name__.lower()}; keep one of them")
    return found[0] if found else None


def check(
    model: nn.Module,
    everything: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    optimizers: Sequence[Optimizer],
) -> None:
    """Refuse parameters that have no average, and optimizers that no average reaches.

    Args:
        model: the model.
        everything: its parameters by name, frozen ones too.
        parameters: those that are communicated.
        optimizers: those that move them.

    Raises:
        SoonerError: names the first.
    """
    if any(is_sharded(p) for p in everything.values()) or _in_fsdp(model):
        raise SoonerError(
            "the model is sharded (FSDP), so that no process has whole gradients to average; use FSDPReplicas on a "
            "model with fully_shard, or leave Communication out"
        )
    devices = {p.device for p in parameters.values()}
    if len(devices) > 1:
        raise SoonerError(
            f"the parameters are on {len(devices)} devices ({', '.join(map(str, devices))}); put the model on one"
        )
    if found := next((n for n, p in parameters.items() if not p.is_floating_point()), None):
        raise SoonerError(
            f"parameter {found} is {parameters[found].dtype}, and only real numbers are averaged; keep its real and "
            "imaginary parts as parameters, and make it of them in the model"
        )
    for one in optimizers:
        if not isinstance(one, Optimizer):
            raise SoonerError(f"{type(one).__name__} is no optimizer; pass those that move the model's weights")
        closure = inspect.signature(type(one).step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise SoonerError(
                f"{type(one).__name__} finds its gradients inside its own step, where no worker hears of them; "
                "use an optimizer that takes the gradients as they are"
            )


def refuse_closure(optimizer: Optimizer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse a step that finds its gradients itself, behind what communication does with them.

    Args:
        optimizer: whose step it is.
        args: what a hook in front of it is given; the first is the optimizer.
        kwargs: likewise.

    Raises:
        SoonerError: the step got an ordinary closure.
    """
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if closure is not None and not isinstance(closure, Objective):
        raise SoonerError(
            f"{type(optimizer).__name__}.step got a closure, which finds gradients after communication has had its "
            "part in them; call backward before step, and step without it"
        )


def _in_fsdp(model: nn.Module) -> bool:
    """Whether FSDP's first version wraps any of it (importing nothing: if one does, its module is loaded)."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and any(isinstance(m, fsdp.FullyShardedDataParallel) for m in model.modules())
