"""What an optimizer may be given as parameters."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sooner.error import SoonerError


def check_parameters(name: str, groups: list[dict[str, Any]]) -> int:
    """Refuse anything but floating-point tensors that are listed once; `params` of every group becomes a list.

    Returns:
        The number of parameters.

    Raises:
        SoonerError: names the method, the parameter and what is wrong with it.
    """
    seen: set[int] = set()
    for group in groups:
        if isinstance(group["params"], set | frozenset):
            raise SoonerError(f"{name}: params is a set, whose order changes from run to run; pass a list")
        group["params"] = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        for entry in group["params"]:
            label, p = entry if isinstance(entry, tuple) else (f"number {len(seen)}", entry)
            if not isinstance(p, Tensor):
                raise SoonerError(f"{name}: params holds a {type(p).__name__}; pass tensors such as model.parameters()")
            if not p.is_floating_point():
                raise SoonerError(f"{name}: parameter {label} is {p.dtype}; pass floating-point parameters only")
            if id(p) in seen:
                raise SoonerError(f"{name}: parameter {label} is listed twice; list every parameter once")
            seen.add(id(p))
    return len(seen)
