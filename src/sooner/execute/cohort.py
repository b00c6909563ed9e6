"""A cohort: parameters that step together, with their state in one flat buffer per kind.

Parameters and gradients stay where PyTorch put them; state lives in flat vectors with one view per parameter, so that
element rules run on one long vector whatever the number of parameters. Same-shaped parameters lie next to each other,
so tensor rules get them as one stack.
"""

from __future__ import annotations

import functools
import itertools
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sooner.execute.rounding import round_stochastically, salt_of
from sooner.execute.shards import local, local_gradient, spread_of
from sooner.transform import Chain, Clock

PIECE = 2**18
"""Elements of a piece on a CPU: 1 MiB in float32. See benchmarks/update_step.py."""


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that state and arithmetic use: half-precision parameters are stepped in float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


@dataclass(frozen=True)
class Bucket:
    """The `count` parameters of one `shape` that lie next to each other, from number `first` on.

    Attributes:
        shape: of the piece of a parameter that this process has.
        whole: of the whole parameter; the same where parameters are not sharded.
        start, stop: where they lie in a flat vector of all elements.
        slots: where their state lies in the flat vector of each slot, ``(start, stop, shape)``.
    """

    first: int
    count: int
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    start: int
    stop: int
    slots: Mapping[str, tuple[int, int, tuple[int, ...]]]

    @functools.cached_property
    def rows(self) -> tuple[int, int]:
        """Number and length of a parameter's rows; with fewer than two dimensions it is a single row."""
        height = self.shape[0] if len(self.shape) > 1 else 1
        return height, math.prod(self.shape) // height if height else math.prod(self.shape[1:])

    def stack(self, flat: Tensor) -> Tensor:
        """Return the parameters of the bucket as one view ``[count, *shape]`` of a flat vector of all elements."""
        return flat[self.start : self.stop].view(self.count, *self.shape)

    def rowed(self, flat: Tensor) -> Tensor:
        """Return the same elements as ``[count, rows, length]``."""
        return flat[self.start : self.stop].view(self.count, *self.rows)

    def kept(self, slot: str, flat: Tensor) -> Tensor:
        """Return the bucket's state as one view ``[count, *shape of the slot]`` of the slot's flat vector."""
        start, stop, shape = self.slots[slot]
        return flat[start:stop].view(self.count, *shape)


@dataclass(frozen=True)
class Layout:
    """How compiled loops see a cohort: every parameter cut into rows, all rows numbered through.

    Attributes:
        offsets, rows, first_row: one entry per parameter (offsets has one more), as C reads them.
        total_rows: number of rows of all parameters.
        buckets: for each bucket its rows ``[start, stop)`` and the number of parameters.
    """

    offsets: array[int]
    rows: array[int]
    first_row: array[int]
    total_rows: int
    buckets: list[tuple[int, int, int]]


