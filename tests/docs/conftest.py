"""The site, built once for all tests that look at it, whichever process they run in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sample_evidence
from filelock import FileLock

from sooner.claims import _evidence

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Return the folder of the site, with the project's evidence and a synthetic one of every kind."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "sooner site"
    with FileLock(f"{place}.lock"):
        if not (place / "site" / "index.html").is_file():
            build(place)
    return place / "site"


def build(place):
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(_evidence.folder(), place / "evidence")
    sample_evidence.write(place / "evidence")
    (place / "pages").mkdir()
    folders = [str(place / name) for name in ("pages", "site")]
    options = ["-q", "-W", "--keep-going", "-c", str(DOCS), "-D", f"sooner_evidence={place / 'evidence'}"]
    command = [sys.executable, "-m", "sphinx", *options, "-d", str(place / "doctrees"), *folders]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(DOCS.parent / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(place / "site", ignore_errors=True)
    assert done.returncode == 0, done.stderr
