"""Fills the source directory of a build: the written pages, those of the repository's top, and the generated ones.

Links between files are rewritten where a page has moved, so the same text works on GitHub and in the site. A link to a
file that is no page leads to a copy of it.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from sphinx.errors import ExtensionError

from sooner_site import reference
from sooner_site.snapshot import taken

MOVED = {"CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md", "benchmarks/README.md": "benchmarks.md"}
FOLDERS = {"docs/decisions": "decisions/index.md", "docs": "index.md"}
LINK = re.compile(r"(?P<start>\]\()(?P<target>[^()\s#]+)(?P<anchor>#[^()\s]*)?(?P<end>\))")
FENCE = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


def fill(docs: Path, target: Path) -> None:
    """Replace what `target` holds by the pages of a build."""
    for old in target.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    root = docs.parent
    written = [file for file in docs.rglob("*.md") if not any(p.startswith("_") for p in file.relative_to(docs).parts)]
    homes = {file.relative_to(root).as_posix(): file.relative_to(docs).as_posix() for file in written} | MOVED
    for source, home in homes.items():
        text = (root / source).read_text(encoding="utf-8")
        put(target, home, relinked(text, root, source, homes, target))
    for home, text in {**generated(), **reference.generated()}.items():
        put(target, home, text)
    complete(target, [home.removesuffix(".md") for home in homes.values()])


def put(target: Path, home: str, text: str) -> None:
    """Write one page."""
    (target / home).parent.mkdir(parents=True, exist_ok=True)
    (target / home).write_text(text, encoding="utf-8")


def relinked(text: str, root: Path, source: str, homes: dict[str, str], target: Path) -> str:
    """Return a page's text with its links to files of the repository pointing to where these are in the site."""
    here = homes[source]

    def move(found: re.Match[str]) -> str:
        if ":" in found["target"]:
            return found[0]
        file = os.path.normpath(Path(source).parent / found["target"])
        home = homes.get(file) or FOLDERS.get(file)
        if home is None and (root / file).is_file():
            home = f"files/{file}"
            put_copy(root / file, target / home)
        if home is None:
            # A page that is generated, or a mistake: Sphinx finds out which.
            return found[0]
        return f"{found['start']}{os.path.relpath(home, Path(here).parent)}{found['anchor'] or ''}{found['end']}"

    pieces = FENCE.split(text)
    return "".join(piece if i % 2 else LINK.sub(move, piece) for i, piece in enumerate(pieces))


def put_copy(file: Path, place: Path) -> None:
    """Copy a file that is linked but is no page."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)


def generated() -> dict[str, str]:
    """Return the pages that code and evidence make, as stubs around the directives that build them."""
    made = {}
    for name in taken().parts:
        made[f"parts/{name}.md"] = stub(name, f"sooner-part {name}")
    for name in taken().evidence:
        made[f"evidence/{name}.md"] = stub(f"Evidence: {name}", f"sooner-evidence {name}")
    return made


def stub(title: str, directive: str) -> str:
    """Return a page of one directive."""
    name, _, argument = directive.partition(" ")
    return f"# {title}\n\n```{{{name}}} {argument}\n```\n"


def contents(pages: list[str], caption: str = "") -> str:
    """Return a hidden table of contents."""
    options = ":hidden:\n" + (f":caption: {caption}\n" if caption else "")
    return "\n```{toctree}\n" + options + "\n" + "\n".join(pages) + "\n```\n"


def complete(target: Path, written: list[str]) -> None:
    """Give every page a place in the contents, those too that no other page names yet."""
    index = target / "index.md"
    text = index.read_text(encoding="utf-8")
    top = [page for page in written if "/" not in page and page != "index"]
    lists = re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL)
    listed = {line.strip() for one in lists for line in one.split("\n")}
    rest = sorted(page for page in top if page not in listed)
    index.write_text(text + (contents(rest, "More") if rest else ""), encoding="utf-8")
    snapshot = taken()
    children = {
        "parts/index.md": sorted(snapshot.parts),
        "evidence/index.md": [f"{name} <{name}>" for name in sorted(snapshot.evidence)],
        "workloads/README.md": below("workloads", written),
        "adding-a-part.md": [f"adding/{name}" for name in below("adding", written)],
        "decisions/index.md": below("decisions", written),
    }
    for page, names in children.items():
        if not (target / page).is_file():
            raise ExtensionError(f"docs/{page} is missing: it leads to the pages of its folder")
        if names:
            put(target, page, (target / page).read_text(encoding="utf-8") + contents(names))


def below(folder: str, written: list[str]) -> list[str]:
    """Return the written pages of a folder but for its first one."""
    names = [page.removeprefix(f"{folder}/") for page in written if page.startswith(f"{folder}/")]
    return sorted(name for name in names if name not in ("index", "README"))
