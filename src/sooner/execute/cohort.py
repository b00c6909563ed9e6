"""A cohort: parameters that step together, with their state in one flat buffer per kind.

Parameters and gradients stay where PyTorch put them; state lives in flat vectors with one view per parameter, so that
element rules run on one long vector whatever the number of parameters. Same-shaped parameters lie next to each other,
so tensor rules get them as one stack.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sooner.transform import Chain, Clock


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that state and arithmetic use: half-precision parameters are stepped in float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


@dataclass(frozen=True)
class Bucket:
    """The slice ``[start, stop)`` of the flat vectors that holds `count` parameters of one `shape`."""

    start: int
    stop: int
    count: int
    shape: tuple[int, ...]

    def stack(self, flat: Tensor) -> Tensor:
        """Return the parameters of the bucket as one view ``[count, *shape]`` of the flat vector."""
        return flat[self.start : self.stop].view(self.count, *self.shape)


class Cohort:
    """Parameters of one device, dtype and step count.

    Args:
        params: the parameters; the cohort keeps its own order (same shapes together).
        state: per parameter, the state tensors it has so far (missing ones start at zero).
        slots: names of the state tensors the chain keeps.
        step: number of steps already taken by all of these parameters.

    Attributes:
        shown: per slot, every parameter with the view of its state.
    """

    def __init__(
        self, params: Sequence[Tensor], state: Mapping[Tensor, Mapping[str, Tensor]], slots: Sequence[str], step: int
    ) -> None:
        self.params = sorted(params, key=lambda p: tuple(p.shape))
        self.slots = tuple(slots)
        self.step = step
        self.dtype = state_dtype(self.params[0].dtype)
        self.mixed = self.params[0].dtype != self.dtype
        device = self.params[0].device
        sizes = [p.numel() for p in self.params]
        total = sum(sizes)
        self._offsets = [0, *itertools.accumulate(sizes)]
        self.buckets = self._make_buckets()
        # the gradient on the way in, the displacement on the way out
        self.update = torch.empty(total, dtype=self.dtype, device=device)
        self._update_views = self.views(self.update)
        self.state = {slot: torch.zeros(total, dtype=self.dtype, device=device) for slot in self.slots}
        self.shown = {slot: list(zip(self.params, self.views(flat), strict=True)) for slot, flat in self.state.items()}
        for slot, shown in self.shown.items():
            for p, view in shown:
                if slot in state.get(p, {}):
                    view.copy_(state[p][slot])

    def _make_buckets(self) -> list[Bucket]:
        buckets = []
        start = 0
        for shape, same in itertools.groupby(self.params, key=lambda p: tuple(p.shape)):
            count = len(list(same))
            stop = start + count * math.prod(shape)
            buckets.append(Bucket(start, stop, count, shape))
            start = stop
        return buckets

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return one view of `flat` per parameter, shaped like it."""
        return [
            flat[a:b].view(p.shape) for p, (a, b) in zip(self.params, itertools.pairwise(self._offsets), strict=True)
        ]

    def gather_gradients(self, maximize: bool) -> Tensor:
        """Copy the gradients into the flat update vector (their own memory is never written) and return it."""
        gradients = [p.grad.reshape(-1) for p in self.params]  # type: ignore[union-attr]
        if self.mixed or any(g.dtype != self.dtype for g in gradients):
            self.update.copy_(torch.cat(gradients))
        else:
            torch.cat(gradients, out=self.update)
        return self.update.neg_() if maximize else self.update

    def gather_parameters(self) -> Tensor:
        """Return a flat copy of the parameters ``[D]`` in the state's dtype."""
        return torch.cat([p.detach().reshape(-1) for p in self.params]).to(self.dtype)

    def apply(self, displacement: Tensor) -> None:
        """Add the flat displacement ``[D]`` to the parameters, in the state's dtype, rounding once at the end."""
        self.update.copy_(displacement)
        if self.mixed:
            self.update.add_(self.gather_parameters())
            torch._foreach_copy_(self.params, self._update_views)
        else:
            torch._foreach_add_(self.params, self._update_views)


@dataclass
class Work:
    """One cohort about to take one step of one chain."""

    cohort: Cohort
    chain: Chain
    clock: Clock
    maximize: bool = False
