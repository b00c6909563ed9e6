"""Which code a node of a cluster has to be sent: sooner itself, and what was imported from files of the user's own."""

from __future__ import annotations

import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from sooner.error import SoonerError
from sooner.race.engines.seat import Parcel
from sooner.race.pool import Cell

_PACKAGE = Path(__file__).absolute().parents[2]
_MOST_BYTES = 100 * 2**20


def packed(cells: Iterable[Cell]) -> Parcel:
    """Return the code that cells need: sooner, every imported module that is no part of an installation, and scripts.

    The task's file is such a module, and so is what it imports from beside it. Data that they read from files is not
    in it: it has to be where the nodes find it.

    Args:
        cells: whose payload may name files, as that of commands does.

    Raises:
        SoonerError: that is more than a node should be sent.
    """
    files = {file: file.read_bytes() for file in sorted({*_own(), *_imported(), *_named(cells)})}
    size = sum(map(len, files.values()))
    if size > _MOST_BYTES:
        largest = max(files, key=lambda file: len(files[file]))
        raise SoonerError(
            f"the modules that this race imports are {size / 2**20:.0f} MiB, too much to send to the nodes ({largest} "
            "is the largest); install them there"
        )
    installed = _installed()
    entries = [path for entry in sys.path if (path := Path(entry).absolute()).exists()]
    own = [str(entry) for entry in entries if entry == _PACKAGE.parent or not _below(entry, installed)]
    return Parcel({str(file): content for file, content in files.items()}, tuple(own), str(Path.cwd()))


def _own() -> Iterator[Path]:
    """Yield sooner's files, in the path by which it was found: a worker may need any of them."""
    return (file for file in _PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def _imported() -> Iterator[Path]:
    installed = [*_installed(), _PACKAGE]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name != "__main__" and isinstance(file, str) and file.endswith(".py"):
            path = Path(file).absolute()
            if not _below(path, installed) and path.is_file():
                yield path


def _named(cells: Iterable[Cell]) -> Iterator[Path]:
    for name in {name for cell in cells for name in cell.payload.get("files", ())}:
        path = Path(name).absolute()
        if path.is_file():
            yield path


def _installed() -> list[Path]:
    """Return the folders of installed packages and of the standard library."""
    known = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [Path(folder).absolute() for folder in [*known, *site.getsitepackages(), site.getusersitepackages()]]


def _below(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
