"""Averages that are under way while training goes on: launched by name, landed later, kept in state files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sooner.communication._codec import Codec, Moment, nan_unless_finite
from sooner.communication._half import Half, next_scale
from sooner.communication._memory import Memory, NoMemory
from sooner.communication._wire import Flight, Wire
from sooner.communication.dense import Dense
from sooner.error import SoonerError
from sooner.foundation.layout import Layout


@dataclass
class _Away:
    flight: Flight
    scale: Tensor | None
    size: int


class Flights:
    """What a worker has sent off and not yet received, by name.

    In half precision every name has a scale of its own, the largest number of its mean before.

    Args:
        wire: connects the workers.
        layout: of the model.
        codec: what goes over the wire.
        memory: of the recipe.
    """

    def __init__(self, wire: Wire, layout: Layout, codec: Codec, memory: Memory) -> None:
        self.wire, self.codec, self.memory = wire, codec, memory
        self._moment = Moment(1, layout, wire.size)
        self._away: dict[str, _Away] = {}
        self._scales: dict[str, Tensor] = {}

    def check(self, who: str) -> None:
        """Refuse what can't be averaged in the background of `who`.

        Raises:
            SoonerError: the codec is not dense, fp16 or bf16, or there is a memory.
        """
        what = self.codec if not isinstance(self.codec, Dense | Half) else self.memory
        if not isinstance(what, Dense | Half | NoMemory):
            raise SoonerError(
                f"{type(what).__name__} can't go with {who}, which averages while training goes on; use dense, fp16 or "
                "bf16, without a memory"
            )

    def __contains__(self, name: str) -> bool:
        """Say whether `name` is under way."""
        return name in self._away

    def launch(self, name: str, v: Tensor) -> None:
        """Begin to average ``v`` (..., *), which may be changed from now on."""
        scale = None
        if isinstance(self.codec, Half):
            scale = self._scales.get(name, torch.ones((), device=v.device)).to(v.dtype)
            (v,) = self.codec.encode(v / (scale + nan_unless_finite(v)), self._moment)
        self._away[name] = _Away(self.wire.launch(v), scale, v.shape[-1])

    def land(self, name: str) -> Tensor:
        """Wait for `name` and return its mean (*)."""
        away = self._away.pop(name)
        mean = away.flight.wait()
        if away.scale is None:
            return mean
        mean = self.codec.decode((mean,), self._moment).to(away.scale.dtype) * away.scale
        self._scales[name] = next_scale(mean, away.scale)
        return mean

    def pieces(self) -> list[str]:
        """Return the names of what is under way that is not a whole vector of the layout."""
        return [name for name, away in self._away.items() if away.size != self._moment.layout.size]

    def follow(self, layout: Layout, like: Tensor) -> None:
        """Go on with another layout, or on another device, from what is under way; `pieces` fit theirs only."""
        before, self._moment = self._moment.layout, Moment(1, layout, self._moment.workers)
        self._scales = {name: scale.to(like.device) for name, scale in self._scales.items()}
        for name, away in self._away.items():
            mean = away.flight.wait().to(like.device)
            if layout.shapes != before.shapes:
                mean = layout.taken_from(before, mean)
            scale = None if away.scale is None else away.scale.to(like.device)
            self._away[name] = _Away(Flight(mean), scale, mean.shape[-1])

    def state_dict(self) -> dict[str, Any]:
        """Wait for everything under way and return it, with the scales."""
        away = {name: (one.flight.wait(), one.scale) for name, one in self._away.items()}
        return {"away": away, "scales": dict(self._scales)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._away = {
            name: _Away(Flight(mean.clone()), scale, mean.shape[-1]) for name, (mean, scale) in state["away"].items()
        }
        self._scales = {name: scale.clone() for name, scale in state["scales"].items()}
