import errno
import json
import math
import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.race import journal as journal_module
from sooner.race.journal import Journal, read
from sooner.race.journal_lines import DamagedError, canonical, decode, encode, read_line, write_line

IDENTITY = {"task": {"spec": "charlm", "steps": 400}, "recipes": ["adamw", "muon"], "rules": "1"}
PROVENANCE = {"command": "sooner race charlm muon", "versions": {"torch": "2.13"}}

finite_or_not = st.floats(allow_nan=True, allow_infinity=True)
content = st.recursive(
    st.none() | st.booleans() | st.integers() | finite_or_not | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.sampled_from(["float", "crc32"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def start(folder: Path, identity=IDENTITY, provenance=PROVENANCE) -> Journal:
    return Journal.open(folder, identity, provenance)


def small_race(folder: Path, cells: int = 3) -> bytes:
    """Write a race with some cells and return the bytes of its journal."""
    with start(folder) as journal:
        for index in range(cells):
            journal.append("cell", f"cell-{index}", {"values": [0.1 * index, math.inf], "seed": index})
    return (folder / "journal.jsonl").read_bytes()


def bits(value):
    """The same content with every float as its 64 bits (any NaN as one)."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, list):
        return [bits(item) for item in value]
    return type(value), value


@given(st.dictionaries(st.text() | st.just("float"), content, max_size=4), st.text(), st.text(min_size=1))
def test_a_line_comes_back_bit_for_bit(data, key, kind):
    line = write_line(kind, key, data)
    assert line.count(b"\n") == 1
    json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not strict JSON"))
    record = read_line(line[:-1])
    assert (record.kind, record.key) == (kind, key)
    assert bits(record.data) == bits(data)
    assert list(record.data) == list(data)


@given(content)
def test_encoding_is_one_to_one(value):
    assert bits(decode(json.loads(canonical(encode(value))))) == bits(value)


@given(st.data())
def test_any_changed_byte_is_noticed(data):
    line = write_line("cell", "a", {"x": [1.5, "text", None, math.nan]})[:-1]
    index = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != line[index]))
    changed = line[:index] + bytes([byte]) + line[index + 1 :]
    with pytest.raises(DamagedError):
        read_line(changed)


@pytest.mark.parametrize("data", [{"x": {1: 2}}, {"x": b"bytes"}, {"x": {1, 2}}, {"x": object()}, ["not a dict"]])
def test_content_that_json_would_lose_is_refused_and_nothing_is_written(tmp_path, data):
    with start(tmp_path / "race") as journal:
        before = (tmp_path / "race" / "journal.jsonl").read_bytes()
        with pytest.raises(TypeError, match=r"journal holds|is a dict"):
            journal.append("cell", "a", data)
    assert (tmp_path / "race" / "journal.jsonl").read_bytes() == before


def test_a_race_is_resumed_with_all_it_had(tmp_path):
    folder = tmp_path / "deep" / "er" / "race"
    with start(folder) as journal:
        assert journal.find("cell", "a") is None
        journal.append("cell", "a", {"loss": 0.1, "curve": (1, 2)})
        journal.append("cell", "a", {"loss": 0.2})
        journal.append("failure", "a", {"cause": "killed"})
        live = journal.find("cell", "a"), journal.all("cell")
    with start(folder, provenance={"command": "again"}) as journal:
        assert (journal.find("cell", "a"), journal.all("cell")) == live
        assert journal.find("cell", "a") == {"loss": 0.2}
        assert [record.data for record in journal.all("cell")] == [{"loss": 0.1, "curve": [1, 2]}, {"loss": 0.2}]
        assert journal.identity == IDENTITY
        assert [session.data for session in journal.sessions] == [PROVENANCE, {"command": "again"}]
        assert [session.key for session in journal.sessions] == ["1", "2"]
        assert journal.notes == []
        assert journal.folder == folder


def test_what_find_returns_is_the_callers_own(tmp_path):
    with start(tmp_path / "race") as journal:
        journal.append("cell", "a", {"curve": [1]})
        journal.find("cell", "a")["curve"].append(2)
        journal.all("cell")[0].data["curve"].append(3)
        journal.identity["task"]["steps"] = 0
        assert journal.find("cell", "a") == {"curve": [1]}
        assert journal.identity == IDENTITY


def test_every_record_is_on_the_disk_before_append_returns(tmp_path, monkeypatch):
    forced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (forced.append(os.fstat(descriptor).st_ino), fsync(descriptor)))
    folder = tmp_path / "race"
    with start(folder) as journal:
        file = (folder / "journal.jsonl").stat().st_ino
        assert {file, folder.stat().st_ino, tmp_path.stat().st_ino} == set(forced)
        forced.clear()
        journal.append("cell", "a", {})
        journal.append("cell", "b", {})
        assert forced == [file, file]


def test_a_closed_journal_takes_nothing(tmp_path):
    journal = start(tmp_path / "race")
    journal.close()
    journal.close()
    with pytest.raises(ValueError, match="closed"):
        journal.append("cell", "a", {})


@pytest.mark.parametrize("cells", [0, 2])
def test_a_tail_torn_at_any_byte_is_removed_and_the_rest_kept(tmp_path, monkeypatch, cells):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of them take seconds on a busy disk
    folder = tmp_path / "race"
    whole = small_race(folder, cells)
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    path = folder / "journal.jsonl"
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        seen = read(folder)
        assert path.read_bytes() == whole[:cut]
        assert len(seen.notes) == (cut > last)
        with start(folder) as journal:
            assert len(journal.notes) == (cut > last)
            assert [record.key for record in journal.all("cell")] == [f"cell-{n}" for n in range(max(0, cells - 1))]
            journal.append("cell", "next", {})
        content = path.read_bytes()
        assert content.startswith(whole[:last])
        for line in content.splitlines():
            read_line(line)


def test_a_first_record_torn_at_any_byte_is_a_new_race(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of them take seconds on a busy disk
    folder = tmp_path / "race"
    first = small_race(folder).split(b"\n")[0]
    for cut in range(len(first) + 1):
        (folder / "journal.jsonl").write_bytes(first[:cut])
        with pytest.raises(SoonerError, match="no race in"):
            read(folder)
        with start(folder) as journal:
            assert len(journal.notes) == (cut > 0)
            assert len(journal.sessions) == 1


@pytest.mark.parametrize(
    "tail", [b"\0" * 50, b"garbage", b"garbage\n", b'{"kind": "cell"}\n', b"[" * 100_000, b"\xff\xfe\n"]
)
def test_a_tail_of_garbage_is_torn_too(tmp_path, tail):
    folder = tmp_path / "race"
    whole = small_race(folder)
    (folder / "journal.jsonl").write_bytes(whole + tail)
    with start(folder) as journal:
        assert f"({len(tail)} bytes)" in journal.notes[0]
        assert len(journal.all("cell")) == 3
    assert (folder / "journal.jsonl").read_bytes().startswith(whole + b'{"kind":"session"')


def test_a_last_record_with_a_wrong_checksum_is_torn(tmp_path):
    folder = tmp_path / "race"
    whole = small_race(folder)
    (folder / "journal.jsonl").write_bytes(whole.replace(b'"seed":2', b'"seed":3'))
    with start(folder) as journal:
        assert [record.key for record in journal.all("cell")] == ["cell-0", "cell-1"]


@pytest.mark.parametrize(("line", "change"), [(1, b"x"), (2, b""), (3, b"{}"), (4, b"\0\0")])
def test_damage_before_the_end_names_the_line_and_overwrites_nothing(tmp_path, line, change):
    folder = tmp_path / "race"
    lines = small_race(folder).split(b"\n")
    lines[line - 1] = change
    path = folder / "journal.jsonl"
    path.write_bytes(b"\n".join(lines))
    for opener in (start, read):
        with pytest.raises(SoonerError, match=rf"journal\.jsonl: line {line} is damaged .* 4 other records are intact"):
            opener(folder)
    assert path.read_bytes() == b"\n".join(lines)


def test_several_damaged_lines_are_all_named(tmp_path):
    folder = tmp_path / "race"
    lines = small_race(folder).split(b"\n")
    lines[1] = lines[3] = b"?"
    (folder / "journal.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(SoonerError, match="lines 2, 4 are damaged"):
        start(folder)


def line_of(record: dict) -> bytes:
    text = canonical(record)
    return f'{text[:-1]},"crc32":"{zlib.crc32(text.encode()):08x}"}}\n'.encode()


TIME = "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"kind": "cell", "key": "a", "time": TIME}, "data"),
        ({"kind": "", "key": "a", "time": TIME, "data": {}}, "kind"),
        ({"kind": "cell", "key": 1, "time": TIME, "data": {}}, "key"),
        ({"kind": "cell", "key": "a", "time": "yesterday", "data": {}}, "time"),
        ({"kind": "cell", "key": "a", "time": "2026-01-01T00:00:00", "data": {}}, "zone"),
        ({"kind": "cell", "key": "a", "time": TIME, "data": [1]}, "data"),
        ({"kind": "cell", "key": "a", "time": TIME, "data": {"float": "nan"}}, "data"),
        ({"kind": "cell", "key": "a", "time": TIME, "data": {"x": {"float": []}}}, "data"),
        ({"kind": "cell", "key": "a", "time": TIME, "data": {}, "extra": 1}, "extra"),
    ],
)
def test_an_intact_record_of_another_shape_is_an_error_even_at_the_end(tmp_path, record, why):
    folder = tmp_path / "race"
    whole = small_race(folder)
    (folder / "journal.jsonl").write_bytes(whole + line_of(record))
    with pytest.raises(SoonerError, match=rf"line 6 is not a record that this version of sooner reads \(.*{why}"):
        start(folder)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"kind": "cell", "key": "", "time": TIME, "data": {}}, "the first record must be of the kind 'race'"),
        ({"kind": "race", "key": "", "time": TIME, "data": {"format": 1, "identity": {}}}, r"data\.provenance"),
        (
            {"kind": "race", "key": "", "time": TIME, "data": {"format": 2, "identity": {}, "provenance": {}}},
            "its format is 2, known is 1",
        ),
    ],
)
def test_a_first_record_of_another_shape_is_an_error(tmp_path, record, why):
    (tmp_path / "journal.jsonl").write_bytes(line_of(record))
    with pytest.raises(SoonerError, match=rf"line 1 is not a record that this version of sooner reads \({why}"):
        start(tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden"])
def test_a_folder_of_something_else_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(SoonerError, match="is not a race folder"):
        start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("text", ["another program's journal", '{"event": "start"}\n', "one\ntwo\nthree\n"])
def test_a_journal_of_another_program_is_left_alone(tmp_path, text):
    (tmp_path / "journal.jsonl").write_text(text)
    with pytest.raises(SoonerError, match="was not written by sooner"):
        start(tmp_path)
    assert (tmp_path / "journal.jsonl").read_text() == text


def test_an_empty_folder_an_empty_journal_and_a_lock_alone_are_new_races(tmp_path):
    for number, names in enumerate([[], ["journal.jsonl"], ["lock"], ["lock", "journal.jsonl"]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in names:
            (folder / name).touch()
        with start(folder) as journal:
            assert journal.notes == []
            assert len(journal.sessions) == 1


@pytest.mark.parametrize("below", ["file", "file/race", "file/deep/race"])
def test_a_file_where_the_folder_should_be(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SoonerError, match="cannot write in"):
        start(tmp_path / below)
    with pytest.raises(SoonerError, match="no race in"):
        read(tmp_path / below)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch, code):
    def refuse(*arguments, **options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SoonerError, match=r"cannot write in .*make it writable, or choose another --out"):
        start(tmp_path / "race")


def test_reading_where_there_is_no_race(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SoonerError, match="no race in"):
            read(folder)
    assert list(tmp_path.iterdir()) == []


def test_reading_a_journal_that_cannot_be_read(tmp_path):
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(SoonerError, match="cannot read"):
        read(tmp_path)


def test_reading_while_the_race_runs(tmp_path):
    with start(tmp_path / "race") as journal:
        journal.append("cell", "a", {"loss": math.nan})
        view = read(tmp_path / "race")
        assert view.identity == IDENTITY
        assert math.isnan(view.find("cell", "a")["loss"])
        assert view.notes == []
        journal.append("cell", "b", {})
        assert read(tmp_path / "race").find("cell", "b") == {}


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ({**IDENTITY, "rules": "2"}, 'rules: "1" -> "2"'),
        ({**IDENTITY, "task": {"spec": "charlm", "steps": 800}}, "task.steps: 400 -> 800"),
        ({**IDENTITY, "recipes": ["adamw", "muon", "lion"]}, 'recipes[2]: nothing -> "lion"'),
        ({**IDENTITY, "recipes": ["sgd"]}, 'recipes[0]: "adamw" -> "sgd"; recipes[1]: "muon" -> nothing'),
        ({"task": IDENTITY["task"], "recipes": IDENTITY["recipes"]}, 'rules: "1" -> nothing'),
        ({**IDENTITY, "rules": "1" * 500}, f'rules: "1" -> "{"1" * 58}…'),
        ({**IDENTITY, "a": 1, "b": 2, "c": 3, "d": 4}, "c: nothing -> 3 (and 1 more)"),
        ({**IDENTITY, "rules": math.nan}, 'rules: "1" -> {"float":"nan"}'),
    ],
)
def test_another_identity_is_refused_field_by_field(tmp_path, new, said):
    folder = tmp_path / "race"
    whole = small_race(folder) + b'{"torn'
    (folder / "journal.jsonl").write_bytes(whole)
    (tmp_path / "race-2").mkdir()
    with pytest.raises(SoonerError) as caught:
        start(folder, new)
    assert said in str(caught.value)
    assert f"such as {tmp_path / 'race-3'}" in str(caught.value)
    assert (folder / "journal.jsonl").read_bytes() == whole
    with start(folder):  # the refusal has given the lock back
        pass


def test_the_same_identity_in_another_order_or_with_tuples_is_the_same(tmp_path):
    small_race(tmp_path / "race")
    same = dict(reversed(list({**IDENTITY, "recipes": tuple(IDENTITY["recipes"])}.items())))
    with start(tmp_path / "race", same) as journal:
        assert len(journal.all("cell")) == 3


def test_a_not_a_number_in_the_identity_equals_itself(tmp_path):
    for _ in range(2):
        with start(tmp_path / "race", {"x": math.nan, "y": [-0.0]}) as journal:
            assert math.isnan(journal.identity["x"])


def test_two_races_cannot_share_a_folder(tmp_path):
    with start(tmp_path / "race"), pytest.raises(SoonerError, match=rf"process {os.getpid()}\) is running in"):
        start(tmp_path / "race")
    with start(tmp_path / "race") as journal:
        assert len(journal.sessions) == 2


HOLDER = """
import subprocess, sys, time
from pathlib import Path
from sooner.race.journal import Journal
journal = Journal.open(Path(sys.argv[1]), {}, {})
journal.append("cell", "a", {"loss": 0.5})
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_the_lock_vanishes_with_a_killed_holder_even_if_its_children_live(tmp_path):
    folder = tmp_path / "race"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert int(holder.stdout.readline()) > 0
            with pytest.raises(SoonerError, match=rf"process {holder.pid}\) is running in .*race-2"):
                start(folder, {})
        finally:
            holder.send_signal(signal.SIGKILL)
    with start(folder, {}) as journal:
        assert journal.find("cell", "a") == {"loss": 0.5}


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(journal_module.fcntl, "flock", refuse)
    with pytest.raises(SoonerError, match="No locks available"):
        start(tmp_path / "race")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, code, room):
    folder = tmp_path / "race"
    write = os.write
    left = room

    def full(descriptor, content):
        nonlocal left
        if not left:
            raise OSError(code, os.strerror(code))
        done = write(descriptor, content[:left])
        left -= done
        return done

    with start(folder) as journal:
        journal.append("cell", "a", {"loss": 0.5})
        journal.append("plan", "", {})
        before = (folder / "journal.jsonl").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(SoonerError, match=r"no space left in .*same command again; 1 finished cell is kept"):
                journal.append("cell", "b", {"loss": 0.25})
        assert (folder / "journal.jsonl").read_bytes() == before
        assert journal.find("cell", "b") is None
        journal.append("cell", "b", {"loss": 0.25})
    with start(folder) as journal:
        assert journal.notes == []
        assert journal.find("cell", "b") == {"loss": 0.25}


def test_a_failed_fsync_takes_the_record_back(tmp_path, monkeypatch):
    folder = tmp_path / "race"

    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with start(folder) as journal:
        before = (folder / "journal.jsonl").read_bytes()
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(SoonerError, match=r"Input/output error.*0 finished cells are kept"):
            journal.append("cell", "a", {})
        assert (folder / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("truncates", [True, False])
def test_an_interrupt_between_two_writes_leaves_nothing_half_written(tmp_path, monkeypatch, truncates):
    folder = tmp_path / "race"
    write = os.write

    def interrupted(descriptor, content):
        write(descriptor, content[:10])
        raise KeyboardInterrupt

    def cannot(descriptor, length):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with start(folder) as journal:
        before = (folder / "journal.jsonl").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", interrupted)
            if not truncates:
                patch.setattr(os, "ftruncate", cannot)
            with pytest.raises(KeyboardInterrupt):
                journal.append("cell", "a", {})
        journal.append("cell", "b", {})  # also mends what could not be taken back then
        assert (folder / "journal.jsonl").read_bytes().startswith(before + b'{"kind":"cell","key":"b"')
    assert read(folder).notes == []


LIMITED = """
import resource, sys
from pathlib import Path
from sooner.error import SoonerError
from sooner.race.journal import Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
with Journal.open(Path(sys.argv[1]), {}, {}) as journal:
    number = 0
    try:
        while True:
            journal.append("cell", str(number), {"text": "x" * 100})
            number += 1
    except SoonerError as error:
        print(number, error)
"""


def test_a_file_size_limit_of_the_system(tmp_path):
    folder = tmp_path / "race"
    run = subprocess.run([sys.executable, "-c", LIMITED, str(folder)], capture_output=True, text=True, check=True)
    number = int(run.stdout.split()[0])
    assert number > 0
    assert "File too large" in run.stdout
    assert f"{number} finished cells are kept" in run.stdout
    with start(folder, {}) as journal:
        assert journal.notes == []
        assert len(journal.all("cell")) == number


def test_a_race_on_a_full_disk_can_be_resumed_after_room_is_made(tmp_path, monkeypatch):
    folder = tmp_path / "race"
    small_race(folder)

    def full(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(SoonerError, match=r"no space left in .*all that is finished is kept"):
            start(folder)
    with start(folder) as journal:
        assert len(journal.all("cell")) == 3


def test_a_journal_removed_or_shortened_by_somebody_else(tmp_path):
    with start(tmp_path / "race") as journal:
        os.truncate(tmp_path / "race" / "journal.jsonl", 5)
        with pytest.raises(SoonerError, match="removed or shortened"):
            journal.append("cell", "a", {})
        (tmp_path / "race" / "journal.jsonl").unlink()
        with pytest.raises(SoonerError, match="removed or shortened"):
            journal.append("cell", "a", {})


def test_the_journal_needs_no_torch():
    code = "import sys, sooner.race.journal, sooner.race.pool; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
