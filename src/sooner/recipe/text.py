"""Reading and writing recipes as text: ``muon(lr=0.02) + linear``, ``torch.optim.NAdam(lr=log(1e-4, 1e-2))``.

The grammar is Python's expression grammar, so that values look the way people already write them. Nothing is evaluated
but literals and the three ranges ``log(low, high)``, ``uniform(low, high)`` and ``choice(a, b, …)``.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sooner.error import SoonerError
from sooner.space import Choice, Knob, Log, Uniform

RANGES: Mapping[str, type[Any]] = {"log": Log, "uniform": Uniform, "choice": Choice}


@dataclass(frozen=True)
class Call:
    """One part as written: its name, its settings (values or ranges) and the column it starts in, counted from 1."""

    name: str
    settings: dict[str, Any]
    column: int


def parse(text: str) -> list[Call]:
    """Return the parts of a recipe in the order written.

    Raises:
        SoonerError: the text is not a recipe; names the column and what stands there.
    """
    if not text.strip():
        raise SoonerError("an empty recipe trains nothing; write at least an optimizer, such as adamw")
    padding = len(text) - len(text.lstrip())
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = (getattr(error, "offset", None) or len(text.strip()) + 1) + padding  # Python names no place at the end
        raise SoonerError(
            f"recipe {text!r} can't be read at column {column} ({text[column - 1 : column + 11]!r}): "
            f"{getattr(error, 'msg', None) or error}; write parts joined by +, such as 'muon(lr=0.02) + linear'"
        ) from None
    return [_call(node, text) for node in _summands(tree)]


def split(text: str) -> list[str]:
    """Split several recipes at semicolons: ``"adamw; muon + cosine"``; empty pieces are dropped."""
    return [piece.strip() for piece in text.split(";") if piece.strip()]


def written(name: str, settings: Mapping[str, Any], ranges: Mapping[str, Knob]) -> str:
    """Write one part in the form that `parse` reads."""
    words = [f"{k}={v!r}" for k, v in settings.items()]
    for k, knob in ranges.items():
        shown = knob.describe()
        inside = knob.values if isinstance(knob, Choice) else (knob.low, knob.high)
        words.append(f"{k}={shown['kind']}({', '.join(repr(v) for v in inside)})")
    return f"{name}({', '.join(words)})" if words else name


def _summands(node: ast.expr) -> list[ast.expr]:
    found = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        found += _summands(node.right)[::-1]
        node = node.left
    return [*found, node][::-1]


def _call(node: ast.expr, text: str) -> Call:
    column = _column(node, text)
    if not isinstance(node, ast.Call):
        return Call(_dotted(node, text), {}, column)
    settings = {}
    for written_value in node.args:
        raise _misread(written_value, text, "settings are written name=value")
    for keyword in node.keywords:
        if keyword.arg is None:
            raise _misread(keyword.value, text, "settings are written name=value")
        if keyword.arg in settings:
            raise _misread(keyword.value, text, f"{keyword.arg} is set twice; keep one of them")
        settings[keyword.arg] = _value(keyword.value, text)
    return Call(_dotted(node.func, text), settings, column)


def _dotted(node: ast.expr, text: str) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, text)}.{node.attr}"
    raise _misread(node, text, "a part is a name, such as adamw or torch.optim.NAdam, and parts are joined by +")


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RANGES and not node.keywords:
        ends = [_value(a, text) for a in node.args]
        try:
            return RANGES[node.func.id](*ends)
        except TypeError:
            remedy = "ranges are log(low, high), uniform(low, high) and choice(a, b, …)"
            raise _misread(node, text, remedy) from None
        except SoonerError as error:
            raise _misread(node, text, str(error)) from None
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        remedy = (
            "a value is a number, a string in quotes, True, False, None, a tuple, or a range such as log(1e-4, 1e-2)"
        )
        raise _misread(node, text, remedy) from None


def _column(node: ast.expr, text: str) -> int:
    """Return where the node starts in the text, counted in characters from 1 (Python counts bytes of the line)."""
    lines = text.strip().splitlines(keepends=True)
    before = len("".join(lines[: node.lineno - 1])) + len(lines[node.lineno - 1].encode()[: node.col_offset].decode())
    return len(text) - len(text.lstrip()) + before + 1


def _misread(node: ast.expr, text: str, remedy: str) -> SoonerError:
    return SoonerError(
        f"recipe {text!r} can't be read at column {_column(node, text)} ({ast.unparse(node)!r}): {remedy}"
    )
