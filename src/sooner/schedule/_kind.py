"""Which of two families an optimizer belongs to, where a rule for learning rates depends on it."""

from __future__ import annotations

from typing import Literal

from torch.optim import Optimizer

from sooner.error import SoonerError, nearest
from sooner.foundation.unwrap import unwrapped

Kind = Literal["sgd", "adam"]
KINDS: tuple[Kind, ...] = ("sgd", "adam")


def kind_of(part: str, kind: str | None, optimizer: Optimizer) -> Kind:
    """Return `kind`, or where it is None the family of the optimizer's class.

    "sgd" for classes named SGD or derived from one, whose step is proportional to the gradient; "adam" for all others,
    which divide the gradient by some size of it.

    Raises:
        SoonerError: `kind` is neither None nor one of the two.
    """
    if kind is None:
        return "sgd" if any(c.__name__ == "SGD" for c in type(unwrapped(optimizer)).__mro__) else "adam"
    return checked(part, kind)


def checked(part: str, kind: object) -> Kind:
    """Return `kind` if it names a family.

    Raises:
        SoonerError: it does not.
    """
    for known in KINDS:
        if kind == known:
            return known
    raise SoonerError(
        f"{part}: kind={kind!r}{nearest(str(kind), KINDS)} is not 'sgd' (step proportional to the gradient) or 'adam'"
    )
