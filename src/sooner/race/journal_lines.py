"""One line of the journal: how a record becomes text that can be checked, and how a whole file is read back.

A line is strict JSON, `{"kind", "key", "time", "data", "crc32"}`. The checksum covers the compact text of everything
before it, so a line that was cut off, or changed by hand or by the disk, is recognised. Finite floats are written with
their shortest exact text and come back bit for bit. JSON has no word for the others: `nan`, `inf` and `-inf` are
written as `{"float": "nan"}` and so on, and a dict of the caller's own whose only key is "float" is written as
`{"float": [value]}`, so that the two are never confused. (Which of its many bit patterns a NaN had is not kept.)
Tuples come back as lists.
"""

import json
import math
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sooner.error import SoonerError

FORMAT = 1
"""The version of the file's layout, stored in the first record."""

_START = b'{"kind":"race"'


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without its zone")
    return text


class Record(BaseModel):
    """One record: what it is (`kind`), which one (`key`), when it was written (ISO 8601, UTC) and its content."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kind: str = Field(min_length=1)
    key: str
    time: Annotated[str, AfterValidator(_moment)]
    data: dict[str, Any]


class RaceData(BaseModel):
    """The content of the first record: what makes this race this race, and how it was first started."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    format: int
    identity: dict[str, Any]
    provenance: dict[str, Any]


class DamagedError(ValueError):
    """The line is not what was written: cut off, or changed."""


class ShapeError(ValueError):
    """The line is what was written, but it is not a record that this version knows."""


@dataclass(frozen=True)
class Content:
    """What a journal file holds: its intact records, their length in bytes, and how many torn bytes follow."""

    records: list[Record]
    length: int
    torn: int


def encode(value: Any) -> Any:
    """Return `value` as something strict JSON can hold; TypeError names what it cannot."""
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a journal holds dicts with text keys, not {key!r}")
        coded = {key: encode(item) for key, item in value.items()}
        return {"float": [coded["float"]]} if coded.keys() == {"float"} else coded
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"a journal holds dicts, lists, texts, numbers, booleans and null, not {type(value).__name__}")


def decode(value: Any) -> Any:
    """Undo `encode`."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"float"}:
            inside = value["float"]
            return float(inside) if isinstance(inside, str) else {"float": decode(inside[0])}
        return {key: decode(item) for key, item in value.items()}
    return value


def canonical(value: Any, *, sort: bool = False) -> str:
    """Return the one compact ASCII text of an encoded value; with `sort`, whatever the order of the keys."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, sort_keys=sort)


def write_line(kind: str, key: str, data: dict[str, Any]) -> bytes:
    """Return the line, newline included, that records `data` under `kind` and `key` at this moment."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    text = canonical({"kind": kind, "key": key, "time": time, "data": _dict(encode(data))})
    return f'{text[:-1]},"crc32":"{_checksum(text)}"}}\n'.encode("ascii")


def read_line(line: bytes) -> Record:
    """Return the record in `line` (without its newline); DamagedError or ShapeError when there is none."""
    try:
        content = json.loads(line.decode("ascii"), parse_constant=_refuse)
        checksum = content.pop("crc32")
        text = canonical(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError("it is not a JSON object with a checksum") from error
    if checksum != _checksum(text):
        raise DamagedError("its checksum is wrong")
    try:
        if isinstance(content.get("data"), dict):
            content["data"] = _dict(decode(content["data"]))
        return Record.model_validate(content)
    except ValidationError as error:
        raise ShapeError(_first(error)) from error
    except (TypeError, ValueError, LookupError) as error:
        raise ShapeError("data: not written by the journal") from error


def read_content(content: bytes, path: Path) -> Content:
    """Return what the journal file `path` with these bytes holds.

    A torn end is what an interruption leaves: a last line without its newline, or one that is damaged. Damage anywhere
    else, or an intact record of an unknown shape, raises SoonerError; so does a file that no race wrote.
    """
    *lines, rest = content.split(b"\n")
    records: list[Record] = []
    damaged: dict[int, str] = {}
    strange: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        try:
            record = read_line(line)
            if not records and number == 1:
                _check_first(record)
            records.append(record)
        except DamagedError as error:
            damaged[number] = str(error)
        except ShapeError as error:
            strange[number] = str(error)
    torn = len(rest)
    if not rest and len(lines) in damaged:
        torn = len(lines[-1]) + 1
        del damaged[len(lines)]
    if not records and not strange and not _may_be_ours(content):
        raise SoonerError(
            f"{path.parent} is not a race folder (its {path.name} was not written by sooner): choose another --out"
        )
    for problems, what in ((damaged, "damaged"), (strange, "not a record that this version of sooner reads")):
        if problems:
            raise SoonerError(_complaint(path, problems, what, len(records)))
    return Content(records, len(content) - torn, torn)


def _check_first(record: Record) -> None:
    if record.kind != "race":
        raise ShapeError("the first record must be of the kind 'race'")
    try:
        data = RaceData.model_validate(record.data)
    except ValidationError as error:
        raise ShapeError(f"data.{_first(error)}") from error
    if data.format != FORMAT:
        raise ShapeError(f"its format is {data.format}, known is {FORMAT}")


def _may_be_ours(content: bytes) -> bool:
    """Whether a file without one intact line can be what an interrupted first write left (power cuts leave zeros)."""
    return content.startswith(_START) or _START.startswith(content) or not content.strip(b"\0")


def _complaint(path: Path, problems: dict[int, str], what: str, good: int) -> str:
    numbers = [str(number) for number in problems]
    where = (
        f"line {numbers[0]} is"
        if len(numbers) == 1
        else f"lines {', '.join(numbers[:5])}{', …' * (len(numbers) > 5)} are"
    )
    intact = f"{good} other record{' is' if good == 1 else 's are'} intact and nothing was overwritten"
    remedy = "restore that line from a copy, or choose another --out"
    return f"{path}: {where} {what} ({next(iter(problems.values()))}); {intact}: {remedy}"


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode('ascii')):08x}"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not strict JSON")


def _dict(value: Any) -> dict[str, Any]:
    # The content of a record is always a dict; a dict that `encode` wrapped is still one.
    if not isinstance(value, dict):
        raise TypeError(f"the content of a record is a dict, not {type(value).__name__}")
    return value


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
