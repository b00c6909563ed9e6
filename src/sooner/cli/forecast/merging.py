"""What `sooner forecast merge` does: read each project apart, bring all into the same units, show and write them."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

from sooner.cli.forecast.asked import pairs
from sooner.cli.forecast.options import Reading
from sooner.cli.forecast.run import finish, working
from sooner.error import SoonerError, nearest
from sooner.forecast.merge import FACTS, Merged, Said, merge
from sooner.forecast.numbers import number
from sooner.forecast.read import read
from sooner.report.forecast.merged import of_merged


def run_merge(files: list[Path], say: list[str], given: Reading, *, table: Path | None) -> None:
    """Merge the projects and show them."""
    names = _named(files)
    said = _said(say, list(names))
    with working() as told:
        projects = {}
        for name, file in names.items():
            told(f"reading {name}")
            where = pairs(given.where, "--where", "HEADING=TEXT", "kind=val")
            columns = _columns(given.column, name, list(names))
            projects[name] = read([file], columns=columns, where=where, split=given.split)
        merged = merge(projects, said)
    finish(of_merged(merged), given)
    if table is not None:
        _write(merged, table)


def _named(files: list[Path]) -> dict[str, Path]:
    """Return the projects by name: that of the file or folder without its ending, or its path where two are alike."""
    short = [file.name.partition(".")[0] or str(file) for file in files]
    names = [one if short.count(one) == 1 else str(file) for one, file in zip(short, files, strict=True)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SoonerError(f"{twice} is named twice; name every project once")
    return dict(zip(names, files, strict=True))


def _columns(texts: list[str], project: str, names: list[str]) -> dict[str, str]:
    """Return the headings of one project: those of NAME=HEADING, over which those of PROJECT:NAME=HEADING go.

    Raises:
        SoonerError: a text is not of that form.
    """
    own = {
        f"{name}:": [text.removeprefix(f"{name}:") for text in texts if text.startswith(f"{name}:")] for name in names
    }
    shared = [text for text in texts if not text.startswith(tuple(own))]
    return {**pairs(shared), **pairs(own[f"{project}:"])}


def _said(texts: list[str], names: list[str]) -> dict[str, Said]:
    """Return what is said of each project, from texts PROJECT:FACT=VALUE.

    Raises:
        SoonerError: a text is not of that form.
    """
    found: dict[str, Said] = {}
    for text in texts:
        left, equals, value = text.partition("=")
        name, colon, fact = left.rpartition(":")
        if not (name and colon and equals and value.strip()):
            raise SoonerError(
                f"--say {text!r} is not PROJECT:FACT=VALUE; write, for example, --say {names[0]}:loss=bits"
            )
        if fact not in FACTS:
            raise SoonerError(f"--say {text!r} says {fact!r}{nearest(fact, FACTS)}; facts are {', '.join(FACTS)}")
        if name not in names:
            raise SoonerError(
                f"--say {text!r} names {name!r}{nearest(name, names)}; the projects are {', '.join(names)}"
            )
        try:
            made = {fact: value.strip() if fact == "loss" else number(value, decimal_comma=False)}
        except ValueError:
            raise SoonerError(f"--say {text!r}: {value!r} is no number") from None
        found[name] = replace(found.get(name, Said()), **made)  # type: ignore[arg-type]
    return found


def _write(merged: Merged, path: Path) -> None:
    """Write the rows as csv, which all forecast commands read.

    Raises:
        SoonerError: the file can't be written.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    names = list(merged.table.columns)
    rows.writerow(["run", *names])
    columns = [merged.table[name].tolist() for name in names]
    rows.writerows([run, *map(repr, values)] for run, *values in zip(merged.table.run.tolist(), *columns, strict=True))
    try:
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise SoonerError(f"{path} can't be written: {error.strerror or error}") from error
