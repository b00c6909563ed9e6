"""A cohort whose running means rest in 8 or 4 bits, and are read and written a chunk at a time inside the step.

Per parameter the state holds bytes under the slot's name and the scales of their blocks beside it. What a chunk needs
is decoded, stepped by the eager executor and encoded again, so that no more of it is ever there in full than a chunk.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import torch
from torch import Tensor

from sooner.execute.chunk import Chunk
from sooner.execute.cohort import Cohort, Kept, Mark
from sooner.execute.low_bits import FORMS, SCALE
from sooner.execute.rounding import salt_of
from sooner.execute.shards import local, spread_of
from sooner.transform import Chain

SMALL = 4096
"""Parameters with fewer elements keep their state whole, as in Dettmers et al.: gains and biases are a small part of
the memory and a large one of the trouble."""

MEANS = ("momentum_buffer", "previous_grad")
"""Names of state that may be rounded, beside all that begin with ``exp_avg``: running means of gradients and their
squares, and gradients. What else a rule keeps (weights, curvature, factors of matrices) stays whole."""


def packs(slot: str) -> bool:
    """Whether state of this name may be kept in few bits."""
    return slot.startswith("exp_avg") or slot in MEANS


def bits_of(p: Tensor, bits: int | None) -> int | None:
    """Return in how many bits means of a parameter are kept where `bits` are asked for; None for in full.

    Blocks of a sharded parameter must not reach over the end of a process's rows, else the state would be another with
    other numbers of processes: where they do, it stays in full.
    """
    if bits is None or p.numel() < SMALL:
        return None
    spread = spread_of(p)
    fits = spread is None or (spread.even(tuple(p.shape)) and local(p.detach()).numel() % FORMS[bits].block == 0)
    return bits if fits else None


class PackedCohort(Cohort):
    """A cohort that keeps running means in few bits.

    Args:
        params, kept, chain, marks, shared, master: see `Cohort`.
        bits: 8 or 4.
        stochastic: whether state is rounded up or down at random.

    Attributes:
        packed: names of the state in few bits: that of the names that `packs` knows, as large as its parameter.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        kept: Kept,
        chain: Chain,
        marks: Sequence[Mark] | None,
        shared: MutableMapping[str, Tensor] | None = None,
        *,
        master: bool = False,
        bits: int = 8,
        stochastic: bool = False,
    ) -> None:
        self._form, self._stochastic = FORMS[bits], stochastic
        self._scales: dict[tuple[str, int], Tensor] = {}
        super().__init__(params, kept, chain, marks, shared, master=master)

    def _adopt(self, chain: Chain) -> None:
        pieces = [tuple(p.shape) for p in self.pieces]
        own, names = self.shapes, self.slots
        self.packed = frozenset(
            slot
            for slot in names
            if packs(slot) and all(shapes[slot] == piece for shapes, piece in zip(own, pieces, strict=True))
        )
        self.slots = tuple(n for slot in names for n in ((slot, slot + SCALE) if slot in self.packed else (slot,)))
        super()._adopt(chain)
        self.slots = names  # scales are no state of a rule

    def _own(self, slot: str, i: int) -> Tensor:
        if slot.removesuffix(SCALE) in self.packed and slot.endswith(SCALE):
            return self._scales.pop((slot.removesuffix(SCALE), i))
        if slot not in self.packed:
            return super()._own(slot, i)
        shape, state, form = self.shapes[i][slot], self.states[i], self._form
        count = self.pieces[i].numel()
        wanted = form.code_shape(shape)
        there, scales = (_piece(state.get(name)) for name in (slot, slot + SCALE))
        if there is not None and scales is not None and form.fits(there, scales, shape):
            codes = there.to(self.device).contiguous()
            scale = scales.to(self.device, self.dtype).contiguous()
        elif there is not None:
            codes, scale = form.encode(super()._own(slot, i).view(-1))
        else:
            codes = torch.zeros(wanted, dtype=torch.uint8, device=self.device)
            scale = torch.zeros(form.blocks(count), dtype=self.dtype, device=self.device)
        self._scales[slot, i] = scale
        return codes.view(wanted)

    def _shown(self, slot: str, own: list[Tensor]) -> list[Tensor]:
        if self.spread is None or slot.removesuffix(SCALE) not in self.packed:
            return super()._shown(slot, own)
        if slot in self.packed and self._form.bits == 8:
            return [self.spread.shown(t, p) for t, p in zip(own, self.params, strict=True)]
        shares = [p.numel() // piece.numel() for p, piece in zip(self.params, self.pieces, strict=True)]
        return [self.spread.shown_flat(t, len(t) * share) for t, share in zip(own, shares, strict=True)]

    def read(self, slot: str, chunk: Chunk) -> Tensor:
        """Return the state of a slot as one vector of the chunk, decoded."""
        found = [
            self._form.decode(codes, scale, stop - start)
            for codes, scale, start, stop in self._pieces_of(slot, chunk)
        ]  # fmt: skip
        return found[0] if len(found) == 1 else torch.cat(found)

    def store(self, slot: str, chunk: Chunk, values: Tensor) -> None:
        """Encode new values of a slot, one vector of the chunk."""
        salt = salt_of(self.bands[chunk.bands.start].steps) + self.slots.index(slot) * 0x9E3779B9
        for codes, scale, start, stop in self._pieces_of(slot, chunk):
            noise = (chunk.start + start, salt) if self._stochastic else None
            new, scales = self._form.encode(values[start:stop], noise)
            codes.view(-1).copy_(new)
            scale.copy_(scales)

    def _pieces_of(self, slot: str, chunk: Chunk) -> list[tuple[Tensor, Tensor, int, int]]:
        """Return bytes, scales and place in the chunk's vector of each of its parameters, or of its piece of one."""
        every, scales = self.state[slot], self.state[slot + SCALE]
        if chunk.piece is None:
            numbers = range(chunk.first, chunk.last)
            return [
                (every[i], scales[i], start, stop)
                for i, start, stop in zip(numbers, chunk.offsets, chunk.offsets[1:], strict=False)
            ]
        form, (start, stop) = self._form, chunk.piece  # a piece starts where a block does
        codes = every[chunk.first].view(-1)[start * form.bits // 8 : -(-stop * form.bits // 8)]
        return [(codes, scales[chunk.first][start // form.block : form.blocks(stop)], 0, stop - start)]


def _piece(state: object) -> Tensor | None:
    return local(state.detach()) if isinstance(state, Tensor) else None
