"""A digest of source code that comments, docstrings and blank lines do not change: rewording leaves a method itself."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import io
import sys
import tokenize
from collections.abc import Sequence

from sooner.recipe import Recipe


@functools.lru_cache(maxsize=2048)
def digest(source: str) -> str:
    """Return 16 hexadecimal digits for the code in `source`, the same whatever its comments and docstrings say."""
    return hashlib.sha256("\n".join(_bare_lines(source)).encode()).hexdigest()[:16]


def _bare_lines(source: str) -> list[str]:
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for row in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                lines[row - 1] = ""
    return [line.rstrip() for line in lines if line.strip()]


def sources(recipes: Sequence[Recipe]) -> dict[str, str]:
    """Return a digest of the file of every part that PyTorch does not bring: an edited method is another method."""
    found = {}
    for s in (s for r in recipes for s in r.slots):
        if not s.factory.__module__.startswith("torch."):
            try:
                text = inspect.getsource(sys.modules[s.factory.__module__])
            except (OSError, TypeError, KeyError):
                continue  # no Python source, such as a compiled class
            found[s.name] = digest(text)
    return found
