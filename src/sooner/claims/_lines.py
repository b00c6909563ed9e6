"""The checked lines of which evidence is made, that of claims and that of the lab: writing, reading, what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sooner
from sooner.claims._claim import Outcome
from sooner.claims._measured import Measured
from sooner.error import SoonerError
from sooner.race.journal_lines import DamagedError, Record, ShapeError, read_line

_HOME = f"{Path(sooner.__file__).resolve().parents[1]}/"


def write_whole(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file of checked lines, replacing an older one whole.

    Raises:
        SoonerError: the file can't be written.
    """
    unfinished = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(b"".join(lines))
        unfinished.replace(path)
    except OSError as error:
        raise SoonerError(f"cannot write {path} ({error.strerror}); name a folder that you may write to") from None


def read_records(path: Path, remedy: str) -> list[Record]:
    """Return the records of a file of checked lines.

    Raises:
        SoonerError: the file can't be read, or a line was changed; `remedy` says what to do.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise SoonerError(f"cannot read {path} ({error.strerror})") from None
    if lines and not lines[-1]:
        lines.pop()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(read_line(line))
        except (DamagedError, ShapeError) as error:
            raise SoonerError(f"{path}: line {number} was changed or cut off ({error}); {remedy}") from None
    return records


def checked_frame(
    path: Path, records: list[Record], first: str, last: str, versions: int | Sequence[int], remedy: str
) -> None:
    """Refuse records that do not begin and end as evidence of this kind and of these versions does.

    Raises:
        SoonerError: says what is wrong.
    """
    if not records or records[0].kind != first:
        raise SoonerError(f"{path} is no evidence: its first line names no {first}; {remedy}")
    read, found = [versions] if isinstance(versions, int) else versions, records[0].data.get("format")
    if found not in read:
        known = " and ".join(map(str, read))
        raise SoonerError(f"{path} has the format {found}, this version of sooner reads {known}; {remedy}")
    if records[-1].kind != last:
        raise SoonerError(f"{path} ends before its {last}; {remedy}")


def from_the_package_on(value: Any) -> Any:
    """Return findings in which files of the package are named from the package on.

    Evidence is published, and where a checkout lies is nobody's business.
    """
    if isinstance(value, str):
        return value.replace(_HOME, "")
    if isinstance(value, dict):
        return {key: from_the_package_on(item) for key, item in value.items()}
    return [from_the_package_on(item) for item in value] if isinstance(value, list) else value


def measured_from(data: dict[str, Any]) -> Measured:
    """Return a figure as it was written."""
    floor = data.pop("floor")
    return Measured(**data, floor=tuple(floor) if floor else None)


def outcome_from(data: dict[str, Any]) -> Outcome:
    """Return what became of a criterion as it was written."""
    data = {**data, "measured": measured_from(data["measured"]), "experiments": tuple(data.get("experiments", ()))}
    return Outcome(**data)
