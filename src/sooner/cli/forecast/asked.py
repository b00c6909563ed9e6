"""What the options of `sooner forecast` mean: texts to columns, places and numbers, each refused in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sooner.cli.forecast.options import Reading
from sooner.error import SoonerError
from sooner.forecast import laws
from sooner.forecast.automatic import unread
from sooner.forecast.law import Law
from sooner.forecast.numbers import number as number_of
from sooner.forecast.read.names import ALIASES, plain
from sooner.forecast.table import Doubt, Table, join, table

LEAST_DRAWS = 20
"""Fewer draws have no quantiles to speak of."""
DERIVING = ("compute", "parameters", "tokens", "step", "batch", "accuracy", "error", "epoch")
"""Columns from which others follow."""
CHOOSING = ("experts", "unique_tokens")
"""Columns that are there for one law each."""
SCALES = ("compute", "tokens", "parameters", "step")
"""Columns along which a loss is looked at where the user names none, the first that is there."""


def pairs(
    texts: Sequence[str], option: str = "--column", form: str = "NAME=HEADING", example: str = "loss=val_loss"
) -> dict[str, str]:
    """Return a dictionary from NAME=VALUE texts.

    Raises:
        SoonerError: a text is not of that form, or names a column twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, heading = (part.strip() for part in text.partition("="))
        if not equals or not name or not heading:
            raise SoonerError(f"{option} {text!r} is not {form}; write, for example, {option} {example}")
        if name in found:
            raise SoonerError(f"{option} names {name} twice, as {found[name]!r} and {heading!r}; give one of them")
        found[name] = heading
    return found


def unquoted(text: str) -> str:
    """Return a name without the quotation marks around it, which shells and people leave."""
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def column_of(name: str, rows: Table) -> str:
    """Return the column of the rows that a name or heading means: itself, or what its heading was read as."""
    name = unquoted(name)
    if name in rows:
        return name
    return _column(name)


def places(texts: Sequence[str], needs: Sequence[str], law: str = "the law", *, also: Sequence[str] = ()) -> Table:
    """Return a row for each text NAME=NUMBER,NAME=NUMBER; names may be any that headings may be, such as N or steps.

    Numbers may have a suffix, as in N=7B,D=1.4T.

    Args:
        texts: as typed; names may stand in quotation marks.
        needs: columns that must be there, or follow from those that are.
        law: its name, for messages.
        also: columns that may be there.

    Raises:
        SoonerError: a text is not of that form, a number is not one, a name comes twice, one is missing, or one is
            read by nothing.
    """
    rows = []
    for text in texts:
        values: dict[str, float] = {}
        for piece in text.split(","):
            name, equals, value = (part.strip() for part in piece.partition("="))
            name = unquoted(name)
            column = name if name in needs else _column(name)
            try:
                number = number_of(value.replace("_", ""), False)
            except ValueError:
                equals = ""
            if not equals or not name or not 0 < number < math.inf:
                raise SoonerError(
                    f"--at {text!r} is not NAME=NUMBER,... with positive numbers; write, for example, "
                    "--at parameters=7e9,tokens=1.4e11"
                )
            if column in values:
                raise SoonerError(
                    f"--at {text!r} says {column} twice; say it once, and give --at again for more places"
                )
            values[column] = number
        row = table(text, **values)
        idle = [name for name in values if name not in (*needs, *also) and not _derives(row, name, needs)]
        if idle:
            raise SoonerError(
                f"--at {text!r} says {idle[0]}, which {law} does not read: it reads {', '.join(needs)}; leave it out, "
                "or choose a law that reads it with --law"
            )
        try:
            rows.append(row.require(*needs))
        except SoonerError:
            missing = next(name for name in needs if name not in row)
            example = ",".join(f"{name}=..." for name in needs)
            raise SoonerError(f"--at {text!r} does not say {missing}; the law reads it: write --at {example}") from None
    return join(rows)


def _derives(row: Table, name: str, needs: Sequence[str]) -> bool:
    """Return whether something that is needed follows from this column, and from no other instead."""
    try:
        row.require(*needs)
    except SoonerError:
        return name in DERIVING  # what is missing is said then
    try:
        row.without(name).require(*needs)
    except SoonerError:
        return True
    return False


def _column(name: str) -> str:
    return next((one for one, aliases in ALIASES.items() if plain(name) in aliases), name)


def checked_numbers(given: Reading) -> None:
    """Refuse a level or a number of draws that can't be.

    Raises:
        SoonerError: names the value.
    """
    if not 0 < given.level < 1:
        raise SoonerError(f"--level is {given.level:g}; give a share between 0 and 1, such as 0.9")
    if given.draws < LEAST_DRAWS:
        raise SoonerError(f"--draws is {given.draws}; give {LEAST_DRAWS} or more")


def positive(**options: float | None) -> None:
    """Refuse options that are given and not positive and finite.

    Raises:
        SoonerError: names the first.
    """
    for name, value in options.items():
        if value is not None and not 0 < value < math.inf:
            raise SoonerError(f"--{name} is {value:g}; give a positive number")


def law_named(name: str, over: str | None, rows: Table) -> Law:
    """Return the law of this name, in the rows' own scale where it takes one column and the user names none.

    Raises:
        SoonerError: there is no such law.
    """
    made = laws.find(name, over)
    if over is None and not hasattr(type(made), "needs") and made.over not in rows:
        scale = next((one for one in SCALES if one in rows), None)
        return made if scale is None else laws.find(name, scale)
    return made


def all_read(law: Law, rows: Table, named: Mapping[str, str]) -> Table:
    """Return the rows, with a doubt where the law leaves out a column that changes between them.

    Raises:
        SoonerError: the user names a column that chooses among laws, and this one does not read it.
    """
    left = unread(law, rows)
    read = (*law.needs, "epoch") if "unique_tokens" in law.needs else law.needs
    for name in CHOOSING:
        if name in named and name not in read and name in rows:
            raise SoonerError(
                f"--column names {name}, which {law.name} does not read: it reads {', '.join(law.needs)}; leave it "
                "out, or choose a law that reads it with --law"
            )
    told = [
        Doubt(
            f"{'passes over the data go' if name in ('epoch', 'unique_tokens') else f'{name} goes'} from {low:.4g} to "
            f"{high:.4g}, and {law.name} does not read that: keep the rows of one with --where HEADING=TEXT, or choose "
            "a law that does with --law"
        )
        for name, (low, high) in left.items()
    ]
    return rows.with_notes(*told) if told else rows


def of_final_losses(law: Law, command: str) -> None:
    """Refuse a law of curves where a command asks for single places: it reads all learning rates up to a step.

    Raises:
        SoonerError: it is one.
    """
    if "lr" in law.needs:
        raise SoonerError(
            f"{command} asks for places, and {law.name} reads whole learning-rate schedules; use sooner forecast curve "
            "--schedule, or a law without them, such as --law power_floor --over step"
        )


def shared_scale(tables: Sequence[Table]) -> str:
    """Return the first scale that all tables have, or that follows from their columns.

    Raises:
        SoonerError: there is none.
    """
    for name in SCALES:
        try:
            for one in tables:
                one.require(name)
        except SoonerError:
            continue
        return name
    raise SoonerError(f"the files share none of {', '.join(SCALES)}; name a column that both have with --over")
