"""The check of decay rates of averages."""

from __future__ import annotations

from typing import Any

from sooner.error import SoonerError
from sooner.part import check_range

_NOT = {2: "is not a pair", 3: "are not three"}


def check_betas(part: str, betas: Any, count: int, what: str, name: str = "betas") -> None:
    """Refuse decay rates that are not so many numbers in [0, 1).

    Args:
        part: name of the part, for the message.
        betas: as given.
        count: how many there have to be, 2 or 3.
        what: what is to be given instead, in words and with an example.
        name: of the hyper-parameter.

    Raises:
        SoonerError: names the part and the value.
    """
    if not isinstance(betas, tuple | list) or len(betas) != count:
        raise SoonerError(f"{part}: {name}={betas!r} {_NOT[count]}; give {what}")
    for i, beta in enumerate(betas):
        check_range(part, f"{name}[{i}]", beta, 0.0, 1.0, open_high=True)
