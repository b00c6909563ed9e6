"""The grammar of a line of a log: numbers, and the name in front of each, in any order and with any marks between.

    line   = { text  name  mark  number }
    name   = words behind the last of | , ; ] and two spaces
    mark   = : = # ( [ quotes or a space
    number = 1,234.5 or 1e-3 or 10k or nan or 12/400 (of how many)

Colours, dates and times, and the place in a program's source are no part of a line. What a name means is `names`'.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from sooner.forecast.numbers import MISSING
from sooner.forecast.read.names import BARE, TRAINING, meaning, split_of, words_of

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
_BACK = " \t:：=#~<>≈@\"'([{*-"
_BEHIND = re.compile(r"^\s*(?:[A-Za-zµ]+/[A-Za-z]+|[smh]|ms|secs?|seconds|mins?|[KMGT]i?B|it|its)(?=\s)", re.IGNORECASE)
"""A unit behind a number, with a space between."""
_CAST = re.compile(r"(?:tensor|(?:np|numpy|torch)\.\w+|float|array)\s*\(\[?$")
_AT = re.compile(r"^(?P<what>.*?)\s+(?:at|after|for|on|in|@)\s+(?P<axis>.+)$", re.IGNORECASE)
_BRACKETS = re.compile(r"^\s*\[\s*(\d+)\s*,\s*(\d+)\s*\]")
"""Epoch and batch, as in [2,  4000] loss: 1.3."""
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


@dataclass(frozen=True)
class _Span:
    """Where a number of a line stands, and its name: lines that differ in digits only have the same."""

    name: str
    start: int
    end: int
    percent: str = ""
    total: tuple[int, int] | None = None
    share: bool = False

    def of(self, line: str) -> Pair:
        """Return the number and its name in a line of this shape."""
        text = line[self.start : self.end] + self.percent
        total = None if self.total is None else line[slice(*self.total)]
        return Pair(self.name, _share(text, total)) if self.share and total else Pair(self.name, text, total)


_DIGITS = re.compile(r"(?<![\w@.'-])\d+(?:[.,]\d+)*")
_ZEROS = str.maketrans("123456789", "000000000")
_SHAPES: dict[str, list[_Span]] = {}
_MOST_SHAPES = 5000


def pairs(line: str) -> list[Pair]:
    """Return the numbers of a tidy line that have a name, the first one that stands in front, and those of a total."""
    shape = _DIGITS.sub(lambda digits: digits[0].translate(_ZEROS), line)
    spans = _SHAPES.get(shape)
    if spans is None:
        if len(_SHAPES) >= _MOST_SHAPES:
            _SHAPES.clear()
        spans = _SHAPES[shape] = _spans(line)
    return [span.of(line) for span in spans]


def _blank(found: re.Match[str]) -> str:
    return " | ".ljust(len(found[0]))


def _spans(line: str) -> list[_Span]:
    made: list[_Span] = []
    line = _STAMPS.sub(_blank, line)
    if rank := _RANK.search(line):
        made.append(_Span(RANK, *rank.span(1)))
        line = line[: rank.start()] + _blank(rank) + line[rank.end() :]
    if front := _BRACKETS.match(line):
        made += [_Span("epoch", *front.span(1)), _Span("batch", *front.span(2))]
        line = " " * front.end() + line[front.end() :]
    end, context, waiting, first = 0, "", "", True
    for found in _NUMBER.finditer(line):
        between = line[end : found.start()]
        before, name = _name(between)
        if len(name) == 1 and not between.rstrip(" \t").endswith((":", "=")):
            name = ""  # the s of "12.5 s 300 tok/s" is a unit
        if found["word"] is not None and meaning(name or waiting) is None:
            continue
        end, alone = found.end(), first and not between.strip(" \t[(|#:*")
        context, first = _context(context, before), False
        name = name or waiting
        number = _number(found, line)
        if not name:
            _nameless(made, found, number, alone=alone, adjacent=between.strip() == "][")
            continue
        waiting, meant = "", meaning(name)
        if meant is not None and meant.rank == BARE and line[number.start : number.end].isdecimal():
            context = _context(context, name)  # the 3 of "Val: 3 [120/1252] Loss: 2.1" is no loss
            made.append(replace(number, name=OF_TOTAL if number.total else "epoch"))
            continue
        if meant is None:
            made.append(replace(number, name=OF_TOTAL if number.total else name))
            continue
        if meant.column in ("step", "epoch"):
            context = _context(context, name)
            if (
                (parted := _AT.match(name))
                and (what := meaning(parted["what"]))
                and what.column not in ("step", "epoch")
            ):
                waiting = parted["what"]
        elif not meant.split and context not in ("", TRAINING):
            name = f"{context} {name}"
        made.append(replace(number, name=name, share=meant.column in ("accuracy", "error")))
    return made


def _nameless(made: list[_Span], found: re.Match[str], number: _Span, *, alone: bool, adjacent: bool) -> None:
    """Add a number that has no name, if it counts something."""
    if found["unit"] in ("it", "its", "steps") and alone:
        made.append(replace(number, name="it"))
    elif found["unit"] or found["word"] or number.percent:
        return
    elif number.total:
        if made and made[-1].name == OF_TOTAL and adjacent:
            made[-1] = replace(made[-1], name="epoch")  # [3/300][120/1252]
        made.append(replace(number, name=OF_TOTAL))
    elif alone:
        made.append(replace(number, name=IN_FRONT))


def _number(found: re.Match[str], line: str) -> _Span:
    """Return where a number stands, with its suffix or per cent and without another unit."""
    unit = "" if found["suffix"] else found["unit"] or ""
    text = found[0][: len(found[0]) - len(found["of"] or "") - len(unit)].rstrip(".")
    percent = "%" if unit == "%" or line[found.end() : found.end() + 1] == "%" else ""
    total = found.span("total") if found["total"] else None
    return _Span("", found.start(), found.start() + len(text), percent, total)


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
    if text.endswith(("|", ",", ";", "]", "}")):
        cell = _PARTS.split(text.rstrip("|,; \t"))[-1].strip(_FRONT + _BACK)
        return text, cell if meaning(cell) is not None else ""
    parts = [part.strip() for part in _PARTS.split(text)]
    name = parts[-1].strip(" \t\"'[({*#>") if parts else ""
    if ":" in name and meaning(name) is None and meaning(name.rpartition(":")[2]) is not None:
        name = name.rpartition(":")[2]  # INFO:tensorflow:loss
    return " | ".join(parts[:-1]), "" if name.lower() in MISSING or not re.search(r"[^\W\d_]", name) else name[-80:]


def _context(known: str, text: str) -> str:
    """Return the split that a text says beside the names of numbers, the latest word of it counting."""
    for word in words_of(text):
        if split := split_of(word):
            known = split
    return known
