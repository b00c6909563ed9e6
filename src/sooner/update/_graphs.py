"""Steps stay outside of the graphs of `torch.compile`, which would trace every loop over parameters anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Step = TypeVar("Step", bound=Callable[..., Any])


def outside_graphs(step: Step) -> Step:
    """Let a compiled function that calls this one run it as it is; with ``fullgraph=True`` the message says why not.

    Sets what `torch.compiler.disable` would, which takes seconds to import the compiler.
    """
    step._torchdynamo_disable = True  # type: ignore[attr-defined]
    step._torchdynamo_disable_msg = (  # type: ignore[attr-defined]
        "an optimizer's step runs outside of compiled graphs; compile the model, not the step"
    )
    return step
