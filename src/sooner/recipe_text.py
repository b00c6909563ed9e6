"""Reading and writing recipes as text: ``muon(lr=0.02) + linear``, ``torch.optim.NAdam(lr=log(1e-4, 1e-2))``.

The grammar is Python's expression grammar, so that values look the way people already write them. Nothing is evaluated but literals and the
three ranges ``log(low, high)``, ``uniform(low, high)`` and ``choice(a, b, …)``.
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
    except (SyntaxError, ValueError) as error:
        column = (getattr(error, "offset", None) or 1) + padding
        raise SoonerError(f"recipe {text!r} can't be read at column {column} ({text[column - 1 : column + 11]!r}): {_reason(error)}") from None
    return [_call(node, text, padding) for node in _summands(tree)]


def split(text: str) -> list[str]:
    """Split several recipes at semicolons: ``"adamw; muon + cosine"``; empty pieces are dropped."""
    return [piece.strip() for piece in text.split(";") if piece.strip()]


def written(name: str, settings: Mapping[str, Any], ranges: Mapping[str, Knob]) -> str:
    """Write one part in the form that `parse` reads."""
    words = [f"{k}={v!r}" for k, v in settings.items()]
    for k, knob in ranges.items():
        shown = knob.describe()
        inside = shown["values"] if "values" in shown else (shown["low"], shown["high"])
        words.append(f"{k}={shown['kind']}({', '.join(repr(v) for v in inside)})")
    return f"{name}({', '.join(words)})" if words else name


def _reason(error: Exception) -> str:
    message = getattr(error, "msg", None) or str(error)
    return f"{message}; write parts joined by +, such as 'muon(lr=0.02) + linear'"


def _summands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_summands(node.left), *_summands(node.right)]
    return [node]


def _call(node: ast.expr, text: str, padding: int) -> Call:
    column = node.col_offset + padding + 1
    if isinstance(node, ast.Call):
        if node.args:
            raise _misread(node.args[0], text, padding, "settings are written name=value")
        settings = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise _misread(keyword.value, text, padding, "settings are written name=value")
            settings[keyword.arg] = _value(keyword.value, text, padding)
        return Call(_dotted(node.func, text, padding), settings, column)
    return Call(_dotted(node, text, padding), {}, column)


def _dotted(node: ast.expr, text: str, padding: int) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, text, padding)}.{node.attr}"
    raise _misread(node, text, padding, "a part is a name, such as adamw or torch.optim.NAdam, and parts are joined by +")


def _value(node: ast.expr, text: str, padding: int) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RANGES and not node.keywords:
        try:
            return RANGES[node.func.id](*(_value(a, text, padding) for a in node.args))
        except TypeError:
            raise _misread(node, text, padding, "ranges are log(low, high), uniform(low, high) and choice(a, b, …)") from None
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _misread(node, text, padding, "a value is a number, a string, True, False, None, a tuple, or a range such as log(1e-4, 1e-2)") from None


def _misread(node: ast.expr, text: str, padding: int, remedy: str) -> SoonerError:
    column = node.col_offset + padding + 1
    found = ast.unparse(node)
    return SoonerError(f"recipe {text!r} can't be read at column {column} ({found!r}): {remedy}")
