"""The result of a race as a table for the terminal: one line per contender where there is room, a few where not."""

import io
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from sooner.report import details, words
from sooner.report.numbers import EMPTY, count, plain

# From this width on, the columns of one contender fit on one line.
WIDE = 140

STYLES = {
    "baseline": "bold",
    "faster": "bold blue",
    "no difference found": "bold",
    "too noisy": "bold",
    "edge": "bold",
    "slower": "bold yellow",
    "out": "bold red",
}


class ResultTable:
    """A rich renderable: the table of contenders, final values, noise floor, time, tuning cost, notes, failures."""

    def __init__(self, result: words.Result):
        self.result = result

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        task = self.result["task"]
        yield Text(f"Race on {plain(task['name'])} ({plain(self.result['regime'])}, {count(task['steps'])} steps)")
        yield Text(words.targets(self.result))
        yield Text()
        yield self.wide() if options.max_width >= WIDE else self.narrow()
        yield Text()
        for name, contender in self.outside():
            yield Text(f"{name} is out: {plain(contender.get('why_out') or 'no reason was recorded').rstrip('.')}.")
        if (sheet := details.together(self.result)).rows:
            yield Text(words.together(self.result))
            yield Text()
            yield wide_sheet(sheet) if options.max_width >= WIDE else narrow_sheet(sheet)
            yield Text()
        for line in (*words.finals(self.result), words.smallest_effects(self.result), words.intervals(self.result)):
            if line:
                yield Text(line)
        yield Text(words.noise_floor(self.result))
        yield Text(words.timing(self.result))
        yield Text(words.tuning_cost(self.result))
        for note in self.result.get("notes") or []:
            yield Text(f"Note: {plain(note)}")
        for failure in self.result.get("failures") or []:
            yield Text(f"Failed: {plain(failure['cell'])}: {plain(failure['cause'])}", style="red")

    def outside(self) -> list[tuple[str, words.Contender]]:
        """Return the contenders that did not race, by name."""
        return [(plain(each["recipe"]), each) for _, each in words.ordered(self.result) if not words.raced(each)]

    def wide(self) -> Table:
        """Return the table with one column per measurement."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column, heading in words.headings(self.result).items():
            number = column in ("charged", "p", "hits", "cost", "memory")
            table.add_column(
                "\n".join(heading.rsplit(" ", 1)),
                justify="right" if number else "left",
                vertical="top",
                overflow="fold",
                no_wrap=number,
            )
        for _, contender in words.ordered(self.result):
            row = words.cells(contender, self.result)
            styles = {"verdict": STYLES.get(row["verdict"], "")}
            table.add_row(*(Text(text, style=styles.get(column, "")) for column, text in row.items()))
        return table

    def narrow(self) -> Table:
        """Return the table with three columns, each holding a few lines per contender."""
        headings = words.headings(self.result)
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, leading=1, expand=True)
        for column, share in (("recipe", 10), ("steps", 8), ("final", 8)):
            table.add_column(headings[column], ratio=share, overflow="fold")
        for _, contender in words.ordered(self.result):
            row = words.cells(contender, self.result)
            table.add_row(
                Text.assemble(
                    (row["recipe"], "bold"),
                    "\n",
                    (row["verdict"], STYLES.get(row["verdict"], "")),
                    "\n",
                    (row["tuned"], "dim"),
                ),
                stack(row["steps"], chances(row), labelled(row["hits"], "hit rate"), charged(row)),
                stack(row["final"], labelled(row["cost"], "cost per step"), labelled(row["memory"], "peak memory")),
            )
        return table


def wide_sheet(sheet: details.Sheet) -> Table:
    """Return one of the smaller tables with one column per measurement."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in sheet.headings:
        table.add_column(heading, vertical="bottom", overflow="fold")
    for _, cells in sheet.rows:
        table.add_row(*map(Text, cells))
    return table


def narrow_sheet(sheet: details.Sheet) -> Table:
    """Return the same with three columns: the first of the table, and the others as lines in two halves."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, leading=1, expand=True)
    for heading, share in ((sheet.headings[0], 8), ("", 8), ("", 10)):
        table.add_column(heading, ratio=share, overflow="fold")
    half = (len(sheet.headings) + 1) // 2
    for _, (name, *cells) in sheet.rows:
        lines = [labelled(cell, heading) for cell, heading in zip(cells, sheet.headings[1:], strict=True)]
        table.add_row(Text(name, style="bold"), stack(*lines[: half - 1]), stack(*lines[half - 1 :]))
    return table


def chances(row: dict[str, str]) -> str:
    """Return "p 0.012 (Holm)", or nothing for a row without a test."""
    return "" if row["p"] == EMPTY else f"p {row['p']} (Holm)"


def charged(row: dict[str, str]) -> str:
    """Return "0.96x with tuning", or nothing where it says no more than the steps ratio."""
    return "" if row["charged"] in ("1x", "never") else labelled(row["charged"], "with tuning")


def labelled(value: str, label: str) -> str:
    """Return "8/8 hit rate", or nothing where nothing was measured."""
    return "" if value == EMPTY else f"{value} {label}"


def stack(*lines: str) -> Text:
    """Return the lines that are not empty, under each other."""
    return Text("\n".join(line for line in lines if line))


def render(result: words.Result) -> RenderableType:
    """Return the table of `result` as a rich renderable that adapts to the width it is printed at."""
    return ResultTable(result)


def text(result: words.Result, width: int) -> str:
    """Return the table of `result` as plain text, `width` characters wide."""
    console = Console(
        file=io.StringIO(),
        width=width,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,  # else a notebook would show it at once, and empty
        legacy_windows=False,
        emoji=False,
    )
    with console.capture() as capture:
        console.print(render(result))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
