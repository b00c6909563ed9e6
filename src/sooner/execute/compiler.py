"""Compiling C at run time and keeping the result on disk, safely between processes.

The cache key holds the source, the compiler and the processor, so a stale machine never runs foreign code. A library is
written under a private name and renamed, so no process sees half a file. It ends with its own checksum, because loading
a truncated one can kill the process; a damaged one is made again. An unwritable cache is replaced by a private folder.
"""

from __future__ import annotations

import atexit
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
from pathlib import Path

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

_CHECKSUM = 32
"""Bytes of the SHA-256 at the end of a compiled file."""

log = logging.getLogger(__name__)

_refused: set[tuple[str, str]] = set()
"""What this process failed to compile, by compiler and source."""


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
    return "\n".join([*version, *features, *FLAGS, platform.machine()])


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


def load(source: str) -> ctypes.CDLL:
    """Compile the source, or find it in the cache, and load it. What was refused once is not tried again.

    Raises:
        NoCompilerError: there is no compiler, or it refuses the source.
    """
    found = compiler()
    if found is None or (found, source) in _refused:
        raise NoCompilerError("no C compiler" if found is None else f"{found} failed before")
    try:
        digest = hashlib.sha256(f"{_fingerprint(found)}\n{source}".encode()).hexdigest()[:32]
        path = cache_folder(cache_home()) / f"{digest}.so"
        return ctypes.CDLL(str(path)) if _intact(path) else _compile(found, source, path)
    except (OSError, NoCompilerError) as error:
        level = logging.INFO if _refused else logging.WARNING
        log.log(level, "compiling does not work, so optimizers run without it, several times slower: %s", error)
        _refused.add((found, source))
        raise NoCompilerError(str(error)) from error


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


def _compile(found: str, source: str, path: Path) -> ctypes.CDLL:
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".so")
    os.close(descriptor)
    vector_math = ["-lmvec"] if platform.libc_ver()[0] == "glibc" and platform.machine() == "x86_64" else []
    try:
        done = _output_of([found, *FLAGS, "-x", "c", "-", "-o", name, *vector_math, "-lm"], source)
        if done.returncode != 0:
            raise NoCompilerError(f"the C compiler {found} failed: {done.stderr.strip()[:500]}")
        made = Path(name).read_bytes()
        Path(name).write_bytes(made + hashlib.sha256(made).digest())
        library = ctypes.CDLL(name)
        Path(name).replace(path)
        return library
    finally:
        Path(name).unlink(missing_ok=True)


def _output_of(command: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=given, capture_output=True, encoding="utf-8", errors="replace", check=False)
