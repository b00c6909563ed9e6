"""The weights of a model as one flat vector, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sooner.communication._gradients import wide
from sooner.foundation import snapshots
from sooner.foundation.layout import Layout


class Flat:
    """Reads and writes parameters as a vector.

    Args:
        parameters: by name.
        layout: of the vector.
    """

    def __init__(self, parameters: Mapping[str, Tensor], layout: Layout) -> None:
        self.parameters, self.layout = parameters, layout

    def read(self) -> Tensor:
        """Return the weights (d,) now, in a vector of their own."""
        first = next(iter(self.parameters.values()))
        flat = torch.empty(self.layout.size, dtype=wide(self.parameters), device=first.device)
        return self.layout.flatten({n: p.detach() for n, p in self.parameters.items()}, flat)

    def write(self, flat: Tensor) -> None:
        """Put weights (d,) into the parameters, rounded to their types."""
        places = self.layout.views(flat)
        snapshots.settle()
        torch._foreach_copy_([p.detach() for p in self.parameters.values()], list(places.values()))

    def arrived(self, begun: Tensor) -> Tensor:
        """Return the weights (d,) now, free of how those that were written at the start, `begun` (d,), were rounded."""
        now = self.read()
        if all(p.dtype == now.dtype for p in self.parameters.values()):
            return now
        places = self.layout.views(begun)
        rounded = self.layout.flatten({n: places[n].to(p.dtype) for n, p in self.parameters.items()}, now.clone())
        return begun + (now - rounded)
