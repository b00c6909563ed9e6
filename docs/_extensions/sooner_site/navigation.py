"""The side bar shows the children of the section that is open, not those of all: every page would list every other.

The theme asks for the whole tree on every page, which was two thirds of the time that the site took to build.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

BEFORE_THEME = 400


def collapse(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Let the theme's tree be collapsed, whatever the theme asks for."""
    whole = context.get("toctree")
    if whole is not None:
        context["toctree"] = lambda **options: whole(**{**options, "collapse": True})


def setup(app: Sphinx) -> None:
    """Connect it, before the theme reads the tree."""
    app.connect("html-page-context", collapse, priority=BEFORE_THEME)
