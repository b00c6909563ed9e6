"""How the site is built; `make docs` runs Sphinx on it, offline and with warnings as errors."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent / "src")]

from sooner.version import __version__  # noqa: E402  (this checkout, wherever another one is installed)

project = "sooner"
author = "The authors of sooner"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sooner_site"]

html_theme = "furo"
html_title = f"sooner {release}"
html_static_path = ["_static"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_search_summary = False  # it fetches pages, which browsers refuse where the site is opened from the disk
html_show_copyright = False
html_baseurl = ""  # make docs ARGS="-D html_baseurl=https://..." makes the links of the feed absolute
exclude_patterns = ["files"]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

default_role = "py:obj"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
