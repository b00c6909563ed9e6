"""Numbers as people read them: significant digits, "mean ± deviation", ratios, chances, dates."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

EMPTY = "–"


def plain(text: object) -> str:
    """Return `text` on one line, without control characters: names come from users and go to terminals and plots."""
    return "".join(character if character.isprintable() else " " for character in str(text))


def number(value: object, digits: int = 3) -> str:
    """Return a setting or a measurement with `digits` significant digits; anything that is no float as it stands."""
    if value is None:
        return EMPTY
    if isinstance(value, list | tuple):
        return "(" + ", ".join(number(item, digits) for item in value) + ")"
    if not isinstance(value, float):
        return plain(value)
    if not math.isfinite(value):
        return str(value)
    rounded = float(f"{value:.{digits}g}")
    if rounded == 0:
        return "0"
    if 1e-4 <= abs(rounded) < 1e6:
        return f"{rounded:.10f}".rstrip("0").rstrip(".")
    return f"{rounded:g}"


def count(value: int | None) -> str:
    """Return a whole number with commas between thousands."""
    return EMPTY if value is None else f"{value:,}"


def plus_minus(mean: float | None, deviation: float | None) -> str:
    """Return "1.8123 ± 0.0042": the deviation with two significant digits, the mean with as many decimals."""
    if mean is None:
        return EMPTY
    if deviation is None or deviation <= 0 or abs(mean) >= 1e6 or deviation < 1e-6:
        return number(float(mean), 4) + ("" if deviation is None else f" ± {number(float(deviation), 2)}")
    decimals = max(0, 1 - math.floor(math.log10(deviation)))
    return f"{mean:.{decimals}f} ± {deviation:.{decimals}f}"


def ratio(value: float | None) -> str:
    """Return a ratio without its unit: two decimals near 1, two significant digits when small.

    None (infinite: the contender never arrives) reads "never", and 0 (the baseline never arrives) "only it".
    """
    if value is None:
        return "never"
    if value <= 0:
        return "only it"
    if value < 0.1:
        return number(float(value), 2)
    return f"{value:.2f}" if value < 10 else number(float(value), 3)


def byte_size(value: float | None) -> str:
    """Return "1.2 MB", in powers of 1000 as networks count."""
    if value is None:
        return EMPTY
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{number(value / factor)} {unit}"
    return f"{number(float(value))} B"


def times(value: float | None) -> str:
    """Return "0.56x"; an infinite ratio, None, reads "never", and one of 0 "only it"."""
    return ratio(value) + ("x" if value else "")


def interval(low: float | None, high: float | None) -> str:
    """Return "[0.50, 0.62]"; an infinite end reads "never", an end at 0 "only it"."""
    return f"[{ratio(low)}, {ratio(high)}]"


def unknown(measured: Mapping[str, Any]) -> bool:
    """Say whether a ratio could be anything, from 0 to infinity: both sides missed the target."""
    return measured.get("ratio") is None and measured.get("low") == 0 and measured.get("high") is None


def ratio_interval(measured: Mapping[str, Any], who: str = "it", baseline_hits: int | None = None) -> str:
    """Return "0.56x [0.50, 0.62]" from the keys ratio, low and high, or in words who arrives where one side does not.

    Args:
        measured: the ratio; with `hits` and `of`, how many seeds reached the target, the words count them.
        who: a short name of the contender.
        baseline_hits: how many of the same seeds the baseline reached the target in.
    """
    value, low, high = measured.get("ratio"), measured.get("low"), measured.get("high")
    if value:
        return f"{times(value)} {interval(low, high)}"
    hits, of = measured.get("hits"), measured.get("of")
    counts = "" if baseline_hits is None or not of else f" ({hits} of {of}, baseline {baseline_hits} of {of})"
    if value is not None:
        return f"only {who} arrives{counts}"
    if counts and hits:
        return f"too few arrive{counts}"
    if unknown(measured):
        return f"neither arrives{counts}" if counts and not baseline_hits else "unknown"
    return "never" if low is None or counts else f"never {interval(low, high)}"


def chance(p: float | None) -> str:
    """Return a p-value with two significant digits; below 0.001 only that it is."""
    if p is None:
        return EMPTY
    return "<0.001" if p < 0.001 else number(float(p), 2)


def size(mebibytes: float | None) -> str:
    """Return an amount of memory, given in MiB, in MiB or GiB."""
    if mebibytes is None:
        return EMPTY
    if mebibytes >= 10240:
        return f"{number(mebibytes / 1024, 3)} GiB"
    return f"{number(float(mebibytes), 3 if mebibytes < 1000 else 4)} MiB"


def settings(values: Mapping[str, object] | None) -> str:
    """Return "lr=0.003, weight_decay=0.1"."""
    return ", ".join(f"{plain(name)}={number(value)}" for name, value in (values or {}).items()) or EMPTY


def date(iso: str | None) -> str:
    """Return an ISO 8601 date as "2026-08-05 14:03 UTC"; text that is none as it stands."""
    try:
        moment = datetime.fromisoformat(iso or "")
    except ValueError:
        return plain(iso or EMPTY)
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".rstrip()


def duration(started: str | None, finished: str | None) -> str:
    """Return the time between two ISO 8601 dates as "3 h 12 min"."""
    try:
        seconds = round(
            (datetime.fromisoformat(finished or "") - datetime.fromisoformat(started or "")).total_seconds()
        )
    except (ValueError, TypeError):  # TypeError: one date names its time zone, the other does not
        return EMPTY
    hours, minutes = divmod(max(seconds, 0) // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{max(seconds, 0)} s"
