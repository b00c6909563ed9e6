"""Numbers as the commands read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter, Token

from sooner.error import SoonerError


def _whole(_: type, tokens: Sequence[Token]) -> int:
    """Read a whole number; left to itself, cyclopts would round 8.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


Whole = Annotated[int, Parameter(converter=_whole)]


def numbers(option: str, text: str, example: str) -> list[float]:
    """Return a list of positive numbers as typed.

    Raises:
        SoonerError: it is none; names the option and an example.
    """
    try:
        found = [float(piece) for piece in text.replace(",", " ").split()]
    except ValueError:
        found = []
    if not found or not all(0 < one < math.inf for one in found):
        raise SoonerError(f"{option} {text!r} is not a list of positive numbers; write it like {example}")
    return found
