"""Numbers as people write them: 1,234.5 and 1.234,5, 1e-3, 1_000, 125M, 51 %, and ways to write that there is none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")
_POINTS = re.compile(r"[-+]?\d{1,3}(\.\d{3})+(,\d*)?")
_WRITTEN = re.compile(
    r"(?P<digits>[-+]?(?:\d[\d.,]*|\.\d+)(?:[eE][-+]?\d+)?)(?:\s?(?P<suffix>[kKMmBbGTt]|thousand|million|billion|trillion)|\s?%|\s*(?:±|\+/-).*)?"
)
SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
"""What a letter behind a number, or alone in the brackets of a heading, multiplies it by."""
MISSING = frozenset(("", "none", "null", "n/a", "na", "-", "--", "—", "_", "?", "<na>", "#n/a", "missing"))
"""Texts, in lower case, that say that nothing was measured."""
_NOT_FINITE = re.compile(r"[-+]?(?:nan|inf|infinity)", re.IGNORECASE)


def is_missing(cell: object) -> bool:
    """Return whether a cell says that nothing was measured; NaN is a value that was."""
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in MISSING)


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
        elif not _GROUPED.fullmatch(text) or text.lstrip("+-").startswith("0,"):
            return True
        elif "." in text:
            return False
        else:
            likely &= text.count(",") == 1
    return likely and not points


def number(text: str, decimal_comma: bool) -> float:
    """Return the number that a text means, NaN for one of `MISSING`; of "51 %" it is 51, of "125M" 125e6.

    Raises:
        ValueError: it means none.
    """
    text = text.strip(" \t*`'\"")
    if text.lower() in MISSING:
        return float("nan")
    try:
        return float(text)  # by far the most
    except ValueError:
        pass
    if text.count("'") or "\u2009" in text or "\u00a0" in text or "\u202f" in text:
        text = re.sub(r"(?<=\d)['\u2009\u00a0\u202f](?=\d{3})", "", text)
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError(text)
    digits, factor = found["digits"], SUFFIXES[found["suffix"][0].lower()] if found["suffix"] else 1.0
    if decimal_comma:
        digits = digits.replace(".", "") if "," in digits or _POINTS.fullmatch(digits) else digits
        return float(digits.replace(",", ".")) * factor
    if "," in digits and not _GROUPED.fullmatch(digits):
        raise ValueError(text)
    return float(digits.replace(",", "")) * factor


def decimals(text: str) -> int:
    """Return how many digits stand behind the point or comma of a number."""
    found = re.fullmatch(r"[-+]?\d*[.,]?(\d*)(?:[eE].*)?", text.strip())
    return len(found[1]) if found and re.search(r"[.,]", text) else 0


def is_cut(text: str, others: Sequence[str], *, exponent: bool = False) -> bool:
    """Return whether a number has fewer decimals, or a shorter exponent, than any of the others.

    Args:
        text: the number.
        others: at least one.
        exponent: whether only the exponent counts, as of a learning rate, which may end as a plain 0.
    """

    def digits(one: str) -> int:
        return len(one.lower().partition("e")[2])

    short = digits(text) < min(map(digits, others)) and text.strip("0.") != ""
    return short or (not exponent and decimals(text) < min(map(decimals, others)))


def looks_numeric(text: str) -> bool:
    """Return whether a cell holds a number in any way of writing, or says that there is none."""
    text = text.strip(" \t*`'\"")
    return text.lower() in MISSING or _NOT_FINITE.fullmatch(text) is not None or _WRITTEN.fullmatch(text) is not None
