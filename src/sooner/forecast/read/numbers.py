"""Numbers as people write them: 1,234.5 and 1.234,5 and 1e-3."""

from __future__ import annotations

import re
from collections.abc import Iterable

_GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")


def is_number(text: str) -> bool:
    """Return whether a text is a number without commas."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def commas_are_decimal(texts: Iterable[str], likely: bool) -> bool:
    """Return whether the commas in a file's numbers part units from fractions, and not thousands from hundreds.

    Args:
        texts: cells of its columns of numbers.
        likely: where every comma may be either, as in 3,212: true in files whose cells other marks part.
    """
    points = False
    for text in texts:
        if "," not in text:
            points |= "." in text
        elif not _GROUPED.fullmatch(text):
            return True
        elif "." in text:
            return False
        else:
            likely &= text.count(",") == 1
    return likely and not points


def number(text: str, decimal_comma: bool) -> float:
    """Return the number that a text means, NaN for an empty one.

    Raises:
        ValueError: it means none.
    """
    if not text:
        return float("nan")
    if "," not in text:
        return float(text)
    if decimal_comma:
        return float(text.replace(".", "").replace(",", "."))
    if not _GROUPED.fullmatch(text):
        raise ValueError(text)
    return float(text.replace(",", ""))
