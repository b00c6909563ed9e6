"""The optimizer inside another library's wrapper: hooks, state and the step itself live there."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

_INSIDE = ("optimizer", "_optimizer")
"""Where wrappers keep it: Accelerate, Apex and look-ahead classes in the first, Lightning and its Fabric in both."""


def unwrapped(optimizer: Any) -> Any:
    """Return the optimizer that really takes the steps, through any number of wrappers around it.

    A wrapper is whatever holds a `torch.optim.Optimizer` as ``optimizer`` or ``_optimizer``, such as Accelerate's
    ``AcceleratedOptimizer``, Lightning's ``LightningOptimizer`` and Fabric's ``_FabricOptimizer``. Attach hooks to what
    this returns: the wrappers have none, or forward to the step of the optimizer inside. Anything else, also what is
    no optimizer at all, is returned as it is.
    """
    seen = [optimizer]
    while True:
        held = [getattr(seen[-1], name, None) for name in _INSIDE]
        inner = next((one for one in held if isinstance(one, Optimizer) and not any(one is s for s in seen)), None)
        if inner is None:
            return seen[-1]
        seen.append(inner)
