"""The report of a race as one HTML file that needs no network: text, tables, plots, and the result itself as JSON."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sooner.error import SoonerError
from sooner.foundation.strict_json import strict
from sooner.report import details, figures, words
from sooner.report.figures.base import COLOURS, dash, labels
from sooner.report.figures.curves import AGAIN
from sooner.report.numbers import plain

# How an SVG line is dashed to look like Plotly's line of the same name.
STROKES = {"solid": "none", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "12 4"}


def write(result: dict[str, Any], path: Path) -> Path:
    """Write the report of `result` and return its path; missing folders are made, an old report is replaced whole.

    Raises:
        SoonerError: where the file cannot be written.
    """
    return store(page(result), Path(path))


def store(text: str, path: Path) -> Path:
    """Write a page and return its path; missing folders are made, an old page is replaced whole.

    Raises:
        SoonerError: where the file cannot be written.
    """
    content = text.encode("utf-8", errors="replace")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(content)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise SoonerError(
            f"cannot write the report to {path} ({reason}); name a file in a folder that you may write to"
        ) from None
    return path


def _environment() -> Environment:
    """Return the templates of the pages."""
    made = Environment(
        loader=PackageLoader("sooner.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["plain"] = plain
    return made


def render(template: str, **content: Any) -> str:
    """Return a page that needs nothing from elsewhere: it has its styles, its scripts and plotly.js inside."""
    from plotly.offline import get_plotlyjs  # late, as it costs time that only a report should pay

    made = _environment()
    assert made.loader is not None
    style, *scripts = (made.loader.get_source(made, name)[0] for name in ("style.css", "plots.js", "script.js"))
    script, plotly = "".join(scripts), get_plotlyjs()
    return made.get_template(template).render(
        policy=policy(plotly, script), style=Markup(style), script=Markup(script), plotly=Markup(plotly), **content
    )


def page(result: dict[str, Any]) -> str:
    """Return the report of `result` as HTML."""
    result = finite(result)
    drawn = figures.build(result)
    return render(
        "page.html.j2",
        result=result,
        words=words,
        details=details,
        legends={name: legend(figure, result) for name, figure in drawn.items()},
        logarithmic=[name for name, figure in drawn.items() if (figure.get("ranges") or {}).get("log")],
        heights={name: figure["layout"]["height"] for name, figure in drawn.items()},
        contenders=words.ordered(result),
        colours=COLOURS,
        figures=embed(drawn),
        data=embed(result),
    )


def legend(figure: figures.Figure, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of a figure's legend: group, name, colour number, line style, whether it starts hidden."""
    names = labels(result)
    entries: dict[str, dict[str, Any]] = {}
    for trace in figure["data"]:
        group = trace.get("legendgroup")
        if group is None:
            continue
        position = 0 if group == AGAIN else int(group)
        entries[group] = {
            "group": group,
            "name": "the baseline again, other seeds (A/A)" if group == AGAIN else names[position],
            "colour": position % COLOURS,
            "stroke": STROKES[dash(position)],
            "hidden": trace.get("visible") is False,
        }
    return list(entries.values())


def finite(value: Any) -> Any:
    """Return `value` with None for every number that is not finite, which JSON cannot hold."""
    return strict(value, lambda number: None)


def embed(value: Any) -> Markup:
    """Return `value` as JSON that may stand inside a script element: no "<" that could end it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def policy(*scripts: str) -> str:
    """Return a content security policy: nothing is loaded, and no script runs but the given ones."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
