"""The gradients of a model in one flat vector, and back."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from sooner.communication import _meeting as meeting
from sooner.communication._exchange import Exchange
from sooner.communication._meeting import Meeting
from sooner.foundation.layout import Layout


class Gradients:
    """Averages gradients through an exchange, and leaves the averages in ``p.grad``.

    A parameter that any worker has a gradient of has their average on all of them, where a missing one counts as zero;
    one that none has a gradient of keeps none. Workers ask each other only when one of them has gradients of other
    parameters than at the step before, which they notice in the exchange itself.

    After the first average ``p.grad`` is a piece of the flat vector wherever type and strides allow that, so that
    nothing is copied back.

    Args:
        parameters: the model's, by name.
        layout: of the flat vector.
        exchange: averages it.
        look_every_step: ask at every step.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], layout: Layout, exchange: Exchange, look_every_step: bool
    ) -> None:
        self.exchange, self._look = exchange, look_every_step
        self._names, self._parameters = list(parameters), list(parameters.values())
        self.flat = torch.zeros(layout.size, dtype=wide(parameters), device=self._parameters[0].device)
        self._places = list(layout.views(self.flat).values())
        plain = [_fits(p, self.flat) for p in self._parameters]
        self._plain = plain
        self._present: list[bool] | None = None
        self.trained: frozenset[str] | None = None
        """Names of the parameters that some worker has a gradient of; None before anybody has looked."""
        self._left: list[weakref.ref[Tensor] | None] = []

    def average(self, meet: Meeting, wrong: tuple[int, int] | None, numbers: Sequence[int]) -> None:
        """Average the gradients that are there now.

        Args:
            meet: with the other workers.
            wrong: what keeps this worker from going on, if anything does.
            numbers: of the parameters among all of the model.

        Raises:
            SoonerError: on all workers: one of them can't go on.
        """
        gradients = [p.grad for p in self._parameters]
        present = [g is not None for g in gradients]
        for number, g in zip(numbers, gradients, strict=True):
            if g is not None and g.layout is not torch.strided:
                wrong = wrong or (meeting.SPARSE, number)
        meet.begin(meeting.AVERAGE, wrong=wrong, asks=self._look or present != self._present)
        if wrong is None:
            self._gather(gradients, present)
        mean = self.exchange.in_place(self.flat)
        meet.end()  # where there was nobody to wait for
        if mean is not self.flat:
            self.flat.copy_(mean)  # what the exchange remembers must not be clipped or scaled with the gradients
        if meet.asked:
            self._find(present)
        self._leave(gradients)

    def _gather(self, gradients: Sequence[Tensor | None], present: Sequence[bool]) -> None:
        if not all(present):  # codecs may have left something there
            torch._foreach_zero_([place for place, has in zip(self._places, present, strict=True) if not has])
        have = [g for g in gradients if g is not None]
        if have:
            torch._foreach_copy_([place for place, has in zip(self._places, present, strict=True) if has], have)

    def _find(self, present: list[bool]) -> None:
        """Find out which parameters have a gradient on any worker."""
        (anywhere,) = self.exchange.wire.mean((self.flat.new_tensor(present),))
        self.use(frozenset(n for n, share in zip(self._names, anywhere.tolist(), strict=True) if share > 0))
        self._present = present

    @property
    def present(self) -> list[str] | None:
        """Names of the parameters that this worker had a gradient of when the workers last looked; None before that."""
        return None if self._present is None else [n for n, has in zip(self._names, self._present, strict=True) if has]

    def use(self, trained: frozenset[str] | None, present: Collection[str] | None = None) -> None:
        """Take it that these parameters have gradients, until the workers look again.

        Args:
            trained: on any worker; None where nobody has looked.
            present: on this one; None for the workers to look at the next step.
        """
        self.trained = trained
        self._present = None if present is None else [n in present for n in self._names]
        if trained is None:
            return
        found = [
            (p, place, fits)
            for n, p, place, fits in zip(self._names, self._parameters, self._places, self._plain, strict=True)
            if n in trained
        ]
        self._viewed = [(p, place) for p, place, fits in found if fits]
        self._copied = [(p, place) for p, place, fits in found if not fits]

    def _leave(self, gradients: Sequence[Tensor | None]) -> None:
        """Put the averages where the gradients are."""
        for p, place in self._viewed:
            p.grad = place
        for p, _ in self._copied:
            kind = _grad_dtype(p) or self.flat.dtype
            if p.grad is None or p.grad.dtype != kind:  # the same type on all workers, whatever some have
                p.grad = torch.empty_like(p, dtype=kind)
        if self._copied:
            own: list[Tensor] = [p.grad for p, _ in self._copied]  # type: ignore[misc]  # just made, where there was none
            torch._foreach_copy_(own, [place for _, place in self._copied])

    def note(self) -> None:
        """Remember which tensors the averages are in, for `untouched`."""
        self._left = [None if p.grad is None else weakref.ref(p.grad) for p in self._parameters]

    def untouched(self) -> bool:
        """Whether the gradients are still those of the last `note`, changed in place or not at all."""
        if len(self._left) != len(self._parameters):
            return False
        left = (None if ref is None else ref() for ref in self._left)
        return all(p.grad is one for p, one in zip(self._parameters, left, strict=True))


def wide(parameters: Mapping[str, Tensor]) -> torch.dtype:
    """Return the type in which numbers of these types, and their gradients, are averaged."""
    kinds = [kind for p in parameters.values() for kind in (p.dtype, _grad_dtype(p)) if kind is not None]
    return functools.reduce(torch.promote_types, kinds, torch.float32)


def _grad_dtype(p: Tensor) -> torch.dtype | None:
    """Return the type that the parameter's gradient must have; None for any."""
    return getattr(p, "grad_dtype", p.dtype)  # torch before 2.10 knows one type only


def _fits(p: Tensor, flat: Tensor) -> bool:
    """Whether a piece of the flat vector can be the parameter's gradient."""
    return p.is_contiguous() and _grad_dtype(p) in (None, flat.dtype)
