"""Compiled code is kept safely: damaged files, processes at the same time, folders and compilers that fail."""

import errno
import importlib.util
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from toys import Average, Clip, Toy, assert_same, parameters, stepped

import sooner.execute.compiler as shared
from sooner.execute import native

FILE = shared.__file__
SOURCE = "int run(void) { return 42; }"
SCRIPT = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("compiler", {FILE!r})
compiler = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compiler)
print(compiler.load(sys.argv[1]).run(), compiler.cache_folder(compiler.cache_home()))
"""


@pytest.fixture
def fresh():
    """The module as a new process has it: nothing looked up, nothing refused yet."""
    spec = importlib.util.spec_from_file_location("sooner.execute.compiler", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


again = fresh
"""The same, for a second process in one test."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "a cache"
    monkeypatch.setenv("SOONER_CACHE", str(folder))
    return folder


class Compiler:
    """A stand-in for the C compiler that counts its calls."""

    def __init__(self, folder: Path):
        self.folder, self.path, self.log = folder, folder / "my cc", folder / "calls"
        self.behave(f'exec {shared.compiler()} "$@"')

    def behave(self, script, shebang="#!/bin/sh\n"):
        body = f'case "$*" in *-shared*) echo called >> "{self.log}";; esac\n{script}\n'
        self.path.write_text(shebang + body)
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    @property
    def calls(self):
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture
def cc(tmp_path, monkeypatch):
    made = Compiler(tmp_path)
    monkeypatch.setenv("CC", str(made.path))
    return made


def files(cache):
    return sorted(cache.glob("kernels/*"))


COMMAND = [sys.executable, "-c", SCRIPT, SOURCE]


def in_a_process(**options):
    return subprocess.run(COMMAND, capture_output=True, text=True, **options)


