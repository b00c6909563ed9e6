"""The check of rules with three averages."""

from __future__ import annotations

from typing import Any

from sooner.error import SoonerError
from sooner.part import check_range


def check_three_betas(part: str, betas: Any, what: str) -> None:
    """Refuse decay rates that are not three numbers in [0, 1).

    Args:
        part: name of the part, for the message.
        betas: as given.
        what: what is to be given instead, in words and with an example.

    Raises:
        SoonerError: names the part and the value.
    """
    if not isinstance(betas, tuple | list) or len(betas) != 3:
        raise SoonerError(f"{part}: betas={betas!r} are not three; give {what}")
    for i, beta in enumerate(betas):
        check_range(part, f"betas[{i}]", beta, 0.0, 1.0, open_high=True)
