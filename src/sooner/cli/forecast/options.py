"""The options that the `sooner forecast` commands share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sooner.cli.numbers import Whole


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """How the files are read, and where the answer goes.

    Attributes
    ----------
    column
        NAME=HEADING reads a column under that heading, such as --column loss=val_loss. May be repeated.
    where
        HEADING=TEXT keeps only the rows with this text there, such as --where kind=val. May be repeated.
    split
        Whose losses are read where a file has several: validation, test or training. Default: validation, where it has
        enough.
    draws
        Refits for the bands.
    level
        Share of future runs that the bands are meant to cover.
    out
        Write the report with its plots to this HTML file.
    json
        Print the result as JSON.
    """

    column: Annotated[list[str], Parameter(negative=())] = field(default_factory=list)
    where: Annotated[list[str], Parameter(negative=())] = field(default_factory=list)
    split: str | None = None
    draws: Whole = 200
    level: float = 0.9
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None
    json: Annotated[bool, Parameter(negative=())] = False


@Parameter(name="*")
@dataclass(frozen=True)
class Choice(Reading):
    """How the files are read, which law is fitted, and where the answer goes.

    Attributes
    ----------
    law
        A law of `sooner forecast laws`; auto chooses by what leaving out shows.
    over
        The column that a law in one quantity takes as x, such as tokens.
    lr
        The learning rates, where the files don't have them: cosine:peak=3e-4,warmup=2000,total=24000,end=3e-5.
    """

    law: str = "auto"
    over: str | None = None
    lr: str | None = None
