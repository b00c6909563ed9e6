"""What stands in ``p.grad`` for a gradient that is gone: whoever looks at it hears so, instead of finding nothing."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from sooner.error import SoonerError


class Released(Tensor):
    """A tensor without memory, of the shape, dtype and device of a parameter, that refuses every operation."""

    @staticmethod
    def __new__(cls, p: Tensor) -> Released:
        """Return one that fits a parameter."""
        made: Released = Tensor._make_wrapper_subclass(
            cls, p.shape, dtype=p.dtype, device=p.device, layout=p.layout, strides=p.stride()
        )
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"<gradient of shape {tuple(self.shape)}, released>"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> NoReturn:
        """Refuse.

        Raises:
            SoonerError: always.
        """
        raise SoonerError(
            f"gradient_release: {function.__name__.partition('.')[0]} works on a gradient that was used and freed "
            "inside backward; leave out gradient_release, or what needs gradients after backward: accumulation, "
            "clipping by a norm, a GradScaler, averaging over workers, logging of norms"
        )


def is_released(gradient: Tensor | None) -> bool:
    """Whether a gradient is gone."""
    return isinstance(gradient, Released)


def stand_in(p: Tensor) -> Tensor:
    """Return what stands for a parameter's gradient."""
    with torch.no_grad():
        return Released(p)
