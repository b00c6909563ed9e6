import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sooner.link import Lab, run

RANK = Path(__file__).with_name("link_rank.py")
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="session")
def namespaces():
    """Skip where this system refuses network namespaces, or the programs that set them up are missing."""
    if not sys.platform.startswith("linux"):
        pytest.skip("network namespaces exist on Linux only")
    try:
        made = run(["true"], Lab(rate=1e9), echo="hide")
    except ValueError as error:
        pytest.skip(str(error))
    if not made.measured:
        pytest.skip(f"no network namespaces here: {made.refusal}")


@pytest.fixture
def ranks():
    """Run a function of link_rank.py on every rank of a lab."""

    def start(lab, *words):
        return run([sys.executable, str(RANK), *map(str, words)], lab, echo="hide")

    return start


@pytest.fixture
def sooner():
    """The command line as a process: its words, and a call that runs it to the end."""
    words = [sys.executable, "-c", "from sooner.cli import main; main()", "link"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "160", "OMP_NUM_THREADS": "1"}

    def call(*more, path=None):
        wanted = environment if path is None else {**environment, "PATH": path}
        done = subprocess.run([*words, *map(str, more)], env=wanted, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    return SimpleNamespace(words=words, environment=environment, call=call, json=lambda told: json.loads(told.out))
