"""Which file of the package imports which, read from the source without importing it; run it to look for circles.

Every import statement counts, also those inside functions and those for type checkers only: a reader follows them all.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Set
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


def graph(source: Path = SOURCE, package: str = "sooner") -> dict[str, set[str]]:
    """Return every module of a package with the modules of the package that its file imports.

    Args:
        source: the folder that holds the package.
        package: its name.
    """
    files = {_module(path.relative_to(source)): path for path in sorted((source / package).rglob("*.py"))}
    return {module: _imported(module, path, files) - {module} for module, path in files.items()}


def circles(imports: Mapping[str, Set[str]]) -> list[list[str]]:
    """Return a shortest circle ``[a, b, ..., a]`` through each knot of modules that import each other."""
    found, seen = [], set[str]()
    for start in sorted(imports):
        knot = set() if start in seen else {one for one in _reached(start, imports) if start in _reached(one, imports)}
        if knot:
            seen |= knot
            found.append(_way_back(start, imports))
    return found


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(module: str, path: Path, files: Mapping[str, Path]) -> set[str]:
    home = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = home[: len(home) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from package import name` takes the file of that name where there is one, else the package's own
            found |= {full if (full := f"{base}.{alias.name}") in files else base for alias in node.names}
    return {name for name in found if name in files}


def _reached(start: str, imports: Mapping[str, Set[str]]) -> set[str]:
    """Return all that one gets to by one import or more."""
    reached, waiting = set[str](), [start]
    while waiting:
        new = imports[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached


def _way_back(start: str, imports: Mapping[str, Set[str]]) -> list[str]:
    ways = [[start]]
    for way in ways:
        for following in sorted(imports[way[-1]]):
            if following == start:
                return [*way, start]
            if all(following not in other for other in ways):
                ways.append([*way, following])
    return []


if __name__ == "__main__":
    modules = graph()
    told = [" -> ".join(circle) for circle in circles(modules)]
    print("\n".join(f"circle: {one}" for one in told) or f"no circle in the imports of {len(modules)} files")
    sys.exit(bool(told))
