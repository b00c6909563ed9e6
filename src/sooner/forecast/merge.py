"""Several projects' measurements in one table: what each of them counts, in which unit, and what can be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sooner.error import SoonerError, nearest
from sooner.forecast.table import COLUMNS, LOGGED, Table, join

AXES = ("tokens", "compute", "step")
"""What curves of different projects may be laid along, the first that all of them have or that follows from theirs."""
LOSSES = ("nats", "bits", "perplexity", "nats per byte", "bits per byte")
"""Units of a loss: per token where no byte is named."""
FACTS = ("loss", "bytes_per_token", "tokens_per_sample", "batch", "parameters")
"""What can be said of a project beside its files."""
UNLIKELY = 13.0
"""No loss in nats per token is so high after training: guessing among exp(13) = 440,000 words does as well."""


@dataclass(frozen=True)
class Said:
    """What a project's files leave out.

    Args:
        loss: the unit of its losses, one of `LOSSES`.
        bytes_per_token: of its tokenizer on the data that the loss is of; losses per byte need it.
        tokens_per_sample: where its tokens column counts samples or sequences.
        batch: tokens per step.
        parameters: of its model, where all its runs have the same.

    Raises:
        SoonerError: an unknown unit, or a number that is not positive.
    """

    loss: str = "nats"
    bytes_per_token: float | None = None
    tokens_per_sample: float | None = None
    batch: float | None = None
    parameters: float | None = None

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise SoonerError(
                f"the loss is in {self.loss!r}{nearest(self.loss, LOSSES)}; units are {', '.join(LOSSES)}"
            )
        for name in FACTS[1:]:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SoonerError(f"{name} is {value:g}; give a positive number")


@dataclass(frozen=True)
class Merged:
    """Measurements of several projects in the same units.

    Args:
        table: all rows; runs are named project/run, or project where they are one. Losses are in `unit`.
        axis: the column along which all curves lie; None where there is none.
        unit: nats per token, or bits per byte where every project says its bytes per token.
        projects: the runs of each, as they stand in the table.
        doubts: what may not be compared, in sentences.
        notes: what was converted.
    """

    table: Table
    axis: str | None
    unit: str
    projects: dict[str, list[str]]
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def merge(projects: Mapping[str, Table], said: Mapping[str, Said] | None = None) -> Merged:
    """Bring the measurements of several projects into the same units.

    Args:
        projects: what was read of each, by name.
        said: what their files leave out.

    Raises:
        SoonerError: fewer than two projects, something said of none of them, or a loss that can't be converted.
    """
    if len(projects) < 2:
        raise SoonerError(f"there {'is one project' if projects else 'are no projects'}; name two or more to merge")
    said = said or {}
    for name in said:
        if name not in projects:
            raise SoonerError(
                f"something is said of {name!r}{nearest(name, projects)}; the projects are {', '.join(projects)}"
            )
    facts = {name: said.get(name, Said()) for name in projects}
    per_byte = all(one.bytes_per_token is not None or one.loss.endswith("per byte") for one in facts.values())
    unit = "bits per byte" if per_byte else "nats"
    notes: list[str] = []
    made: dict[str, Table] = {}
    for name, rows in projects.items():
        told, table = _in_units(name, rows, facts[name], unit)
        made[name] = table
        notes += told
    axis = next((one for one in AXES if all(_has(table, one) for table in made.values())), None)
    if axis is not None:
        made = {name: table.require(axis) for name, table in made.items()}
    named = [
        Table(table.columns, np.array([name if run == name else f"{name}/{run}" for run in table.run.tolist()]))
        for name, table in made.items()
    ]
    notes += [f"{name}: {note}" for name, table in made.items() for note in table.notes]
    shared = join(named)
    if left := [one for one in dict.fromkeys(c for t in named for c in t.columns) if one not in shared]:
        notes.append(f"columns that not all projects have are left out: {', '.join(left)}")
    return Merged(
        shared,
        axis,
        "bits per byte" if per_byte else "nats per token",
        {name: one.runs for name, one in zip(made, named, strict=True)},
        _doubts(made, facts, axis, per_byte),
        list(dict.fromkeys(notes)),
    )


def _in_units(name: str, rows: Table, said: Said, unit: str) -> tuple[list[str], Table]:
    """Return what was converted, and a project's rows with losses in the unit and with what was said of it."""
    table, notes = rows.require("loss"), []
    read = any(note.startswith(LOGGED) for note in table.notes)  # of a perplexity, as is said, or as its heading says
    nats, whole = _nats(table["loss"], "nats" if read and said.loss == "perplexity" else said.loss, name)
    if whole:
        if unit == "bits per byte":
            losses = nats / math.log(2)
        elif said.bytes_per_token is None:
            raise SoonerError(
                f"{name} counts its loss per byte and others per token; say {name}:bytes_per_token, or those of all "
                "others, to compare them"
            )
        else:
            losses = nats * said.bytes_per_token
    elif unit == "nats":
        losses = nats
    else:
        assert said.bytes_per_token is not None  # or the unit would be nats
        losses = nats / math.log(2) / said.bytes_per_token
    if not np.array_equal(losses, table["loss"]):
        notes.append(f"{name}: losses were converted from {said.loss} to {unit}{' per token' * (unit == 'nats')}")
    table = table.plus(loss=losses)
    if said.tokens_per_sample is not None:
        if "tokens" not in table:
            raise SoonerError(f"tokens_per_sample is said of {name}, which has no column of tokens or samples")
        table = table.plus(tokens=table["tokens"] * said.tokens_per_sample)
        notes.append(f"{name}: tokens = samples x {said.tokens_per_sample:g}")
    for column in ("batch", "parameters"):
        value = getattr(said, column)
        if value is None:
            continue
        if column in table:
            raise SoonerError(f"{column} is said of {name}, whose files have it; leave it out")
        table = table.plus(**{column: value})
    return notes, table


def _nats(losses: np.ndarray, unit: str, name: str) -> tuple[np.ndarray, bool]:
    """Return losses in nats, and whether they are per byte."""
    if unit == "perplexity":
        if (losses < 1).any():
            raise SoonerError(f"{name} has a perplexity of {losses.min():g}; it is at least 1: say another unit")
        return np.log(losses), False
    return losses * (math.log(2) if unit.startswith("bits") else 1.0), unit.endswith("per byte")


def _has(table: Table, column: str) -> bool:
    try:
        table.require(column)
    except SoonerError:
        return False
    return True


def _doubts(made: Mapping[str, Table], said: Mapping[str, Said], axis: str | None, per_byte: bool) -> list[str]:
    """Return what keeps the projects from being compared."""
    told = []
    for name, table in made.items():
        lowest = float(np.nanmin(table["loss"]))
        if not per_byte and said[name].loss == "nats" and lowest > UNLIKELY:
            told.append(
                f"{name}: its lowest loss is {lowest:.4g}, which no loss in nats per token is; is it a perplexity? "
                f"Then say {name}:loss=perplexity"
            )
    if not per_byte:
        told.append(
            "losses per token compare only under the same tokenizer: say bytes_per_token of every project to have bits "
            "per byte"
        )
    if axis is None:
        lacking = [
            f"{name} has {', '.join(one for one in COLUMNS if one in table and one != 'loss') or 'none'}"
            for name, table in made.items()
        ]
        told.append(
            f"there is no axis for all: {'; '.join(lacking)}; say batch (tokens per step) or parameters where they lack"
        )
    elif axis == "step":
        told.append(
            "the curves lie along steps, which are worth more where batches are larger: say batch of every project"
        )
    return told
