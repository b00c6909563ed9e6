"""Nothing that is committed names a folder of the machine it was made on."""

import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
TOPS = ("home", "mnt", "private", "root", "scratch", "tmp", "Users", "work", "workspace")
MACHINE = re.compile(rf"(?<![\w.~)}}\]/])(?:file:/{{2,3}}|[A-Z]:)?/(?:{'|'.join(TOPS)})/[\w.-]|[A-Z]:\\\\?Users\\")
"""An absolute path below a folder that only this or that machine has; what follows a word or a host is none."""


def tracked():
    """Return the files that git tracks; in a copy without git, those that are text and no build."""
    try:
        told = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True).stdout
        return [CHECKOUT / name for name in told.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        folders = [CHECKOUT / name for name in ("evidence", "docs", "src", "tests", "benchmarks")]
        found = [path for folder in folders for path in folder.rglob("*.*") if "__pycache__" not in path.parts]
        return [*CHECKOUT.glob("*.*"), *found]


@pytest.mark.parametrize(
    ("text", "names_one"),
    [
        (f'"spec":"/{"work"}/main/src/sooner/claims/tasks/triplets.py"', True),
        (f"File '/{'home'}/ada/sooner/loop.py', line 3", True),
        (f"file:///{'tmp'}/rendezvous", True),
        (f"C:\\{'Users'}\\ada", True),
        ('"spec":"sooner/claims/tasks/triplets.py"', False),
        ("https://example.org/home/page", False),
        ("src/sooner/work/x.py and ~/work/x and {tmp}/tmp/x", False),
        ("in /proc/cpuinfo, /dev/shm and /usr/bin/env", False),
    ],
)
def test_a_path_of_a_machine_is_told_from_other_text(text, names_one):
    assert bool(MACHINE.search(text)) == names_one


def test_no_tracked_file_names_a_folder_of_a_machine():
    found = []
    for path in tracked():
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            found += [
                f"{path.relative_to(CHECKOUT)}: {text[m.start() : m.end() + 60]!r}" for m in MACHINE.finditer(text)
            ]
    assert found == []


def test_the_files_looked_at_hold_the_evidence_and_the_source():
    names = {path.relative_to(CHECKOUT).as_posix() for path in tracked()}
    assert {"evidence/muon.jsonl", "src/sooner/part.py", "docs/index.md", "README.md"} <= names
