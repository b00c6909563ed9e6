"""The ledger: whole lines or none, whoever writes and however it ends."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sooner.error import SoonerError
from sooner.judging.ledger import FILE, Ledger, claimed, prepare
from sooner.judging.stream import level

SOURCE = Path(__file__).parents[2] / "src"
ABOUT = {"baseline": "a", "candidate": "b", "command": "c", "metric": "loss", "higher_is_better": False}


def begun(folder):
    prepare(folder)
    ledger = Ledger(folder)
    with ledger.alone():
        ledger.begin(None)
    return ledger


def test_it_comes_back_as_it_was_written(tmp_path):
    ledger = begun(tmp_path)
    with ledger.alone():
        first = ledger.comparison("x", ABOUT)["first_seed"]
        ledger.add("run", f"x/baseline/{first}", {"value": float("nan")})
        assert ledger.enter("x") == (1, level(1, [], 0.05))
        ledger.add("verdict", "x", {"outcome": "better"})
        assert ledger.comparison("y", ABOUT)["first_seed"] == first + 1000
        assert ledger.enter("y") == (2, level(2, [1], 0.05))
        assert ledger.enter("x") == (1, level(1, [], 0.05))
    again = Ledger(tmp_path)
    assert [(r.kind, r.key) for r in again.records] == [(r.kind, r.key) for r in ledger.records]
    assert again.discoveries() == [1]
    assert (tmp_path / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("end", [b'{"kind":"ru', b'{"kind":"run","key":"torn"}\n', b"\0\0\0\0"])
def test_a_torn_end_is_cut_off(tmp_path, end):
    ledger = begun(tmp_path)
    with ledger.path.open("ab") as file:
        file.write(end)
    again = Ledger(tmp_path)
    assert len(again.records) == 1
    with again.alone():
        again.add("run", "k", {"value": 1.0})
    assert [r.key for r in Ledger(tmp_path).records] == ["", "k"]


def test_damage_in_the_middle_is_told(tmp_path):
    ledger = begun(tmp_path)
    with ledger.alone():
        ledger.add("run", "k", {"value": 1.0})
        ledger.add("run", "l", {"value": 2.0})
    text = ledger.path.read_bytes()
    ledger.path.write_bytes(text.replace(b'"value":1.0', b'"value":1.5'))
    with pytest.raises(SoonerError, match="line 2 is damaged"):
        Ledger(tmp_path)
    assert b'"value":1.5' in ledger.path.read_bytes()


def test_another_file_is_no_ledger(tmp_path):
    (tmp_path / FILE).write_text("hello\nthere\n")
    with pytest.raises(SoonerError, match="line 1 is damaged"):
        Ledger(tmp_path)


def test_one_ledger_has_one_budget(tmp_path):
    ledger = begun(tmp_path)
    with ledger.alone(), pytest.raises(SoonerError, match=r"allows a share of 0.05 .* --q asks for 0.1"):
        ledger.begin(0.1)
    with ledger.alone():
        ledger.begin(0.05)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    ledger = begun(tmp_path)
    before = ledger.path.read_bytes()
    write = os.write
    calls = []

    def full(descriptor, data):
        if calls:
            raise OSError(errno.ENOSPC, "No space left on device")
        calls.append(1)
        return write(descriptor, data[:10])

    monkeypatch.setattr(os, "write", full)
    with ledger.alone(), pytest.raises(SoonerError, match="no space left"):
        ledger.add("run", "k", {"value": 1.0})
    monkeypatch.undo()
    assert ledger.path.read_bytes() == before


WRITER = """
import sys
from pathlib import Path
from sooner.judging.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for i in range(20):
    with ledger.alone():
        ledger.comparison(f"{sys.argv[2]}-{i}", {"metric": "loss"})
        ledger.enter(f"{sys.argv[2]}-{i}")
"""


def test_two_processes_at_once_share_one_stream(tmp_path):
    begun(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    both = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], env=environment) for name in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    ledger = Ledger(tmp_path)
    numbers = sorted(r.data["number"] for r in ledger.all("level").values())
    assert numbers == list(range(1, 41))
    seeds = {r.data["first_seed"] for r in ledger.all("comparison").values()}
    assert len(seeds) == 40


def test_nobody_judges_what_another_judges(tmp_path):
    with claimed(tmp_path, "k"), pytest.raises(SoonerError, match="another process is judging"), claimed(tmp_path, "k"):
        pass
    with claimed(tmp_path, "k"):
        pass
