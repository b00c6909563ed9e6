"""A cohort: parameters that step together, with the state that their chain keeps for them.

Parameters, gradients and state stay separate tensors, where PyTorch and the user put them, so whatever becomes of them
between two steps is seen: before every step a cohort compares them with what it was built for (`Cohort.fits`). What
executors need as one vector, they make of a few parameters at a time (see `Chunk`).
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from array import array
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.execute.alike import Alike
from sooner.execute.rounding import salt_of
from sooner.execute.shards import local, local_gradient, spread_of
from sooner.transform import Chain, Clock, Reduction

MASTER = "master_weights"
"""State of this name holds half-precision parameters in float32."""

Kept = MutableMapping[Tensor, dict[str, Tensor]]
"""Per parameter the state it has, by name; ``optimizer.state`` is one."""


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that state and arithmetic use: half-precision parameters are stepped in float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


class MisfitError(SoonerError):
    """State or a gradient does not fit its parameter.

    Attributes:
        parameter: which one.
        what: what is wrong with it, as the rest of a sentence that began with the parameter.
    """

    def __init__(self, parameter: Tensor, what: str) -> None:
        super().__init__(f"a parameter of shape {tuple(parameter.shape)} {what}")
        self.parameter = parameter
        self.what = what


class SparseGradientError(MisfitError):
    """A gradient is sparse, which no rule takes."""

    def __init__(self, parameter: Tensor) -> None:
        super().__init__(parameter, "has a sparse gradient; build the embedding with sparse=False")


@dataclass(frozen=True)
class Bucket:
    """The `count` parameters of one `shape` that lie next to each other in a chunk, from its number `first` on.

    Attributes:
        shape: of the piece of a parameter that this process has.
        whole: of the whole parameter; the same where parameters are not sharded.
        start, stop: where they lie in a flat vector of all elements of the chunk.
        slots: where their state lies in the flat vector of each slot, ``(start, stop, shape)``.
    """

    first: int
    count: int
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    start: int
    stop: int
    slots: Mapping[str, tuple[int, int, tuple[int, ...]]]

    @property
    def rows(self) -> tuple[int, int]:
        """Number and length of a parameter's rows; with fewer than two dimensions it is a single row."""
        height = self.shape[0] if len(self.shape) > 1 else 1
        return height, math.prod(self.shape) // height if height else math.prod(self.shape[1:])

    def stack(self, flat: Tensor) -> Tensor:
        """Return the parameters of the bucket as one view ``[count, *shape]`` of a flat vector of all elements."""
        return flat[self.start : self.stop].view(self.count, *self.shape)

    def rowed(self, flat: Tensor) -> Tensor:
        """Return the same elements as ``[count * rows, length]``."""
        height, length = self.rows
        return flat[self.start : self.stop].view(self.count * height, length)

    def kept(self, slot: str, flat: Tensor) -> Tensor:
        """Return the bucket's state as one view ``[count, *shape of the slot]`` of the slot's flat vector."""
        start, stop, shape = self.slots[slot]
        return flat[start:stop].view(self.count, *shape)


