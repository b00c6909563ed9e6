"""Compiling C and C++ at run time and keeping the result on disk, safely between processes.

The cache key holds the source, the compiler and the processor, so a stale machine never runs foreign code. A library is
written under a private name and renamed, so no process sees half a file. It ends with its own checksum, because loading
a truncated one can kill the process; a damaged one is made again. An unwritable cache is replaced by a private folder.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

FLAGS = (
    "-O3",
    "-march=native",
    "-fopenmp",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
    "-w",
)
"""No -ffast-math: NaN and infinity must go through, and every operation is rounded as PyTorch rounds it."""

Loaded = TypeVar("Loaded")

_CHECKSUM = 32
"""Bytes of the SHA-256 at the end of a compiled file."""

log = logging.getLogger(__name__)

_refused: set[tuple[str, str]] = set()
"""What this process failed to compile, by compiler and source."""

_running: dict[subprocess.Popen[str], int] = {}
"""Compilers that run, with the process that started each (a fork inherits the list, not the compilers)."""


class NoCompilerError(RuntimeError):
    """There is no working C compiler; rules run eagerly."""


@functools.cache
def compiler() -> str | None:
    """Return the path of the C compiler (``$CC``, or cc, gcc or clang), None if there is none; the log says so once."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        found = shutil.which(name) if name else None
        if found:
            return found
    log.warning("no C compiler found: optimizers run without it, several times slower; install gcc, or set CC")
    return None


@functools.cache
def _fingerprint(found: str) -> str:
    """Return what besides the source decides the machine code: compiler version and processor features."""
    version = _output_of([found, "--version"]).stdout.splitlines()[:1]
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else platform.processor()
    features = re.findall(r"^(?:model name|flags|Features)\s*:.*$", text, re.MULTILINE)[:2]
    return "\n".join([*version, *features, platform.machine()])


@functools.cache
def cache_folder(home: str) -> Path:
    """Return a folder for compiled code under `home`, or a private one for this process if that can't be written."""
    folder = Path(home) / "kernels"
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody knows where the user's home is
        log.info("the cache %s can't be written (%s): compiled code is kept for this process only", folder, error)
        private = Path(tempfile.mkdtemp(prefix="sooner-kernels-"))
        atexit.register(shutil.rmtree, private, ignore_errors=True)
        return private


def cache_home() -> str:
    """Return ``$SOONER_CACHE``, or sooner's folder in the user's cache."""
    return os.environ.get("SOONER_CACHE") or str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "sooner")


class Language(NamedTuple):
    """How a source is compiled.

    Attributes:
        name: as the compiler calls it.
        flags: all of them, with the libraries.
        versions: what besides source, flags and machine decides the result.
    """

    name: str
    flags: tuple[str, ...]
    versions: str = ""


def _c() -> Language:
    vector_math = ("-lmvec",) if platform.libc_ver()[0] == "glibc" and platform.machine() == "x86_64" else ()
    return Language("c", (*FLAGS, *vector_math, "-lm"))


def load(source: str) -> ctypes.CDLL:
    """Compile C, or find it in the cache, and load it. What was refused once is not tried again.

    Raises:
        NoCompilerError: there is no compiler, or it refuses the source.
    """
    found = compiler()
    if found is None or (found, source) in _refused:
        raise NoCompilerError("no C compiler" if found is None else f"{found} failed before")
    try:
        return build(source, _c(), _opened)
    except (OSError, NoCompilerError) as error:
        level = logging.INFO if _refused else logging.WARNING
        log.log(level, "compiling does not work, so optimizers run without it, several times slower: %s", error)
        _refused.add((found, source))
        raise NoCompilerError(str(error)) from error


def _opened(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))


def kept(source: str, language: Language, opened: Callable[[Path], Loaded]) -> Loaded | None:
    """Return what `opened` makes of the compiled source; None where it is not in the cache.

    Raises:
        NoCompilerError: there is no compiler.
        OSError: the compiled file can't be loaded.
    """
    path = _place(source, language)
    return opened(path) if _intact(path) else None


def build(source: str, language: Language, opened: Callable[[Path], Loaded]) -> Loaded:
    """Return what `opened` makes of the compiled source, which is compiled if it is not in the cache.

    Raises:
        NoCompilerError: there is no compiler, or it refuses the source.
        OSError: the compiled file can't be loaded or kept.
    """
    path = _place(source, language)
    return opened(path) if _intact(path) else _compile(source, language, path, opened)


def _place(source: str, language: Language) -> Path:
    found = compiler()
    if found is None:
        raise NoCompilerError("no C compiler")
    identity = "\n".join([_fingerprint(found), *language.flags, language.versions, source])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return cache_folder(cache_home()) / f"{digest}.so"


def _intact(path: Path) -> bool:
    """Whether the compiled file is there, from its first to its last byte."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    if hashlib.sha256(content[:-_CHECKSUM]).digest() == content[-_CHECKSUM:]:
        return True
    log.info("compiled code %s is damaged; it is made again", path)
    return False


def _compile(source: str, language: Language, path: Path, opened: Callable[[Path], Loaded]) -> Loaded:
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".so")
    os.close(descriptor)
    own, found = Path(name), compiler()
    try:
        done = _output_of([str(found), "-x", language.name, "-", "-o", name, *language.flags], source)
        if done.returncode != 0:
            raise NoCompilerError(f"the compiler {found} failed: {done.stderr.strip()[:500]}")
        made = own.read_bytes()
        own.write_bytes(made + hashlib.sha256(made).digest())
        loaded = opened(own)
        own.replace(path)
        return loaded
    finally:
        own.unlink(missing_ok=True)


def _output_of(command: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace")
    with process:
        _running[process] = os.getpid()
        try:
            output, errors = process.communicate(given)
        finally:
            process.kill()
            del _running[process]
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def stop() -> None:
    """End the compilers that run, because nobody waits for them any more."""
    for process, owner in list(_running.items()):
        if owner == os.getpid():
            process.kill()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process that shares the cache is inside; where the system has no such locks, go on."""
    try:
        import fcntl

        descriptor = os.open(cache_folder(cache_home()), os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
