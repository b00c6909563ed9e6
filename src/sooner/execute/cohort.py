"""A cohort: parameters that step together, with the state that their chain keeps for them.

Parameters, gradients and state stay separate tensors, where PyTorch and the user put them, so whatever becomes of them
between two steps is seen: before every step a cohort compares them with what it was built for (`Cohort.fits`). What
executors need as one vector, they make of a few parameters at a time (see `Chunk`).
"""

from __future__ import annotations

import functools
import itertools
import operator
from array import array
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.execute.alike import Alike
from sooner.execute.chunk import Band, Chunk
from sooner.execute.counted import Counted, capturing, refuse_capture
from sooner.execute.low_bits import SCALE, unpacked
from sooner.execute.shards import local, local_gradient, spread_of
from sooner.execute.snapshot import HELPER, snapshot
from sooner.transform import Chain, Reduction

FREED = "lost its memory (its storage was resized); give it back before the step"
"""What is wrong with a tensor for which `_freed` holds, as the rest of a sentence."""

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


class Mark(NamedTuple):
    """What parameters that step with the same chain may differ in.

    Attributes:
        steps: that the parameter has taken.
        rate: the number of its learning rate among those of the step.
    """

    steps: int
    rate: int


class Cohort:
    """Parameters of one device, dtype and way of being sharded, which take the same chain of rules.

    Args:
        params: the parameters; the cohort keeps its own order (same shapes together).
        kept: per parameter, the state it has so far; what is missing starts at zero, what another dtype or device left
            is brought along, and what the cohort works on is put back here.
        chain: what they will be stepped with; it says which state there is.
        marks: step count and learning rate of each parameter; None where nobody counts steps.
        shared: the state that rules keep once for the whole model, by name.
        master: whether half-precision parameters keep a float32 copy.

    Attributes:
        bands: parameters that are next to each other and step with one clock.
        spread: how the parameters are sharded; None if this process has all of them.
        pieces: this process's piece of every parameter.
        slots: names of the state tensors.
        shapes: per parameter, the shape of each of them.
        state: per slot, one tensor per parameter (of sharded parameters the piece).
        packed: slots that rest in few bits, see `PackedCohort`.
        numbers: slots that hold one number per parameter, as one vector each, of which `state` holds views.
        offsets: where each parameter starts in a flat vector of all elements, and behind the last the total.
        addresses: where pieces ("theta"), state and, where `find_gradients` found them so, the gradients ("gradient")
            begin, found for the step that follows; see `release`.
        plain_parameters, plain_gradients: whether all of them lie plainly in memory, gradients in one dtype.
        gradient_dtype: that dtype.
        counts_there: whether steps are counted on the device, see `count_there`.
        steady: whether the last step found everything as the one before it had left it.
        kept: what an executor keeps from step to step, by the rules it is for.
        tables: what an executor keeps on the device, by what it is for.

    Raises:
        MisfitError: state does not fit its parameter.
    """

    packed: frozenset[str] = frozenset()

    def __init__(
        self,
        params: Sequence[Tensor],
        kept: Kept,
        chain: Chain,
        marks: Sequence[Mark] | None,
        shared: MutableMapping[str, Tensor] | None = None,
        *,
        master: bool = False,
    ) -> None:
        known = marks or [Mark(0, 0)] * len(params)
        order = sorted(range(len(params)), key=lambda i: (known[i], tuple(params[i].shape)))
        self.params = [params[i] for i in order]
        self.bands = list(_bands([known[i] for i in order]))
        first = self.params[0]
        self.dtype, self.device, self.spread = state_dtype(first.dtype), first.device, spread_of(first)
        self.mixed = first.dtype != self.dtype
        self.pieces = self._pieces()
        for p, piece in zip(self.params, self.pieces, strict=True):
            if torch._debug_has_internal_overlap(piece) == 1:
                raise MisfitError(p, "is an expanded view, whose entries share memory; clone it")
            if _freed(piece):
                raise MisfitError(p, FREED)
        self.master = master and self.mixed
        whole, pieces = ([tuple(p.shape) for p in some] for some in (self.params, self.pieces))
        shapes = {both: chain.shapes(*both) for both in set(zip(whole, pieces, strict=True))}
        if self.master:
            shapes = {both: {**own, MASTER: both[1]} for both, own in shapes.items()}
        self.shapes = [shapes[both] for both in zip(whole, pieces, strict=True)]
        self.slots = tuple(self.shapes[0])
        self.offsets = [0, *itertools.accumulate(p.numel() for p in self.pieces)]
        self._chunks: dict[tuple[int, bool], list[Chunk]] = {}
        self.shared = shared if shared is not None else {}
        self._of_model = {name for rule in chain.rules if isinstance(rule, Reduction) and rule.over == "model"
                          for name in rule.memory}  # fmt: skip
        self._in_pieces = chain.in_pieces() | {MASTER}
        self.state: dict[str, list[Tensor]] = {}
        self.numbers: dict[str, Tensor] = {}
        self._steps = None if marks is None else torch.tensor([float(known[i].steps) for i in order])
        self.counts_there = False
        self._slots_of: Callable[[dict[str, Tensor]], tuple[Tensor, ...]] = _nothing
        self.addresses: dict[str, array[int]] = {}
        self.states = [kept.setdefault(p, {}) for p in self.params]
        self._adopt(chain)
        self._checked = [*self.pieces, *itertools.chain.from_iterable(self.state[slot] for slot in self._vectors)]
        self._alike: Alike | None = None
        self._places = places_of(self._checked)
        self._gradients_alike: Alike | None = None
        self._snapshot: Any = None
        self._compares = self.spread is None and self.device.type == "cpu"
        self._noted: dict[str, array[int]] = {}  # the addresses in the snapshot; empty where there is none
        self._gradients_noted = False
        self._gradient_places = array("Q", bytes(8 * len(self.params)))
        self._found: list[Tensor] | None = None
        self.steady = False
        self.kept: dict[tuple[type, int, int], Any] = {}
        self.tables: dict[Any, Any] = {}
        self.plain_gradients, self.gradient_dtype = False, self.dtype
        self.plain_parameters = all(map(plain, self.pieces))

    def _pieces(self) -> list[Tensor]:
        if self.spread is None:
            return self.params
        return [local(p.detach()) for p in self.params]

    def _adopt(self, chain: Chain) -> None:
        """Take over the state that there is, start the rest at zero, and show it as ordinary tensors."""
        of_numbers = {slot for rule in chain.rules for slot in _numbers(rule, self.shapes[0])}
        shown: dict[str, list[Tensor]] = {}
        if self._steps is not None:
            shown["step"] = list(self._steps.unbind())
        for slot in self.slots:
            if slot in self._of_model:
                shown[slot] = [self._shared(slot)] * len(self.params)
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
            shown[slot] = self._shown(slot, own)
        for slot, tensors in shown.items():
            for kept, tensor in zip(self.states, tensors, strict=True):
                kept[slot] = tensor
                if slot + SCALE not in shown:
                    kept.pop(slot + SCALE, None)  # of state that rested in few bits until now
        self._vectors = [slot for slot in self.slots if slot in self.state and slot not in self.numbers]
        self._singles = [slot for slot in shown if slot not in self._vectors]
        names = [*self._vectors, *self._singles]
        names += names if len(names) == 1 else ()  # so that a tuple comes out
        self._slots_of = operator.itemgetter(*names) if names else _nothing
        self._width = len(names)
        self._held = list(itertools.chain.from_iterable(map(self._slots_of, self.states)))
        self._single_places = {slot: places_of(shown[slot]) for slot in self._singles}

    def _shown(self, slot: str, own: list[Tensor]) -> list[Tensor]:
        """Return state as others see it: pieces of sharded parameters as part of a whole."""
        if self.spread and slot in self._in_pieces:
            return [self.spread.shown(t, p) for t, p in zip(own, self.params, strict=True)]
        return own

    def _own(self, slot: str, i: int) -> Tensor:
        """Return the state tensor of a parameter: the one it has, made to fit, or zeros."""
        p, shape = self.params[i], self.shapes[i][slot]
        if slot in self.states[i]:
            return self._fitting(slot, p, unpacked(self.states[i], slot, shape), shape)
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
        if _freed(piece):
            raise MisfitError(p, f"has {slot} that {FREED}")
        return piece.to(self.device, self.dtype).resolve_neg().contiguous()

    def _shared(self, slot: str) -> Tensor:
        """Return what a rule keeps once for the whole model, which is everybody's state."""
        there = self.shared.setdefault(slot, torch.zeros((), dtype=self.dtype, device=self.device))
        self.shared[slot] = there.to(torch.promote_types(there.dtype, self.dtype))  # as exact as any of the model
        return self.shared[slot]

    def keeps(self, chain: Chain) -> bool:
        """Whether another chain keeps state of the same names and shapes."""
        pieces = [tuple(p.shape) for p in self.pieces]
        own = {MASTER} if self.master else set()
        return all(
            chain.shapes(tuple(p.shape), piece) == {slot: s for slot, s in shapes.items() if slot not in own}
            for p, piece, shapes in zip(self.params, pieces, self.shapes, strict=True)
        )

    def watch(self) -> None:
        """Note how parameters and state are laid out, so that `fits` can tell whether they still are."""
        self._alike = Alike(self._checked)

    def fits(self) -> bool:
        """Whether parameters and state are as they were at `watch`, but for their values; False where nobody watched.

        State that somebody replaced by other tensors laid out alike is used in their place.
        """
        if self._alike is None:
            return False
        self.steady = True  # an answer of False ends the cohort
        if self._noted:
            if self._snapshot.holds():
                self.addresses = dict(self._noted)
                return True
            self._noted = {}
        if self.spread:
            self.pieces = self._pieces()
        try:
            held = list(itertools.chain.from_iterable(map(self._slots_of, self.states)))
            return self._follow(self._alike, held)
        except (KeyError, TypeError):  # state is gone, or is no tensor
            return False

    def _follow(self, alike: Alike, held: list[Tensor]) -> bool:
        """Compare state that parameters have at present, and use it."""
        count = len(self.params)
        if self.spread:
            if not all(map(operator.is_, held, self._held)):
                return False
            checked = [*self.pieces, *self._checked[count:]]
        else:
            checked = [*self.pieces]
            for i in range(len(self._vectors)):
                checked += held[i :: self._width]
        if not alike(checked):
            return False
        places = places_of(checked)
        theta = places[:count]
        if places != self._places:
            if (theta != self._places[:count] and shared_memory(theta)) or any(map(_freed, checked)):
                return False
            self._places = places
        for i, slot in enumerate(self._singles, len(self._vectors)):
            if places_of(held[i :: self._width]) != self._single_places[slot]:
                return False
        if self._steps is not None and not self.counts_there and self._steps.tolist() != self._counted():
            return False
        self._checked, self.addresses = checked, {"theta": theta}
        for i, slot in enumerate(self._vectors, 1):
            self.state[slot] = checked[i * count : (i + 1) * count]
            self.addresses[slot] = places[i * count : (i + 1) * count]
        self._note()
        return True

    def _note(self) -> None:
        """Let the next step be compared at once with this one, which `fits`."""
        if self._snapshot is None and self._compares:
            module = HELPER.ask()
            if module is not None:
                names = [*self._vectors, *self._singles]
                self._snapshot = snapshot(module, self.pieces, self.states, names, self._steps)
                self._compares = self._snapshot is not None
        if self._snapshot is not None and self._snapshot.note():
            self._noted, self._gradients_noted = dict(self.addresses), False

    def release(self) -> None:
        """Forget addresses and gradients, for after the step everything may be elsewhere."""
        self.addresses, self._found = {}, None
        if self._snapshot is not None:
            self._snapshot.release()

    def _counted(self) -> list[float]:
        if len(self.bands) == 1:
            return [float(self.bands[0].steps)] * len(self.params)
        return [float(band.steps) for band in self.bands for _ in range(band.first, band.last)]

    def advance(self) -> None:
        """Count a step.

        Raises:
            SoonerError: it is captured in a CUDA graph, and counted on the host.
        """
        assert self._steps is not None
        if not self.counts_there and capturing(self.device):
            raise refuse_capture()
        for band in self.bands:
            band.steps += 1
        if self._noted:
            self._snapshot.advance()
        else:
            self._steps.add_(1.0)

    def count_there(self) -> None:
        """From now on, count steps on the device, so that a captured graph goes on counting when it is replayed."""
        assert self._steps is not None
        self._move_counts(self._steps.to(self.device, copy=True))
        self.counts_there, self._compares, self._snapshot, self._noted = True, False, None, {}

    def count_here(self) -> None:
        """Count on the host again. Waits for the device.

        Raises:
            SoonerError: the step is captured in a CUDA graph.
        """
        if not self.counts_there:
            return
        if capturing(self.device):
            raise refuse_capture()
        assert self._steps is not None
        self._move_counts(self._steps.cpu())
        for band in self.bands:
            band.steps = int(self._steps[band.first])
        self.counts_there, self._compares = False, self.spread is None and self.device.type == "cpu"

    def counts(self, bands: range) -> Counted:
        """Return the step counts of these bands where they are, on the device."""
        assert self._steps is not None
        own = self.bands[bands.start : bands.stop]
        firsts = torch.stack([self._steps[band.first] for band in own])
        return Counted(firsts.double(), min(band.steps for band in own))

    def _move_counts(self, steps: Tensor) -> None:
        self._steps = steps
        for kept, one in zip(self.states, steps.unbind(), strict=True):
            kept["step"] = one
        self._held = list(itertools.chain.from_iterable(map(self._slots_of, self.states)))
        self._single_places["step"] = places_of(list(steps.unbind()))

    def find_gradients(self) -> bool:
        """Look at the gradients that there are, and check them; False unless every parameter has one.

        Raises:
            MisfitError: a gradient is sparse, or not of the parameter's shape or device.
        """
        if self._noted and self._gradients_noted and self._snapshot.find_gradients(self._gradient_places):
            self.addresses["gradient"], self._found = self._gradient_places, None
            return True
        self._found = self._look_for_gradients()
        if self._noted and self._found is not None and self.plain_gradients:
            self._gradients_noted = self._snapshot.note_gradients()
        return self._found is not None

    @property
    def gradients(self) -> list[Tensor]:
        """Every parameter's gradient (of sharded ones the piece), as `find_gradients` found them."""
        if self._found is None:
            self._found = self._look_for_gradients()
        if self._found is None:
            raise MisfitError(self.params[0], "lost its gradient during the step; leave gradients alone meanwhile")
        return self._found

    def written(self, first: int, last: int) -> None:
        """Let autograd notice that parameters ``[first, last)`` were written to, as with operations of torch."""
        if self._noted and last - first == len(self.params):
            self._snapshot.written()
        else:
            torch.autograd.graph.increment_version(self.pieces[first:last])

    def _look_for_gradients(self) -> list[Tensor] | None:
        present = [p.grad if self.spread is None else local_gradient(p) for p in self.params]
        if type(None) in set(map(type, present)):
            return None
        found: list[Tensor] = present  # type: ignore[assignment]
        if self._gradients_alike is None or not self._gradients_alike(found):
            self._check_gradients(found)
            self._gradients_alike = Alike(found) if self._alike is not None else None
        if self.plain_gradients:
            self.addresses["gradient"] = places_of(found)
        if self._gradients_noted or 0 in self.addresses.get("gradient", ()):
            for p, g in zip(self.params, found, strict=True):
                if _freed(g):
                    raise MisfitError(p, f"has a gradient that {FREED}")
        return found

    def _check_gradients(self, gradients: Sequence[Tensor]) -> None:
        for p, piece, g in zip(self.params, self.pieces, gradients, strict=True):
            if g.layout != torch.strided:
                raise SparseGradientError(p)
            if g.shape != piece.shape:
                raise MisfitError(p, f"has a gradient of shape {tuple(g.shape)}; set it to None when the parameter is "
                                  "resized")  # fmt: skip
            if _freed(g):
                raise MisfitError(p, f"has a gradient that {FREED}")
            if g.device != piece.device or not g.is_floating_point():
                raise MisfitError(p, f"on {piece.device} has a gradient of {g.dtype} on {g.device}; move model and "
                                  "gradients together")  # fmt: skip
        self.gradient_dtype = gradients[0].dtype
        self.plain_gradients = len({g.dtype for g in gradients}) == 1 and all(map(plain, gradients))

    def read(self, slot: str, chunk: Chunk) -> Tensor:
        """Return the state of a slot in few bits as one vector of a chunk."""
        raise TypeError(f"{slot} does not rest in few bits")

    def store(self, slot: str, chunk: Chunk, values: Tensor) -> None:
        """Put new values of a slot in few bits, one vector of a chunk, where its state is."""
        raise TypeError(f"{slot} does not rest in few bits")

    @functools.cached_property
    def whole(self) -> Chunk:
        """All parameters as one chunk, of one band or several."""
        return Chunk(self, 0, len(self.params), range(len(self.bands)))

    @functools.cached_property
    def banded(self) -> list[Chunk]:
        """All parameters, as one chunk for each band."""
        return [Chunk(self, band.first, band.last, range(i, i + 1)) for i, band in enumerate(self.bands)]

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
        for number, band in enumerate(self.bands):
            bands = range(number, number + 1)
            first, size = band.first, 0
            for i in range(band.first, band.last):
                more = sizes[i]
                if not whole and more > limit and self.spread is None and self.pieces[i].is_contiguous():
                    if first < i:
                        yield Chunk(self, first, i, bands)
                    for start in range(0, more, limit):
                        yield Chunk(self, i, i + 1, bands, (start, min(start + limit, more)))
                    first, size = i + 1, 0
                    continue
                if first < i and size + more > limit:
                    yield Chunk(self, first, i, bands)
                    first, size = i, 0
                size += more
            if first < band.last:
                yield Chunk(self, first, band.last, bands)


