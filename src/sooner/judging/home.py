"""Where a ledger is: in a folder at the root of the repository, or of the present folder where there is none."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sooner.error import SoonerError
from sooner.judging.sides import Repository

FOLDER = ".sooner"


def home_of(here: Path, repository: Repository | None) -> Path:
    """Return the folder of the ledger: at the root of the repository, where there is one."""
    if repository is None:
        with suppress(SoonerError):
            repository = Repository(here)
    return (here if repository is None else repository.root) / FOLDER
