"""Tasks whose data comes with another package say in one sentence what is missing."""

import sys
import sysconfig

import pytest

from sooner.error import SoonerError
from sooner.workloads import _digits, charlm, digits


@pytest.fixture
def empty_caches():
    charlm._text.cache_clear()
    _digits.divided.cache_clear()
    yield
    charlm._text.cache_clear()
    _digits.divided.cache_clear()


@pytest.mark.usefixtures("empty_caches")
def test_charlm_without_the_standard_library_as_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "python311.zip")})
    with pytest.raises(SoonerError, match=r"python311\.zip.*0 of its files"):
        charlm.batches(0, "train")[0]


@pytest.mark.usefixtures("empty_caches")
def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SoonerError, match=r"pip install sooner\[digits\]"):
        digits.batches(0, "train")[0]


@pytest.mark.usefixtures("empty_caches")
def test_charlm_reads_line_endings_and_unknown_bytes_alike_everywhere(tmp_path, monkeypatch):
    for number in range(60):
        (tmp_path / f"m{number:02}.py").write_bytes("a\r\né\t".encode())
    (tmp_path / "_build_paths.py").write_bytes(b"machine-specific")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    newline, letter, unknown = 1, 1 + charlm.ALPHABET.index(b"a"), 0
    first = charlm._text("train")[:6].tolist()
    assert first == [
        letter,
        newline,
        unknown,
        unknown,
        unknown,
        newline,
    ]  # é is two bytes; files are joined by newlines
    assert len(charlm._text("eval")) == 6 * 6 - 1