def _bands(marks: Sequence[Mark]) -> Iterator[Band]:
    first = 0
    for mark, same in itertools.groupby(marks):
        last = first + len(list(same))
        yield Band(first, last, mark.steps, mark.rate)
        first = last


def _numbers(rule: object, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the names of a rule's state that is one number per parameter, whatever the parameter's shape."""
    if isinstance(rule, Reduction):
        return rule.memory
    grain, slots = getattr(rule, "grain", ""), getattr(rule, "slots", ())
    return tuple(slot for slot in slots if grain == "tensor" and shapes[slot] == ())


def plain(tensor: Tensor) -> bool:
    """Whether the numbers of a tensor are what its memory holds, one after the other."""
    return tensor.is_contiguous() and not tensor.is_neg()


def places_of(tensors: Sequence[Tensor]) -> array[int]:
    """Return the addresses at which tensors begin; 0 for those without elements."""
    return array("Q", map(Tensor.data_ptr, tensors))


def _freed(tensor: Tensor) -> bool:
    """Whether the storage of a tensor ends before its last element."""
    if tensor.numel() == 0 or tensor.is_meta:
        return False
    if tensor.is_contiguous():
        last = tensor.numel()
    else:
        last = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.untyped_storage().nbytes() < (tensor.storage_offset() + last) * tensor.itemsize


def shared_memory(places: array[int]) -> bool:
    """Whether two tensors begin at the same address; those without elements are nowhere."""
    return len(set(places)) + places.count(0) - (0 in places) < len(places)


def _nothing(state: object) -> tuple[Tensor, ...]:
    return ()