def warnings_of(caplog):
    return [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


# the cache


def test_a_program_is_compiled_once_for_all_processes(fresh, cache, cc):
    assert fresh.load(SOURCE).run() == 42
    assert fresh.load(SOURCE).run() == 42
    assert in_a_process().stdout == f"42 {cache / 'kernels'}\n"
    assert cc.calls == 1
    assert fresh.load("int run(void) { return 43; }").run() == 43
    assert cc.calls == 2
    assert len(files(cache)) == 2
    assert stat.S_IMODE((cache / "kernels").stat().st_mode) == 0o700


def halved(content):
    return content[: len(content) // 2]


def flipped(content):
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


DAMAGE = {
    "truncated": halved,
    "without its end": lambda content: content[:-1],
    "empty": lambda content: b"",
    "short": lambda content: content[:10],
    "text": lambda content: b"not a library" * 100,
    "one bit": flipped,
    "longer": lambda content: content + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_made_again(fresh, cache, cc, damage):
    fresh.load(SOURCE)
    (path,) = files(cache)
    whole = path.read_bytes()
    path.unlink()  # what is loaded stays as it is
    path.write_bytes(damage(whole))
    assert in_a_process().stdout.startswith("42 ")
    assert cc.calls == 2
    assert files(cache) == [path]
    assert in_a_process().stdout.startswith("42 ")
    assert cc.calls == 2


def test_a_file_that_cannot_be_read_is_made_again(fresh, cache, cc):
    fresh.load(SOURCE)
    (path,) = files(cache)
    path.unlink()
    path.symlink_to("nowhere")
    assert in_a_process().stdout.startswith("42 ")
    assert cc.calls == 2
    assert not path.is_symlink()


def test_what_others_left_unfinished_is_ignored(fresh, cache, cc):
    (cache / "kernels").mkdir(parents=True)
    left = cache / "kernels" / "tmpabcdef.so"
    left.write_bytes(b"half a libr")
    assert fresh.load(SOURCE).run() == 42
    assert left.read_bytes() == b"half a libr"


def test_a_process_killed_in_the_middle_leaves_nothing_that_counts(fresh, cache, cc):
    good = cc.path.read_text()
    cc.behave('case "$*" in *-shared*) kill -9 $PPID;; esac')
    assert in_a_process().returncode == -signal.SIGKILL
    assert len(files(cache)) == 1  # the private file it wrote to
    cc.path.write_text(good)
    assert fresh.load(SOURCE).run() == 42
    assert cc.calls == 2


def test_processes_and_threads_may_compile_at_the_same_time(fresh, cache, cc):
    cc.behave(f'case "$*" in *-shared*) sleep 0.3;; esac\nexec {shared.compiler()} "$@"')
    processes = [subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = []
    threads = [threading.Thread(target=lambda: found.append(fresh.load(SOURCE).run())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42, 42]
    assert [p.communicate()[0] for p in processes] == [f"42 {cache / 'kernels'}\n"] * 2
    assert cc.calls >= 2
    assert len(files(cache)) == 1


def test_the_key_tells_compilers_flags_and_processors_apart(fresh, cache, cc, monkeypatch):
    def keys():
        fresh._fingerprint.cache_clear()
        fresh.load(SOURCE)
        return len(files(cache))

    assert keys() == 1
    assert keys() == 1
    monkeypatch.setattr(fresh, "FLAGS", (*fresh.FLAGS, "-DSOMETHING"))
    assert keys() == 2
    cc.behave(f'if [ "$1" = --version ]; then echo another 99.0; else exec {shared.compiler()} "$@"; fi')
    assert keys() == 3
    text = "flags\t\t: fpu mmx\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **options: f"processor\t: 0\n{text}cpu MHz\t\t: 3000\n")
    assert keys() == 4
    text = "flags\t\t: fpu mmx avx512f\n"
    assert keys() == 5
    monkeypatch.setattr(fresh.platform, "machine", lambda: "another")
    assert keys() == 6


# folders


def test_where_the_cache_is(fresh, tmp_path, monkeypatch):
    home, xdg, own = (tmp_path / name for name in ("home", "xdg", "own"))
    monkeypatch.setenv("HOME", str(home))
    for name in ("SOONER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert fresh.cache_folder(fresh.cache_home()) == home / ".cache" / "sooner" / "kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(xdg))
    assert fresh.cache_folder(fresh.cache_home()) == xdg / "sooner" / "kernels"
    monkeypatch.setenv("SOONER_CACHE", str(own))
    assert fresh.cache_folder(fresh.cache_home()) == own / "kernels"
    monkeypatch.setenv("SOONER_CACHE", "~/mine")
    assert fresh.cache_folder(fresh.cache_home()) == home / "mine" / "kernels"
    for name in ("SOONER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")
    assert fresh.cache_folder(fresh.cache_home()) == home / ".cache" / "sooner" / "kernels"


@pytest.mark.parametrize("kind", ["a file in the way", "no folder", "a read-only disk", "no home", "home is no folder"])
def test_without_a_folder_to_write_to_code_is_kept_for_one_process(fresh, tmp_path, monkeypatch, caplog, kind):
    caplog.set_level("INFO")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(fresh.tempfile, "tempdir", None)
    for name in ("SOONER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if kind == "a file in the way":
        (tmp_path / "kernels").write_text("")
        monkeypatch.setenv("SOONER_CACHE", str(tmp_path))
    elif kind == "no folder":
        monkeypatch.setenv("SOONER_CACHE", "/dev/null")
    elif kind == "a read-only disk":

        def refuse(**options):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setenv("SOONER_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(fresh.tempfile, "NamedTemporaryFile", refuse)
    elif kind == "no home":
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("pwd.getpwuid", lambda user: {}[user])  # a user whom nobody has told the system about
    else:
        monkeypatch.setenv("HOME", "/dev/null")
    assert fresh.load(SOURCE).run() == 42
    assert fresh.load("int run(void) { return 43; }").run() == 43
    (private,) = tmp_path.glob("sooner-kernels-*")
    assert len(list(private.glob("*.so"))) == 2
    assert "compiled code is kept for this process only" in caplog.text
    assert caplog.text.count("can't be written") == 1


def test_the_private_folder_goes_with_the_process(tmp_path):
    environment = {**os.environ, "SOONER_CACHE": "/dev/null", "TMPDIR": str(tmp_path)}
    number, folder = in_a_process(env=environment).stdout.split()
    assert (number, Path(folder).parent) == ("42", tmp_path)
    assert list(tmp_path.iterdir()) == []


# compilers


def nowhere(tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_the_compiler_of_the_environment_comes_first(fresh, cache, cc, tmp_path, monkeypatch):
    assert fresh.compiler() == str(cc.path)
    for chosen in ("no such compiler", ""):
        fresh.compiler.cache_clear()
        monkeypatch.setenv("CC", chosen)
        assert fresh.compiler() == shared.compiler()
    fresh.compiler.cache_clear()
    nowhere(tmp_path, monkeypatch)
    (tmp_path / "clang").symlink_to(cc.path)
    assert fresh.compiler() == str(tmp_path / "clang")


def test_without_a_compiler_one_warning_says_so(fresh, cache, tmp_path, monkeypatch, caplog):
    nowhere(tmp_path, monkeypatch)
    for _ in range(2):
        assert fresh.compiler() is None
        with pytest.raises(fresh.NoCompilerError, match="no C compiler"):
            fresh.load(SOURCE)
    (warning,) = warnings_of(caplog)
    assert warning.startswith("no C compiler found")
    assert "install gcc" in warning


FAILING = {
    "an error": ("echo 'error: no omp.h' >&2; exit 1", "#!/bin/sh\n", "error: no omp.h"),
    "strange characters": ("printf '\\377\\376 error' >&2; exit 1", "#!/bin/sh\n", "error"),
    "a crash": ("kill -SEGV $$", "#!/bin/sh\n", "failed"),
    "no output": ("exit 0", "#!/bin/sh\n", "file too short"),
    "nonsense": (
        'while [ $# -gt 0 ]; do if [ "$1" = -o ]; then echo nonsense > "$2"; fi; shift; done',
        "#!/bin/sh\n",
        "file too short|invalid ELF header",
    ),
    "no program": ("exit 0", "\0", "[Ee]xec format error"),
    "no interpreter": ("exit 0", "#!/no/such/shell\n", "[Nn]o such file"),
}


@pytest.mark.parametrize(("script", "shebang", "reason"), FAILING.values(), ids=FAILING)
def test_a_compiler_that_fails_is_asked_once_and_warned_of_once(fresh, cache, cc, caplog, script, shebang, reason):
    cc.behave(script, shebang)
    for _ in range(2):
        with pytest.raises(fresh.NoCompilerError):
            fresh.load(SOURCE)
    assert cc.calls <= 1
    with pytest.raises(fresh.NoCompilerError):
        fresh.load("int run(void) { return 43; }")
    (warning,) = warnings_of(caplog)
    assert warning.startswith("compiling does not work, so optimizers run without it, several times slower: ")
    assert re.search(reason, warning)
    assert files(cache) == []


@pytest.mark.parametrize("script", [None, "exit 1"], ids=["no compiler", "a compiler that fails"])
def test_optimizers_step_without_a_compiler(fresh, cache, cc, script, tmp_path, monkeypatch, caplog):
    if script is None:
        nowhere(tmp_path, monkeypatch)
    else:
        cc.behave(script)
    expected = steps("eager")
    monkeypatch.setattr(native, "compiler", fresh.compiler)
    monkeypatch.setattr(native, "load", fresh.load)
    monkeypatch.setattr("sooner.execute.fused.NoCompilerError", fresh.NoCompilerError)
    native._compiled.cache_clear()
    assert_same(steps("native"), expected, rtol=0)
    assert cc.calls == (0 if script is None else 1)
    assert len(warnings_of(caplog)) == 1
    native._compiled.cache_clear()


def steps(executor):
    params = parameters([(3, 4), (5,)])
    return stepped(executor, Toy(params, lambda group: (Average(0.5), Clip(0.1))), params, 3)
