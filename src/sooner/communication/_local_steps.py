"""A local part on the optimizers of a real worker: around every step, one flat vector at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from sooner.communication._codec import Buffers
from sooner.communication._flat import Flat
from sooner.communication._local import Local, Place
from sooner.error import SoonerError


class LocalSteps:
    """Gives a worker's optimizers the local part's gradients, and changes the moves that they make.

    Args:
        local: the part.
        flat: the model's weights.

    Raises:
        SoonerError: the part needs gradients elsewhere, or what other workers keep.
    """

    def __init__(self, local: Local, flat: Flat) -> None:
        if local.passes > 1 or type(local).correction is not Local.correction:
            raise SoonerError(
                f"{local.name()} needs more than one gradient of a batch, or what all workers keep, which only a "
                "simulated cluster has: race it with --workers, or leave it out"
            )
        self.local, self._flat = local, flat
        self._moves = type(local).step is not Local.step
        self._place: Place | None = None
        first = flat.read()
        self.state: Buffers = {slot: torch.zeros_like(first) for slot in local.slots}
        self.state |= {number: first.new_zeros(1) for number in local.numbers}
        local.window_begins(torch.zeros_like(first), self.state)

    def before(self, anchor: Tensor) -> None:
        """Replace the gradients by what the optimizers get; `anchor` is where the window began."""
        weights, gradient = self._flat.read(), torch.zeros_like(anchor)
        have = [n for n, p in self._flat.parameters.items() if p.grad is not None]
        into = self._flat.layout.views(gradient)
        if have:
            torch._foreach_copy_([into[n] for n in have], [self._gradient(n) for n in have])
        self._place = Place(weights, anchor, gradient, _nowhere, self.state)
        found = self._flat.layout.views(self.local.direction(self._place))
        if have:
            torch._foreach_copy_([self._gradient(n) for n in have], [found[n] for n in have])

    def after(self) -> Tensor | None:
        """Return the weights to take in place of those that the optimizers have made; None for theirs."""
        place, self._place = self._place, None
        if place is None or not self._moves:
            return None
        return place.weights + self.local.step(self._flat.read() - place.weights, place)

    def next_window(self, begun: Tensor, arrived: Tensor, begins: Tensor) -> None:
        """Note that the window begun here has arrived there, and where the next one begins."""
        self.local.window_ended(begun, arrived, self.state)
        self.local.window_begins(begins - begun, self.state)

    def _gradient(self, name: str) -> Tensor:
        found = self._flat.parameters[name].grad
        assert found is not None
        return found


def _nowhere(weights: Tensor) -> Tensor:
    raise SoonerError("a worker's step has the gradient of one place only; use this part in a simulated cluster")
