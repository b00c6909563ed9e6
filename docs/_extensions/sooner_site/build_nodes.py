"""Short ways to build the nodes of a page: paragraphs, links, tables, sections, and prose from docstrings."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

Cell: TypeAlias = Any
"""Text, a node, or a sequence of both."""
INLINE = re.compile(r"``(?P<two>.+?)``|`(?P<one>[^`]+)`|(?P<url>https?://[^\s,;)]+)|arXiv (?P<arxiv>\d{4}\.\d{4,5})")


def inline(content: Cell) -> list[nodes.Node]:
    """Return inline nodes; a string becomes text as it stands."""
    if isinstance(content, str):
        return [nodes.Text(content)] if content else []
    if isinstance(content, nodes.Node):
        return [content]
    return [node for item in content for node in inline(item)]


def paragraph(*content: Cell, classes: Iterable[str] = ()) -> nodes.paragraph:
    """Return a paragraph."""
    return nodes.paragraph("", "", *inline(list(content)), classes=list(classes))


def code(text: str) -> nodes.literal:
    """Return inline code."""
    return nodes.literal("", text)


def badge(verdict: str, docname: str = "") -> nodes.inline:
    """Return a verdict as a badge, linked to `docname`; its words carry the meaning, its colour only repeats it."""
    kind = verdict.split(" (")[0].replace(" ", "-")
    old = ["old"] if "(" in verdict else []
    content = page(docname, verdict) if docname else nodes.Text(verdict)
    return nodes.inline("", "", content, classes=["verdict", kind, *old])


def page(docname: str, label: Cell) -> addnodes.pending_xref:
    """Return a link to another page of the site."""
    return _reference("std", "doc", f"/{docname}", label)


def python(name: str, kind: str = "class", label: str = "") -> addnodes.pending_xref:
    """Return a link into the reference of the Python interface."""
    return _reference("py", kind, name, code(label or name))


def _reference(domain: str, kind: str, target: str, label: Cell) -> addnodes.pending_xref:
    more = {"refdomain": domain, "reftype": kind, "reftarget": target, "refexplicit": True, "refwarn": True}
    return addnodes.pending_xref("", nodes.inline("", "", *inline(label)), **more)


def url(address: str, label: str) -> nodes.reference:
    """Return a link that leaves the site, or leads to one of its plain files."""
    return nodes.reference("", label, refuri=address, internal=False)


def section(directive: SphinxDirective, title: str, *content: nodes.Node) -> nodes.section:
    """Return a section of its own, with an anchor made of its title."""
    made = nodes.section("", nodes.title("", title), *content, names=[nodes.fully_normalize_name(title)])
    directive.state.document.note_implicit_target(made, made)
    return made


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]], classes: Iterable[str] = ()) -> nodes.container:
    """Return a table inside a box that scrolls by itself where the window is narrow."""
    group = nodes.tgroup("", *(nodes.colspec("", colwidth=1) for _ in headings), cols=len(headings))
    group += nodes.thead("", _row(headings))
    group += nodes.tbody("", *map(_row, rows))
    made = nodes.table("", group, classes=[*classes, "colwidths-auto"])
    return nodes.container("", made, classes=["wide-table"])


def _row(cells: Sequence[Cell]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", paragraph(cell)) for cell in cells))


def facts(pairs: Iterable[tuple[str, Cell]]) -> nodes.field_list:
    """Return names and values under each other."""
    made = nodes.field_list()
    for name, value in pairs:
        made += nodes.field("", nodes.field_name("", name), nodes.field_body("", paragraph(value)))
    return made


def prose(text: str) -> list[nodes.Node]:
    """Return a docstring's text as nodes: paragraphs, lists with "- ", and indented blocks as they stand."""
    made: list[nodes.Node] = []
    for block in filter(None, re.split(r"\n\s*\n", textwrap.dedent(text).strip("\n"))):
        if block.startswith(" "):
            plain = textwrap.dedent(block)
            if made and isinstance(made[-1], nodes.literal_block):
                plain = made.pop().astext() + "\n\n" + plain
            made.append(nodes.literal_block(plain, plain, language="none"))
        elif block.startswith("- "):
            items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
            made.append(nodes.bullet_list("", *(nodes.list_item("", paragraph(words(item))) for item in items)))
        else:
            made.append(paragraph(words(block)))
    return made


def words(text: str) -> list[nodes.Node]:
    """Return a line of a docstring with its code, addresses and arXiv numbers marked up."""
    text, made, last = " ".join(text.split()), [], 0
    for found in INLINE.finditer(text):
        made += inline(text[last : found.start()])
        last = found.end()
        if found["url"]:
            address = found["url"].rstrip(".")
            last -= len(found["url"]) - len(address)
            made.append(url(address, address.removeprefix("https://")))
        elif found["arxiv"]:
            made.append(url(f"https://arxiv.org/abs/{found['arxiv']}", found[0]))
        else:
            made.append(code(found["two"] or found["one"]))
    return [*made, *inline(text[last:])]
