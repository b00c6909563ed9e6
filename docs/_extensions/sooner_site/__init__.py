"""The extension that turns the project into its site: pages from docs/, and pages generated from code and evidence.

Sphinx is started with an empty source directory (``sphinx-build -c docs build/pages build/site``). Before it looks for
pages, `pages.fill` copies the written ones there and adds the generated ones, so nothing generated lies in docs/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

from sooner_site import (
    architecture,
    assets,
    catalogue,
    docstrings,
    evidence_page,
    feed,
    lab_page,
    mathematics,
    navigation,
    news,
    pages,
    part_card,
    verdicts,
)
from sooner_site.snapshot import take


def fill(app: Sphinx, config: Config) -> None:
    """Fill the source directory, and take the snapshot of the evidence that all pages of this build show."""
    if app.srcdir == app.confdir:
        raise ExtensionError("build the site with `make docs`: its pages are generated into a directory of their own")
    take(Path(config.sooner_evidence) if config.sooner_evidence else None)
    pages.fill(Path(app.confdir), Path(app.srcdir))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect everything."""
    app.add_config_value("sooner_evidence", "", "env", str)
    app.connect("config-inited", fill)
    for module in (
        architecture,
        assets,
        catalogue,
        docstrings,
        evidence_page,
        feed,
        lab_page,
        mathematics,
        navigation,
        news,
        part_card,
        verdicts,
    ):
        module.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
