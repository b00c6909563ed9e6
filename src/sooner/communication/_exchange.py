"""One exchange of a vector: through a memory, a codec and a wire, with everything it has to remember."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sooner.communication._codec import Buffers, Codec, Moment, nan_unless_finite
from sooner.communication._flight import Flights
from sooner.communication._memory import Memory, NoMemory
from sooner.communication._wire import Wire
from sooner.communication.dense import Dense
from sooner.error import SoonerError
from sooner.foundation.layout import Layout


class Exchange:
    """Averages vectors of workers as well as its codec allows.

    Args:
        layout: of the vectors.
        wire: connects the workers.
        codec: what goes over the wire; None for the numbers as they are.
        memory: what to do about what is lost; None for nothing.

    Raises:
        SoonerError: there is nothing to exchange.
    """

    def __init__(self, layout: Layout, wire: Wire, codec: Codec | None = None, memory: Memory | None = None) -> None:
        if layout.size == 0:
            raise SoonerError("the parameters hold no numbers; pass a model that has something to train")
        self.layout, self.wire = layout, wire
        self.codec, self.memory = codec or Dense(), memory or NoMemory()
        self.flights = Flights(wire, layout, self.codec, self.memory)
        """Averages that nobody waits for yet."""
        self.steps = 0
        self.state: dict[str, Buffers] = {}
        self.lost: Tensor | None = None
        """Share of the last vector that was not sent, ``||v - sent|| / ||v||``, a 0-d tensor (mean over workers)."""

    @torch.no_grad()
    def __call__(self, g: Tensor, active: Tensor | None = None) -> Tensor:
        """Return the update (d,) that all workers get for their vectors.

        A NaN or infinity in one worker's vector reaches the update of all of them, for their optimizers to decide what
        to do about it, and leaves what codec and memory remember as it was.

        Args:
            g: (..., d); in a simulation (n, d), or (m, d) of the active workers.
            active: (m,) numbers of the workers that take part, in a simulation; None for all.

        Raises:
            SoonerError: the vectors are not those of these workers, or nobody takes part.
        """
        self._check(g, active)
        asked = g.dtype
        g = g.to(torch.promote_types(asked, torch.float32)).contiguous()
        if not self.state:
            self._begin(g)
        self.steps += 1
        begun, waited = time.perf_counter(), self.wire.traffic.wait_seconds
        moment = Moment(self.steps, self.layout, self.wire.size)
        memory, own = self._rows(active), self.state["codec"]
        before = dict(memory), dict(own)
        v = self.memory.outgoing(g, memory, moment)
        codec = Dense() if self.memory.opens_dense and self.steps == 1 else self.codec
        if not codec.passes_nan:
            spoilt = nan_unless_finite(v)
            v = v + spoilt if v is g else v.add_(spoilt)
        try:
            made = codec.send(v, self.wire, own, moment)
        except SoonerError:  # a worker can't go on: what is remembered stays as it was before
            self.steps -= 1
            self.state = {"memory": before[0] if active is None else self.state["memory"], "codec": before[1]}
            raise
        self.memory.sent(g, v, made.own, memory, moment)
        share = 1.0 if active is None else len(active) / self.wire.size
        update = self.memory.incoming(made.mean, memory, share)
        finite = torch.isfinite(made.mean.sum())
        _keep_if(finite, memory, before[0])
        _keep_if(finite, own, before[1])
        self._keep(memory, active)
        scratch = None if any(t is made.own for t in memory.values()) else made.own
        self.lost = _lost(v, made.own, scratch)
        passed, asleep = time.perf_counter() - begun, self.wire.traffic.wait_seconds - waited
        self.wire.traffic.encode_seconds += passed - asleep
        return update.to(asked)

    @torch.no_grad()
    def in_place(self, g: Tensor) -> Tensor:
        """Return what calling this returns; ``g`` (d,) of a process is overwritten where that saves a copy."""
        if type(self.codec) is not Dense or type(self.memory) is not NoMemory or self.wire.lead:
            return self(g)
        mean = self.wire.mean_in_place(g)
        self.steps += 1
        self.lost = g.new_zeros(())
        return mean

    @torch.no_grad()
    def follow(self, layout: Layout, like: Tensor) -> None:
        """Go on with another layout, or on another device: what is remembered goes along by the parameters' names.

        Args:
            layout: from now on; what it has and the layout before had not begins at zero.
            like: a vector (d,) of it.
        """
        before, same = self.layout, layout.shapes == self.layout.shapes
        self.flights.follow(layout, like)
        self.layout = layout
        if not self.state:
            return
        kind = torch.promote_types(like.dtype, torch.float32)
        memory = {n: v.to(like.device, kind) for n, v in self.state["memory"].items()}
        fresh = self.codec.buffers(layout, torch.empty(0, dtype=kind, device=like.device))
        kept = {n: v for n, v in self.state["codec"].items() if same or v.ndim == 0}  # factors fit one layout only
        self.state = {
            "memory": memory if same else {n: layout.taken_from(before, v) for n, v in memory.items()},
            "codec": {n: kept[n].to(v.device, v.dtype) if n in kept else v for n, v in fresh.items()},
        }

    def _check(self, g: Tensor, active: Tensor | None) -> None:
        workers = self.wire.lead if active is None else (len(active),)
        if active is not None and not (self.wire.lead and 0 < len(active) <= self.wire.size):
            raise SoonerError(
                f"{len(active)} of {self.wire.size} workers can't take part in an exchange; name at least one of a "
                "simulation, or leave the choice out where every worker is a process"
            )
        if not g.is_floating_point() or g.shape != (*workers, self.layout.size):
            raise SoonerError(
                f"an exchange of {tuple(g.shape)} numbers ({g.dtype}) does not fit; pass floating-point numbers, "
                f"{(*workers, self.layout.size)} of them, as the layout and the workers say"
            )

    def _begin(self, g: Tensor) -> None:
        own = {slot: g.new_zeros(*self.wire.lead, self.layout.size) for slot in self.memory.slots}
        shared = {slot: g.new_zeros(self.layout.size) for slot in self.memory.shared}
        self.state = {"memory": own | shared, "codec": self.codec.buffers(self.layout, g)}

    def _rows(self, active: Tensor | None) -> Buffers:
        state = self.state["memory"]
        if active is None:
            return state
        return {name: value[active] if name in self.memory.slots else value for name, value in state.items()}

    def _keep(self, memory: Buffers, active: Tensor | None) -> None:
        if active is None:
            return
        for name, value in memory.items():
            if name in self.memory.slots:
                self.state["memory"][name][active] = value
            else:
                self.state["memory"][name] = value

    def state_dict(self) -> dict[str, Any]:
        """Return what this worker (or all simulated ones) must keep to go on bit for bit."""
        flights = self.flights.state_dict()
        traffic = self.wire.traffic.state_dict()
        return {"steps": self.steps, "state": self.state, "flights": flights, "traffic": traffic}

    def load_state_dict(self, state: dict[str, Any], placed: Callable[[Tensor], Tensor] = Tensor.clone) -> None:
        """Load what `state_dict` returned.

        Args:
            state: what it returned.
            placed: returns a copy of a tensor, in the order of this layout where it was saved in that of another.

        Raises:
            SoonerError: it belongs to another model, codec or memory.
        """
        sizes = {value.shape[-1] for value in state["state"].get("memory", {}).values()}
        names = set(state["state"].get("memory", ()))
        expected = {*self.memory.slots, *self.memory.shared}
        if state["state"] and (sizes - {self.layout.size} or names != expected):
            raise SoonerError(
                f"the state is for {sorted(names)} of {sorted(sizes)} numbers, this exchange keeps {sorted(expected)} "
                f"of {self.layout.size}; load it into the recipe and the model that saved it"
            )
        theirs = {name: tuple(value.shape) for name, value in state["state"].get("codec", {}).items()}
        ours = {name: tuple(b.shape) for name, b in self.codec.buffers(self.layout, torch.zeros(())).items()}
        if state["state"] and theirs != ours:
            raise SoonerError(
                f"the state holds {theirs or 'nothing'} of a codec, {type(self.codec).__name__} keeps "
                f"{ours or 'nothing'}; load it into the recipe and the model that saved it"
            )
        self.steps = state["steps"]
        self.state = {kind: {k: placed(v) for k, v in one.items()} for kind, one in state["state"].items()}
        self.flights.load_state_dict(state["flights"])
        self.wire.traffic.load_state_dict(state["traffic"])


def _keep_if(finite: Tensor, state: Buffers, before: Buffers) -> None:
    """Take the new state where `finite` (0-d) says so, the one before elsewhere, without asking the device."""
    for name, old in before.items():
        if state[name] is not old:
            state[name] = torch.where(finite, state[name], old, out=old)


def _lost(v: Tensor, own: Tensor, scratch: Tensor | None) -> Tensor:
    if own is v:
        return v.new_zeros(())
    norm = torch.linalg.vector_norm
    return torch.mean(norm(torch.sub(v, own, out=scratch), dim=-1) / norm(v, dim=-1).clamp(min=1e-30))
