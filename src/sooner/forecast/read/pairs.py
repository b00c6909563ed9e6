"""The grammar of a line of a log: numbers, and the name in front of each, in any order and with any marks between.

    line   = { text  name  mark  number }
    name   = words behind the last of | , ; ] and two spaces
    mark   = : = # ( [ quotes or a space
    number = 1,234.5 or 1e-3 or 10k or nan or 12/400 (of how many)

Colours, dates and times, and the place in a program's source are no part of a line. What a name means is `names`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sooner.forecast.read.names import TRAINING, meaning, split_of, words_of
from sooner.forecast.numbers import MISSING

OF_TOTAL = "n/total"
"""The name of a number such as 12/400 or [12/400] that has none."""
IN_FRONT = "number in front"
"""The name of a number that begins a line and has none."""
RANK = "rank"

_NOISE = re.compile(
    r"""\x1b\[[0-9;?]*[A-Za-z] | \x1b\][^\x07]*\x07 | \x00 | [^\n]\x08  # colours, titles, holes, what was rubbed out
    """,
    re.VERBOSE,
)
_STAMPS = re.compile(
    r"""
    \b\d{4}[-/]\d\d?[-/]\d\d?(?:[T ]\s?\d\d?:\d\d(?::\d\d)?(?:[.,]\d+)?)?(?:Z|\s?[-+]\d\d:?\d\d)?
    | \b\d\d?[-/]\d\d?(?:[-/]\d{2,4})?\s+\d\d?:\d\d(?::\d\d)?(?:[.,]\d+)?
    | \b[IWEF]\d{4}\ \d\d:\d\d:\d\d\.\d+\s+\d+\ [\w./]+:\d+\]
    | (?<![\w.:])\d+\ days?,\ | (?<![\w.:])\d{1,3}:\d\d(?::\d\d)?(?:[.,]\d+)?(?![\w:])
    | [\w./<>-]+\.(?:py|cpp|cc|c|cu|h|hpp|go|rs|java|jl):\d+(?::\w+)?
    | \b(?:py|cpp|cc)\#\d+
    """,
    re.VERBOSE,
)
_NUMBER = re.compile(
    r"""
    (?<![\w.@])
    (?:(?<![\w)\]])[-+])?
    (?:
        (?P<word>nan|inf|infinity|n/a|none|null)(?![\w/])
      | (?:\d[\d_]*(?:[.,']\d+)*\.?|\.\d+)(?:[eE][-+]?\d+)?
        (?:(?P<suffix>[kKMBT])(?![A-Za-z/])|(?P<unit>%|[A-Za-zµ]+(?:/[A-Za-z]+)*)?)
        (?![\w])
    )
    (?P<of>\s*/\s*(?P<total>\d[\d_,.]*[kKM]?)(?![\w:]))?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PARTS = re.compile(r"\s[|–—-]\s|[|,;\t\]}]|\s{2,}|:\s|\.\s")
_FRONT = " \t)%]}.\"'*-–—"
_BACK = " \t:=#~<>≈@\"'([{*-"
_BEHIND = re.compile(r"^\s*(?:[A-Za-zµ]+/[A-Za-z]+|[smh]|ms|secs?|seconds|mins?|[KMGT]i?B|it|its)(?=\s)", re.IGNORECASE)
"""A unit behind a number, with a space between."""
_CAST = re.compile(r"(?:tensor|(?:np|numpy|torch)\.\w+|float|array)\s*\(\[?$")
_AT = re.compile(r"^(?P<what>.*?)\s+(?:at|after|for|on|in|@)\s+(?P<axis>.+)$", re.IGNORECASE)
_RANK = re.compile(r"\[?\brank[\s:=]*(\d+)\b\]?", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """A number of a line and its name.

    Args:
        name: as it is written, with the split in front where the line says it elsewhere.
        text: the number as it is written.
        total: what it is a part of, as in 12/400.
    """

    name: str
    text: str
    total: str | None = None


def tidy(line: str) -> str:
    """Return a line without colours, holes, and what was rubbed out."""
    if "\x1b" in line or "\x00" in line or "\x08" in line:
        line = _NOISE.sub("", line)
    return line


def pairs(line: str) -> Iterator[Pair]:
    """Yield the numbers of a tidy line that have a name, the first one that stands in front, and those of a total."""
    line = _STAMPS.sub(" | ", line)
    if rank := _RANK.search(line):
        yield Pair(RANK, rank[1])
        line = f"{line[: rank.start()]} | {line[rank.end() :]}"
    end, context, waiting, first = 0, "", "", True
    for found in _NUMBER.finditer(line):
        between = line[end : found.start()]
        before, name = _name(between)
        if found["word"] is not None and meaning(name or waiting) is None:
            continue
        end = found.end()
        context = _context(context, before)
        text = found[0][: len(found[0]) - len(found["of"] or "") - (0 if found["suffix"] else len(found["unit"] or ""))]
        text = text.rstrip(".")
        percent = "%" if found["unit"] == "%" or line[end : end + 1] == "%" else ""
        alone = not name and first and not between.strip(" \t[(|#:*")
        first = False
        if len(name) == 1 and not between.rstrip(" \t").endswith((":", "=")):
            name = ""  # the s of "12.5 s 300 tok/s" is a unit
        if not name and waiting:
            name = waiting
        if not name:
            if found["total"] and not found["unit"]:
                yield Pair(OF_TOTAL, text, found["total"])
            elif alone and not percent and not found["unit"] and not found["word"]:
                yield Pair(IN_FRONT, text)
            continue
        waiting = ""
        meant = meaning(name)
        if meant is not None and meant.column in ("step", "epoch"):
            context = _context(context, name)
            if (
                (parted := _AT.match(name))
                and (what := meaning(parted["what"]))
                and what.column not in ("step", "epoch")
            ):
                waiting = parted["what"]
        elif meant is not None and not meant.split and context not in ("", TRAINING):
            name = f"{context} {name}"
        if meant is not None and meant.column in ("accuracy", "error") and found["total"]:
            yield Pair(name, _share(text, found["total"]))
            continue
        if meant is None and found["total"]:
            yield Pair(OF_TOTAL, text, found["total"])
            continue
        yield Pair(name, text + percent, found["total"])


def _share(count: str, total: str) -> str:
    """Return the share that 9000/10000 is, and the text as it was where it is none."""
    try:
        return repr(float(count) / float(total))
    except (ValueError, ZeroDivisionError):
        return count


def _name(between: str) -> tuple[str, str]:
    """Return what stands in front of a name, and the name, of the text between two numbers."""
    text = _BEHIND.sub("", between).lstrip(_FRONT)
    while (bare := _CAST.sub("", text).rstrip(_BACK)) != text:
        text = bare
    if text.endswith((")", "|", ",", ";", "]", "}", "\t")) and not text.endswith(")"):
        return text, ""
    parts = [part.strip() for part in _PARTS.split(text)]
    name = parts[-1].strip(" \t\"'[({*#>") if parts else ""
    return " | ".join(parts[:-1]), "" if name.lower() in MISSING or not re.search(r"[^\W\d_]", name) else name[-80:]


def _context(known: str, text: str) -> str:
    """Return the split that a text says beside the names of numbers, the latest word of it counting."""
    for word in words_of(text):
        if split := split_of(word):
            known = split
    return known
