"""Docstrings in the house style as reStructuredText: indented equations stand as they are, signs are no markup."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Example|Examples|Note):$")
SIGNS = re.compile(r"(?<!\\)([*|]|(?<=\w)_(?!\w))")
MARKED = re.compile(r"(``.+?``|`[^`]+`)")


def process(app: Sphinx, what: str, name: str, target: Any, options: Any, lines: list[str]) -> None:
    """Rewrite the lines in place, before napoleon reads the sections."""
    made: list[str] = []
    equations = in_sections = False
    for i, line in enumerate(lines):
        in_sections = in_sections or bool(SECTION.match(line))
        starts = line.startswith(" ") and (i == 0 or not lines[i - 1].strip()) and not in_sections
        if starts and not equations:
            made += ["::", ""]
            equations = True
        elif line.strip() and not line.startswith(" "):
            equations = False
        made.append(line if equations else escaped(line))
    lines[:] = made


def escaped(line: str) -> str:
    """Return a line whose ``*``, ``|`` and trailing ``_`` outside of code mean themselves."""
    pieces = MARKED.split(line)
    return "".join(SIGNS.sub(r"\\\1", piece) if i % 2 == 0 else piece for i, piece in enumerate(pieces))


def setup(app: Sphinx) -> None:
    """Connect ahead of napoleon."""
    app.connect("autodoc-process-docstring", process, priority=400)
