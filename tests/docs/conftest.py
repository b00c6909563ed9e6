"""The site, built once for all tests that look at it, whichever process they run in."""

import os
import shutil
from pathlib import Path

import pytest
import sample_evidence
from filelock import FileLock

from sooner.claims import _evidence

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="session")
def site(tmp_path_factory, zygote):
    """Return the folder of the site, with the project's evidence and a synthetic one of every kind."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "sooner site"
    with FileLock(f"{place}.lock"):
        if not (place / "site" / "index.html").is_file():
            build(place, zygote)
    return place / "site"


def build(place, zygote):
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(_evidence.folder(), place / "evidence")
    sample_evidence.write(place / "evidence")
    (place / "pages").mkdir()
    options = ["-q", "-W", "--keep-going", "-c", DOCS, "-D", f"sooner_evidence={place / 'evidence'}"]
    words = [Path(__file__).with_name("build_site.py"), *options, "-d", place / "doctrees"]
    done = zygote.start([*words, place / "pages", place / "site"], place, "site")
    if done.wait():
        shutil.rmtree(place / "site", ignore_errors=True)
    assert done.wait() == 0, done.error.read_text()