@dataclass(frozen=True)
class Rows:
    """How compiled loops see a chunk: every parameter cut into rows, all rows numbered through.

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


class Chunk:
    """Parameters of a cohort that are worked on at a time, or a piece of one parameter.

    Args:
        cohort: the cohort.
        first, last: numbers of its parameters, ``[first, last)``.
        piece: the elements of a single parameter, ``[start, stop)``; None for all. Only for rules that work by element.

    Attributes:
        start: number of the chunk's first element among those of the cohort.
        length: number of its elements.
        buckets: the parameters by shape; none for a piece.
    """

    def __init__(self, cohort: Cohort, first: int, last: int, piece: tuple[int, int] | None = None) -> None:
        self.cohort = cohort
        self.first, self.last, self.piece = first, last, piece
        begin, end = cohort.offsets[first], cohort.offsets[last]
        self.start = begin + piece[0] if piece else begin
        self.length = piece[1] - piece[0] if piece else end - begin
        self.offsets = [one - begin for one in cohort.offsets[first : last + 1]]
        self.buckets: list[Bucket] = [] if piece else list(self._make_buckets())
        self._rows: dict[bool, Rows] = {}

    def _make_buckets(self) -> Iterator[Bucket]:
        cohort, first = self.cohort, 0
        of_slots = dict.fromkeys(cohort.slots, 0)
        for whole, same in itertools.groupby(cohort.params[self.first : self.last], key=lambda p: tuple(p.shape)):
            count = len(list(same))
            shapes = cohort.shapes[self.first + first]
            slots = {}
            for slot, start in of_slots.items():
                of_slots[slot] = start + count * math.prod(shapes[slot])
                slots[slot] = start, of_slots[slot], shapes[slot]
            shape = tuple(cohort.pieces[self.first + first].shape)
            yield Bucket(first, count, shape, whole, self.offsets[first], self.offsets[first + count], slots)
            first += count

    def rows(self, by_rows: bool) -> Rows:
        """Return the chunk as compiled loops see it, with the rows of weights or each parameter as one row."""
        if by_rows not in self._rows:
            heights = [bucket.rows[0] if by_rows else 1 for bucket in self.buckets]
            rows = [height for bucket, height in zip(self.buckets, heights, strict=True) for _ in range(bucket.count)]
            starts = [0, *itertools.accumulate(rows)]
            self._rows[by_rows] = Rows(
                array("q", self.offsets),
                array("q", rows),
                array("q", starts[:-1]),
                starts[-1],
                [(starts[b.first], starts[b.first + b.count], b.count) for b in self.buckets],
            )
        return self._rows[by_rows]

    def of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the chunk's own of one tensor per parameter of the cohort; for a piece a flat view of that piece."""
        if self.piece:
            return [tensors[self.first].view(-1)[slice(*self.piece)]]
        return list(tensors[self.first : self.last])

    def flat(self, tensors: list[Tensor]) -> Tensor:
        """Return one tensor per parameter of the cohort as one vector ``[d]``, a view where one will do."""
        if self.piece:
            return tensors[self.first].reshape(-1)[slice(*self.piece)]
        own = tensors[self.first : self.last]
        return own[0].reshape(-1) if len(own) == 1 else torch._C._nn.flatten_dense_tensors(own)

    def cut_from(self, flat: Tensor) -> Tensor:
        """Return the chunk's own part of a vector of all elements of the cohort."""
        return flat[self.start : self.start + self.length]

    def split(self, flat: Tensor, like: list[Tensor]) -> list[Tensor]:
        """Return a vector of the chunk as views shaped as the chunk's own of one tensor per parameter of the cohort."""
        if self.piece:
            return [flat]
        own = like[self.first : self.last]
        return [flat.view(own[0].shape)] if len(own) == 1 else list(torch._C._nn.unflatten_dense_tensors(flat, own))

    def state(self, slot: str) -> Tensor:
        """Return the state of a slot as one vector: a view of a single tensor or of numbers, else a copy."""
        if slot in self.cohort.numbers:
            return self.cohort.numbers[slot][self.first : self.last]
        return self.flat(self.cohort.state[slot])

    def keep(self, slot: str, before: Tensor, after: Tensor) -> None:
        """Put new values of a slot, one vector, where its state is; `before` is what `state` returned."""
        if after is before:
            return
        if slot in self.cohort.numbers or self.last - self.first == 1:
            before.copy_(after)
        else:
            self.write(slot, after)

    def write(self, slot: str, values: Tensor) -> None:
        """Copy a vector into the state tensors of a slot."""
        torch._foreach_copy_(self.of(self.cohort.state[slot]), self.split(values, self.cohort.state[slot]))


