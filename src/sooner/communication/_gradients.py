"""The gradients of a model in one flat vector, and back."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

from sooner.communication._exchange import Exchange
from sooner.error import SoonerError
from sooner.layout import Layout


class Gradients:
    """Averages gradients through an exchange, and leaves the averages in ``p.grad``.

    After the first average ``p.grad`` is a piece of the flat vector wherever type and strides allow that, so that
    nothing is copied back.

    Args:
        parameters: the model's, by name.
        layout: of the flat vector.
        exchange: averages it.
        look_every_step: ask at every step, not just at the first, which parameters have a gradient on any worker.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], layout: Layout, exchange: Exchange, look_every_step: bool
    ) -> None:
        self.exchange, self._look = exchange, look_every_step
        self._named = dict(parameters)
        first = next(iter(parameters.values()))
        self._flat = torch.zeros(layout.size, dtype=wide(parameters), device=first.device)
        self._places = layout.views(self._flat)
        self.trained: frozenset[str] | None = None
        """Names of the parameters that some worker has a gradient of; None before anybody has looked."""

    def average(self) -> None:
        """Average the gradients that are there now.

        Raises:
            SoonerError: a parameter that had no gradient on any worker at the first step has one now.
        """
        if self.trained is None or self._look:
            self._find()
        if any(p.grad is not None for p in self._untrained):
            self._refuse()
        if self._unsent:
            torch._foreach_zero_(self._unsent)  # codecs may have left something there
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        into = self._into
        if len(gradients) < len(into):
            absent = [place for p, place in zip(self._parameters, into, strict=True) if p.grad is None]
            torch._foreach_zero_(absent)
            into = [place for p, place in zip(self._parameters, into, strict=True) if p.grad is not None]
        if gradients:
            torch._foreach_copy_(into, gradients)
        mean = self.exchange.in_place(self._flat)
        if mean is not self._flat:
            self._flat.copy_(mean)  # what the exchange remembers must not be clipped or scaled with the gradients
        for p, place in self._viewed:
            p.grad = place
        for p, place in self._copied:
            p.grad = torch.empty_like(p) if p.grad is None else p.grad
            p.grad.copy_(place)

    def _find(self) -> None:
        """Find out which parameters have a gradient on any worker, and make the lists that every step needs."""
        sparse = [n for n, p in self._named.items() if p.grad is not None and p.grad.layout != torch.strided]
        if sparse:
            raise SoonerError(f"the gradient of {sparse[0]} is sparse, and averages are dense; pass sparse=False there")
        here = self._flat.new_tensor([p.grad is not None for p in self._named.values()])
        (anywhere,) = self.exchange.wire.mean((here,))
        self.use(frozenset(n for n, share in zip(self._named, anywhere.tolist(), strict=True) if share > 0))

    def use(self, trained: frozenset[str] | None) -> None:
        """Take it that these parameters have gradients."""
        if trained == self.trained:
            return
        self.trained = trained
        if trained is None:
            return
        self._parameters = [p for n, p in self._named.items() if n in trained]
        self._untrained = [p for n, p in self._named.items() if n not in trained]
        self._into = [self._places[n] for n in self._named if n in trained]
        pairs = list(zip(self._parameters, self._into, strict=True))
        plain = [p.dtype == self._flat.dtype and p.is_contiguous() for p in self._parameters]
        self._viewed = [pair for pair, fits in zip(pairs, plain, strict=True) if fits]
        self._copied = [pair for pair, fits in zip(pairs, plain, strict=True) if not fits]
        self._unsent = [self._places[n] for n in self._named if n not in trained]

    def _refuse(self) -> None:
        late = next(n for n, p in self._named.items() if p.grad is not None and n not in (self.trained or ()))
        raise SoonerError(
            f"parameter {late} has a gradient now, and had none on any worker at the first step, so that the others do "
            "not wait for it; pass look_every_step=True where parameters are used at some steps only"
        )


def wide(parameters: Mapping[str, Tensor]) -> torch.dtype:
    """Return the type in which numbers of these types are averaged."""
    return functools.reduce(torch.promote_types, (p.dtype for p in parameters.values()), torch.float32)
