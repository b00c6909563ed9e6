"""Text logs of training loops: any in which names and numbers stand on a line, as `pairs` reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from sooner.error import SoonerError
from sooner.forecast.read.mapping import ABOVE, IN_A_LOG, Asked
from sooner.forecast.read.names import KINDS, meaning, plain
from sooner.forecast.read.pairs import IN_FRONT, OF_TOTAL, RANK, Pair, pairs, tidy
from sooner.forecast.read.rows import gather
from sooner.forecast.read.text import opened
from sooner.forecast.read.thin import Row
from sooner.forecast.table import Table, listed

READ = ("loss", "perplexity", "accuracy", "error", "step", "epoch", "lr", "tokens", "batch")
"""What is read from a log; other numbers only where the user names them."""
_LOSSES = ("loss", "perplexity", "accuracy", "error")
_WHOLE_BAR = re.compile(r"(\d+)/(\d+)\s*(?:\[[=>.\s]*\]|[━╸╺]+)")
_BAR = re.compile(r"\d+%\s?\|")
_DIGIT = re.compile(r"\d")
_LONGEST = 20_000
"""Of a longer line the rest is not looked at."""


def read_training_log(path: Path, given: Asked) -> Table:
    """Return the curve of a text log: its validation losses where it has enough, else its training losses.

    Raises:
        SoonerError: no line has a step and a loss.
    """
    log = _Log(path, given)
    headings, seen = log.survey()
    losses = [h for h in headings if _column(h) in _LOSSES or h == given.columns.get("loss")]
    if not losses:
        named = f"; of its names, {listed(sorted(seen))}, none is that of a loss" if seen else ""
        raise SoonerError(
            f"{path.name} has no line with a step and a loss, such as 'step 250: val loss 3.21'{named}; give such a "
            "log, or csv or jsonl, or name the loss with --column loss=NAME"
        )
    return gather(path, headings, log.rows(headings, losses), given, log=True, cut=lambda: log.cut)


class _Log:
    def __init__(self, path: Path, given: Asked) -> None:
        self._path = path
        self._asked = {plain(h) for h in (*given.columns.values(), *given.where)}
        self.cut: int | None = None
        """The number of a last line that has no end."""

    def survey(self) -> tuple[list[str], set[str]]:
        """Return the names that are read, and some that are not."""
        names: dict[str, None] = {}
        above: dict[str, None] = {}
        others: set[str] = set()
        for _, found in self._lines():
            for pair in found:
                if self._is_read(pair.name):
                    names[pair.name] = None
                    if pair.total is not None:
                        names[f"{pair.name} of"] = None
                    if _is_axis(pair.name):
                        above[pair.name + ABOVE] = None
                elif len(others) < 100 and pair.name not in (OF_TOTAL, IN_FRONT):
                    others.add(pair.name)
        return [*names, *above], others

    def rows(self, headings: list[str], losses: list[str]) -> Callable[[], Iterator[Row]]:
        """Return what yields a row for each line that has a loss or a learning rate."""
        place = {heading: i for i, heading in enumerate(headings)}
        rates = [h for h in headings if _column(h) == "lr"]
        wanted = {*losses, *rates}

        def made() -> Iterator[Row]:
            above: dict[str, str] = {}
            for number, found in self._lines():
                cells: list[object] = [None] * len(headings)
                own: dict[str, str] = {}
                for pair in found:
                    if pair.name not in place:
                        continue
                    # the first of a name on a line: (2.9) behind it is a mean, and a bar says it again
                    if cells[place[pair.name]] is None:
                        cells[place[pair.name]] = pair.text
                    if pair.total is not None:
                        cells[place[f"{pair.name} of"]] = pair.total
                    if _is_axis(pair.name):
                        own[pair.name] = pair.text
                if any(above.get(name) not in (None, text) for name, text in own.items() if _column(name) == "epoch"):
                    above.clear()
                for name, text in above.items():
                    if name not in own:
                        cells[place[name + ABOVE]] = text
                above.update(own)
                if any(cells[place[name]] is not None for name in wanted):
                    yield number, cells

        return made

    def _lines(self) -> Iterator[tuple[int, list[Pair]]]:
        with opened(self._path) as file:
            held: tuple[int, list[Pair]] | None = None
            for number, line in enumerate(file, start=1):
                self.cut = None if line.endswith("\n") else number
                if _DIGIT.search(line) is None:
                    continue
                line = tidy(line[:_LONGEST])
                whole = _WHOLE_BAR.search(line) if "/" in line else None
                if whole is not None:  # a bar of an epoch: means up to here, of which the last counts
                    if whole[1] != whole[2]:
                        continue
                    line = line[whole.end() :]
                found = pairs(line)
                bar = "|" in line and _BAR.search(line) is not None
                if held is not None and not (bar and _same_place(held[1], found)):
                    yield held
                held = (number, found) if bar else None
                if held is None:
                    yield number, found
            if held is not None:
                yield held

    def _is_read(self, name: str) -> bool:
        return _column(name) in READ or name == RANK or plain(name) in self._asked


@lru_cache(maxsize=20_000)
def _column(name: str) -> str | None:
    if name in IN_A_LOG or plain(name) in IN_A_LOG:
        return "step"
    found = meaning(name)
    return None if found is None or (found.column == "run" and plain(name) in KINDS) else found.column


def _is_axis(name: str) -> bool:
    return _column(name) in ("step", "epoch")


def _same_place(before: list[Pair], now: list[Pair]) -> bool:
    """Return whether a bar was drawn again at the same step."""
    places = [{p.name: p.text for p in one if _is_axis(p.name)} for one in (before, now)]
    return places[0] == places[1]
