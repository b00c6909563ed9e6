"""What decoding asks of a model: to read tokens on top of those before, and to forget the last ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sooner.error import SoonerError


@runtime_checkable
class Reader(Protocol):
    """A language model in the middle of one text, usually with a cache of keys and values."""

    @property
    def length(self) -> int:
        """How many tokens it has read."""

    def read(self, tokens: Tensor) -> Tensor:
        """Read more tokens, int64 ``[n]``; return the logits of what follows each of them, ``[n, symbols]``."""

    def cut(self, length: int) -> None:
        """Forget all but the first `length` tokens."""


class Rereading:
    """A reader of any model without a cache: it reads the whole text again each time, which is exact and slow.

    Args:
        model: ``model(tokens [1, n]) -> logits [1, n, symbols]``.
    """

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        self.model = model
        self._tokens: Tensor | None = None

    @property
    def length(self) -> int:
        """How many tokens it has read."""
        return 0 if self._tokens is None else len(self._tokens)

    def read(self, tokens: Tensor) -> Tensor:
        """Read more tokens."""
        self._tokens = tokens if self._tokens is None else torch.cat([self._tokens, tokens])
        logits = self.model(self._tokens[None])
        if not isinstance(logits, Tensor) or logits.ndim != 3 or logits.shape[:2] != (1, self.length):
            shown = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise SoonerError(
                f"a model returned {shown} for tokens of shape {(1, self.length)}; return logits [1, n, symbols], or "
                "wrap it in an object with read(tokens) and cut(length)"
            )
        return logits[0, -len(tokens) :]

    def cut(self, length: int) -> None:
        """Forget all but the first tokens."""
        if self._tokens is not None:
            self._tokens = self._tokens[:length]


def reader_of(model: Reader | Callable[[Tensor], Tensor], name: str) -> Reader:
    """Return the model as a reader that has read nothing yet.

    Raises:
        SoonerError: it is a reader in the middle of a text, or neither a reader nor a model.
    """
    if not isinstance(model, nn.Module) and isinstance(model, Reader):
        if model.length:
            raise SoonerError(
                f"the {name} has already read {model.length} tokens; give a fresh reader, or cut(0) it first"
            )
        return model
    if not callable(model):
        raise SoonerError(
            f"the {name} is a {type(model).__name__}; give a model or an object with length, read and cut"
        )
    return Rereading(model)
