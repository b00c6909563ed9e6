"""What reaching a target is worth, in steps or in the time of the run: 20000, 90m, 12h, 3d."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sooner.error import SoonerError
from sooner.forecast.numbers import number

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Worth:
    """A number of steps, or of seconds.

    Args:
        text: as typed.
        value: the number.
        timed: whether it is in seconds.
    """

    text: str
    value: float
    timed: bool

    @classmethod
    def of(cls, text: str) -> Worth:
        """Read a worth as it is typed.

        Raises:
            SoonerError: the text is neither.
        """
        written = text.strip()
        unit = SECONDS.get(written[-1:])
        try:
            value = number(written if unit is None else written[:-1], decimal_comma=False)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise SoonerError(f"--worth is {text!r}; give steps, such as 20000, or time, such as 90m, 12h or 3d")
        return cls(text, value * (unit or 1.0), unit is not None)

    def steps(self, pace: float | None) -> float:
        """Return it in steps of a run that takes so many seconds for each.

        Raises:
            SoonerError: it is a time, and the pace is not known.
        """
        if not self.timed:
            return self.value
        if pace is None:
            raise SoonerError(
                f"--worth {self.text} is a time, and the files don't say how long a step takes; name the column of "
                "seconds since the start with --column seconds=HEADING, or give --worth in steps"
            )
        return self.value / pace