class Cohort:
    """Parameters of one device, dtype, step count and way of being sharded.

    Args:
        params: the parameters; the cohort keeps its own order (same shapes together).
        kept: per parameter, the state it has so far; what is missing starts at zero, what another dtype or device left
            is brought along, and what the cohort works on is put back here.
        chain: what they will be stepped with; it says which state there is.
        step: number of steps already taken by all of these parameters; None where nobody counts them.
        shared: the state that rules keep once for the whole model, by name.
        master: whether half-precision parameters keep a float32 copy.

    Attributes:
        spread: how the parameters are sharded; None if this process has all of them.
        pieces: this process's piece of every parameter.
        slots: names of the state tensors.
        shapes: per parameter, the shape of each of them.
        state: per slot, one tensor per parameter (of sharded parameters the piece).
        numbers: slots that hold one number per parameter, as one vector each, of which `state` holds views.
        offsets: where each parameter starts in a flat vector of all elements, and behind the last the total.
        plain_parameters, plain_gradients: whether all of them lie plainly in memory, gradients in one dtype.

    Raises:
        MisfitError: state does not fit its parameter.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        kept: Kept,
        chain: Chain,
        step: int | None,
        shared: MutableMapping[str, Tensor] | None = None,
        *,
        master: bool = False,
    ) -> None:
        self.params = sorted(params, key=lambda p: tuple(p.shape))
        self.step = step or 0
        first = self.params[0]
        self.dtype, self.device, self.spread = state_dtype(first.dtype), first.device, spread_of(first)
        self.mixed = first.dtype != self.dtype
        self.pieces = self._pieces()
        for p, piece in zip(self.params, self.pieces, strict=True):
            if torch._debug_has_internal_overlap(piece) == 1:
                raise MisfitError(p, "is an expanded view, whose entries share memory; clone it")
        self.master = master and self.mixed
        whole, pieces = ([tuple(p.shape) for p in some] for some in (self.params, self.pieces))
        known = {both: chain.shapes(*both) for both in set(zip(whole, pieces, strict=True))}
        if self.master:
            known = {both: {**shapes, MASTER: both[1]} for both, shapes in known.items()}
        self.shapes = [known[both] for both in zip(whole, pieces, strict=True)]
        self.slots = tuple(self.shapes[0])
        self.offsets = [0, *itertools.accumulate(p.numel() for p in self.pieces)]
        self._chunks: dict[tuple[int, bool], list[Chunk]] = {}
        self.shared = shared if shared is not None else {}
        self._of_model = {name for rule in chain.rules if isinstance(rule, Reduction) and rule.over == "model"
                          for name in rule.memory}  # fmt: skip
        self._in_pieces = chain.in_pieces() | {MASTER}
        self.state: dict[str, list[Tensor]] = {}
        self.numbers: dict[str, Tensor] = {}
        self._shown: dict[str, list[Tensor]] = {}
        self._steps = None if step is None else torch.full((len(self.params),), float(step))
        self._all: list[Tensor] = []
        self._slots_of: Callable[[dict[str, Tensor]], tuple[Tensor, ...]] = _nothing
        self.states = [kept.setdefault(p, {}) for p in self.params]
        self._adopt(chain)
        self._alike = Alike(self._checked())
        self._gradients_alike: Alike | None = None
        self.plain_gradients = False
        self.plain_parameters = all(map(plain, self.pieces))

    def _pieces(self) -> list[Tensor]:
        if self.spread is None:
            return self.params
        return [local(p.detach()) for p in self.params]

    def _checked(self) -> list[Tensor]:
        if self.spread or not self._all:
            own = [t for slot, some in self.state.items() if slot not in self.numbers for t in some]
            self._all = [*self.pieces, *own]
        return self._all

    def _adopt(self, chain: Chain) -> None:
        """Take over the state that there is, start the rest at zero, and show it as ordinary tensors."""
        of_numbers = {slot for rule in chain.rules for slot in _numbers(rule, self.shapes[0])}
        if self._steps is not None:
            self._shown["step"] = list(self._steps.unbind())
        for slot in self.slots:
            if slot in self._of_model:
                self._share(slot)
                continue
            if slot in of_numbers:
                self.numbers[slot] = torch.zeros(len(self.params), dtype=self.dtype, device=self.device)
                own = list(self.numbers[slot].unbind())
                for view, p, kept in zip(own, self.params, self.states, strict=True):
                    if slot in kept:
                        view.copy_(self._fitting(slot, p, kept[slot], ()))
            else:
                own = [self._own(slot, i) for i in range(len(self.params))]
            self.state[slot] = own
            shown = own
            if self.spread and slot in self._in_pieces:
                shown = [self.spread.shown(t, p) for t, p in zip(own, self.params, strict=True)]
            self._shown[slot] = shown
        for slot, shown in self._shown.items():
            for kept, tensor in zip(self.states, shown, strict=True):
                kept[slot] = tensor
        twice = list(self._shown)[:1]  # so that there are at least two, and a tuple comes out
        self._slots_of = operator.itemgetter(*self._shown, *twice) if self._shown else _nothing
        self._held = list(itertools.chain.from_iterable(map(self._slots_of, self.states)))
        numbers = [self._shown[slot] for slot in ("step", *self.numbers) if slot in self._shown]
        self._placed = [(views, list(map(Tensor.data_ptr, views))) for views in numbers]

    def _own(self, slot: str, i: int) -> Tensor:
        """Return the state tensor of a parameter: the one it has, made to fit, or zeros."""
        p, shape = self.params[i], self.shapes[i][slot]
        if slot in self.states[i]:
            return self._fitting(slot, p, self.states[i][slot], shape)
        if slot == MASTER:
            return self.pieces[i].detach().to(self.dtype, copy=True, memory_format=torch.contiguous_format)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def _fitting(self, slot: str, p: Tensor, there: object, shape: tuple[int, ...]) -> Tensor:
        tensor = there if isinstance(there, Tensor) else torch.tensor(there)
        piece = local(tensor.detach())
        if tuple(piece.shape) != shape:
            raise MisfitError(
                p,
                f"has {slot} of shape {tuple(piece.shape)}, where it must be {shape}; resize that state with the "
                "parameter, or delete optimizer.state[parameter] to start it afresh",
            )
        return piece.to(self.device, self.dtype).resolve_neg().contiguous()

    def _share(self, slot: str) -> None:
        """Show what a rule keeps once for the whole model as everybody's state."""
        if slot not in self.shared:
            self.shared[slot] = torch.zeros((), dtype=self.dtype, device=self.device)
        self._shown[slot] = [self.shared[slot]] * len(self.params)

    def keeps(self, chain: Chain) -> bool:
        """Whether another chain keeps state of the same names and shapes."""
        pieces = [tuple(p.shape) for p in self.pieces]
        own = {MASTER} if self.master else set()
        return all(
            chain.shapes(tuple(p.shape), piece) == {slot: s for slot, s in shapes.items() if slot not in own}
            for p, piece, shapes in zip(self.params, pieces, self.shapes, strict=True)
        )

    def fits(self) -> bool:
        """Whether parameters and state are as they were when the cohort was built, but for their values."""
        if self.spread:
            self.pieces = self._pieces()
        if not self._alike(self._checked()) or shared_memory(self.pieces):
            return False
        try:
            held = itertools.chain.from_iterable(map(self._slots_of, self.states))
            if not all(map(operator.is_, held, self._held)):
                return False
        except KeyError:
            return False
        if any(list(map(Tensor.data_ptr, views)) != addresses for views, addresses in self._placed):
            return False
        return self._steps is None or self._steps.tolist() == [self.step] * len(self.params)

    def advance(self) -> int:
        """Count a step and return its number."""
        self.step += 1
        assert self._steps is not None
        self._steps.fill_(self.step)
        return self.step

    def gradients(self) -> list[Tensor] | None:
        """Return every parameter's gradient (of sharded ones the piece); None unless all have one.

        Raises:
            MisfitError: a gradient is sparse, or not of the parameter's shape or device.
        """
        present = [p.grad if self.spread is None else local_gradient(p) for p in self.params]
        if type(None) in set(map(type, present)):
            return None
        found: list[Tensor] = present  # type: ignore[assignment]
        if self._gradients_alike is None or not self._gradients_alike(found):
            self._check_gradients(found)
            self._gradients_alike = Alike(found)
        return found

    def _check_gradients(self, gradients: Sequence[Tensor]) -> None:
        for p, piece, g in zip(self.params, self.pieces, gradients, strict=True):
            if g.layout != torch.strided:
                raise SparseGradientError(p)
            if g.shape != piece.shape:
                raise MisfitError(p, f"has a gradient of shape {tuple(g.shape)}; set it to None when the parameter is "
                                  "resized")  # fmt: skip
            if g.device != piece.device or not g.is_floating_point():
                raise MisfitError(p, f"on {piece.device} has a gradient of {g.dtype} on {g.device}; move model and "
                                  "gradients together")  # fmt: skip
        self.plain_gradients = len({g.dtype for g in gradients}) == 1 and all(map(plain, gradients))

    @functools.cached_property
    def whole(self) -> Chunk:
        """All parameters as one chunk."""
        return Chunk(self, 0, len(self.params))

    def chunks(self, limit: int, *, whole: bool) -> list[Chunk]:
        """Return the cohort in chunks of about `limit` elements.

        Args:
            limit: a chunk has no more elements, unless it is a single parameter.
            whole: never cut a parameter in pieces.
        """
        key = limit, whole
        if key not in self._chunks:
            self._chunks[key] = list(self._divide(limit, whole))
        return self._chunks[key]

    def _divide(self, limit: int, whole: bool) -> Iterator[Chunk]:
        sizes = [p.numel() for p in self.params]  # of sharded ones all of them, so that all processes divide alike
        first, size = 0, 0
        for i, more in enumerate(sizes):
            if not whole and more > limit and self.spread is None and self.pieces[i].is_contiguous():
                if first < i:
                    yield Chunk(self, first, i)
                for start in range(0, more, limit):
                    yield Chunk(self, i, i + 1, (start, min(start + limit, more)))
                first, size = i + 1, 0
                continue
            if first < i and size + more > limit:
                yield Chunk(self, first, i)
                first, size = i, 0
            size += more
        if first < len(sizes):
            yield Chunk(self, first, len(sizes))