class Cohort:
    """Parameters of one device, dtype, step count and way of being sharded.

    Args:
        params: the parameters; the cohort keeps its own order (same shapes together).
        state: per parameter, the state tensors it has so far (missing ones start at zero).
        chain: what they will be stepped with; it says which state there is.
        step: number of steps already taken by all of these parameters.

    Attributes:
        spread: how the parameters are sharded; None if this process has all of them.
        slots: names of the state tensors.
        state: per slot, the flat vector.
        shown: per slot, the view of every parameter's state, in the order of the parameters.
        states: per parameter, the dict in which the optimizer shows them.
        offsets: where each parameter starts in a flat vector of all elements, and behind the last the total.
    """

    def __init__(
        self, params: Sequence[Tensor], state: Mapping[Tensor, Mapping[str, Tensor]], chain: Chain, step: int
    ) -> None:
        self.params = sorted(params, key=lambda p: tuple(p.shape))
        self.step = step
        self.dtype = state_dtype(self.params[0].dtype)
        self.device = self.params[0].device
        self.mixed = self.params[0].dtype != self.dtype
        self.spread = spread_of(self.params[0])
        pieces = self.tensors()
        kept = [chain.shapes(tuple(p.shape), tuple(q.shape)) for p, q in zip(self.params, pieces, strict=True)]
        self.slots = tuple(kept[0])
        self.offsets = [0, *itertools.accumulate(p.numel() for p in pieces)]
        places = {slot: [0, *itertools.accumulate(math.prod(of_one[slot]) for of_one in kept)] for slot in self.slots}
        self._layouts: dict[bool, Layout] = {}
        self.buckets = self._make_buckets(kept, places)
        self.state = {slot: self._zeros(places[slot][-1]) for slot in self.slots}
        self.shown = {
            slot: [
                flat[a:b].view(of_one[slot])
                for of_one, (a, b) in zip(kept, itertools.pairwise(places[slot]), strict=True)
            ]
            for slot, flat in self.state.items()
        }
        self.states: list[dict[str, Tensor]] = []
        for slot, views in self.shown.items():
            for p, view in zip(self.params, views, strict=True):
                if slot in state.get(p, {}):
                    view.copy_(local(state[p][slot]))
        if self.spread:
            for slot in chain.in_pieces():
                self.shown[slot] = [self.spread.shown(v, p) for p, v in zip(self.params, self.shown[slot], strict=True)]

    def tensors(self) -> list[Tensor]:
        """Return what this process has of the parameters, in the cohort's order."""
        return [local(p) for p in self.params] if self.spread else self.params

    def gradients(self) -> list[Tensor | None]:
        """Return what this process has of the gradients, in the cohort's order; None where there is none."""
        return [local_gradient(p) for p in self.params] if self.spread else [p.grad for p in self.params]

    def _zeros(self, length: int) -> Tensor:
        return torch.zeros(length, dtype=self.dtype, device=self.device)

    def _make_buckets(
        self, kept: Sequence[Mapping[str, tuple[int, ...]]], places: Mapping[str, Sequence[int]]
    ) -> list[Bucket]:
        buckets = []
        first = 0
        pieces = self.tensors()
        for whole, same in itertools.groupby(self.params, key=lambda p: tuple(p.shape)):
            count = len(list(same))
            last = first + count
            shape = tuple(pieces[first].shape)
            slots = {slot: (places[slot][first], places[slot][last], kept[first][slot]) for slot in self.slots}
            buckets.append(Bucket(first, count, shape, whole, self.offsets[first], self.offsets[last], slots))
            first = last
        return buckets

    def layout(self, by_rows: bool) -> Layout:
        """Return the cohort as compiled loops see it, with the rows of weights or each parameter as one row."""
        if by_rows not in self._layouts:
            heights = [bucket.rows[0] if by_rows else 1 for bucket in self.buckets]
            rows = [height for bucket, height in zip(self.buckets, heights, strict=True) for _ in range(bucket.count)]
            starts = [0, *itertools.accumulate(rows)]
            self._layouts[by_rows] = Layout(
                array("q", self.offsets),
                array("q", rows),
                array("q", starts[:-1]),
                starts[-1],
                [(starts[b.first], starts[b.first + b.count], b.count) for b in self.buckets],
            )
        return self._layouts[by_rows]

    @functools.cached_property
    def update(self) -> Tensor:
        """Scratch ``[D]``: the gradient on the way in, the displacement on the way out."""
        return self._zeros(self.offsets[-1])

    @functools.cached_property
    def theta(self) -> Tensor:
        """Scratch ``[D]`` for a flat copy of the parameters in the state's dtype."""
        return self._zeros(self.offsets[-1])

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return one view of `flat` per parameter, shaped like it."""
        return [
            flat[a:b].view(p.shape) for p, (a, b) in zip(self.tensors(), itertools.pairwise(self.offsets), strict=True)
        ]

    @functools.cached_property
    def _update_views(self) -> list[Tensor]:
        return self.views(self.update)

    @functools.cached_property
    def _theta_views(self) -> list[Tensor]:
        return self.views(self.theta)

    def gather_gradients(self, gradients: list[Tensor], maximize: bool) -> None:
        """Copy the gradients into the flat update vector; their own memory is never written."""
        torch._foreach_copy_(self._update_views, gradients)
        if maximize:
            self.update.neg_()

    def gather_parameters(self) -> Tensor:
        """Copy the parameters into the flat scratch vector ``[D]`` and return it."""
        torch._foreach_copy_(self._theta_views, [p.detach() for p in self.tensors()])
        return self.theta

    def pieces(self) -> Iterator[slice]:
        """Yield the pieces of the flat vectors that are worked on at a time."""
        total = self.offsets[-1]
        length = PIECE if self.device.type == "cpu" else max(total, 1)
        for start in range(0, total, length):
            yield slice(start, min(start + length, total))

    def apply(self, salt: int | None = None) -> None:
        """Add the flat update vector ``[D]`` to the parameters, in the state's dtype, rounding once at the end.

        Args:
            salt: of stochastic rounding (see `sooner.execute.rounding`); None rounds to the nearest.
        """
        if self.mixed:
            self.update.add_(self.gather_parameters())
            if salt is not None:
                for piece in self.pieces():
                    self.update[piece] = round_stochastically(self.update[piece], piece.start, salt)
            torch._foreach_copy_(self.tensors(), self._update_views)
        else:
            torch._foreach_add_(self.tensors(), self._update_views)


@dataclass
class Work:
    """One cohort about to take one step of one chain.

    Attributes:
        gradients: of the cohort's parameters in its order; by default what is in ``.grad``.
        stochastic: whether bfloat16 parameters are rounded stochastically.
        moves: whether the result is added to the parameters; otherwise it stays in `Cohort.update`.
    """

    cohort: Cohort
    chain: Chain
    clock: Clock
    maximize: bool = False
    stochastic: bool = False
    moves: bool = True
    gradients: list[Tensor] = field(default_factory=list)

    @property
    def salt(self) -> int | None:
        """What stochastic rounding goes by at this step; None where parameters are rounded to the nearest."""
        rounds = self.stochastic and self.cohort.params[0].dtype == torch.bfloat16
        return salt_of(self.clock.step) if rounds else None

    def __post_init__(self) -> None:
        if not self.gradients:
            self.gradients = self.cohort.gradients()  # type: ignore[assignment]
