"""The error a person is meant to read: one sentence that names the value and the remedy."""

import difflib
from collections.abc import Iterable


class SoonerError(ValueError):
    """Bad input, told in one sentence. The command line prints it and exits with code 2, without a traceback."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the known name closest to `name`, or "" where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
