import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from forked_workers import forked

from sooner.cli import main

SOURCE = Path(__file__).parents[2] / "src"
RACE = ["race", "quadratic", "--recipes", "sgd(lr=0.02); sgd(lr=log(0.01, 1)); sgd(lr=1e6)"]
RACE += ["--steps", "60", "--tune", "2", "--seeds", "8", "--jobs", "2"]


def environment():
    return {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def program():
    """The command line as a process of its own: the words to start it with, and its environment."""
    return SimpleNamespace(
        words=[sys.executable, "-c", "from sooner.cli import main; main()"], environment=environment(), race=RACE
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory, begin):
    """A race from the command line, cost and all: folder, command, standard output and error."""
    folder = tmp_path_factory.mktemp("cli") / "race"
    done = begin(*RACE, "--out", folder)
    assert done.wait() == 0, done.error.read_text()
    return SimpleNamespace(folder=folder, out=done.out.read_text(), err=done.error.read_text())


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path, zygote):
    """Runs the command line in this process, in a folder of its own: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sooner", *map(str, words)])
        monkeypatch.setattr(sys, "path", [*sys.path])
        code = 0
        try:
            with forked(zygote):
                main()
        except SystemExit as end:
            code = end.code or 0
        told = capsys.readouterr()
        return SimpleNamespace(code=code, out=told.out, err=told.err)

    return run