def _numbers(rule: object, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the names of a rule's state that is one number per parameter, whatever the parameter's shape."""
    if isinstance(rule, Reduction):
        return rule.memory
    grain, slots = getattr(rule, "grain", ""), getattr(rule, "slots", ())
    return tuple(slot for slot in slots if grain == "tensor" and shapes[slot] == ())


def plain(tensor: Tensor) -> bool:
    """Whether the numbers of a tensor are what its memory holds, one after the other."""
    return tensor.is_contiguous() and not tensor.is_neg()


def shared_memory(tensors: Sequence[Tensor]) -> bool:
    """Whether two tensors begin at the same place; those without elements are nowhere."""
    places = list(map(Tensor.data_ptr, tensors))
    return len(set(places)) + places.count(0) - (0 in places) < len(places)


def _nothing(state: object) -> tuple[Tensor, ...]:
    return ()


@dataclass
class Work:
    """One cohort about to take one step of one chain.

    Attributes:
        gradients: of the cohort's parameters in its order; by default what is in ``.grad``.
        stochastic: whether bfloat16 parameters are rounded stochastically.
        into: where the result goes, one tensor of the state's dtype per parameter; None adds it to the parameters.
    """

    cohort: Cohort
    chain: Chain
    clock: Clock
    maximize: bool = False
    stochastic: bool = False
    into: list[Tensor] | None = None
    gradients: list[Tensor] = field(default_factory=list)

    @property
    def salt(self) -> int | None:
        """What stochastic rounding goes by at this step; None where parameters are rounded to the nearest."""
        rounds = self.stochastic and self.cohort.params[0].dtype == torch.bfloat16
        return salt_of(self.clock.step) if rounds else None

    def __post_init__(self) -> None:
        if not self.gradients:
            self.gradients = self.cohort.gradients() or []
