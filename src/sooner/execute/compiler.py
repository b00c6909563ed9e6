"""Compiling C at run time and keeping the result on disk, safely between processes.

The cache key holds the source, the compiler and the processor, so a stale machine never runs foreign code. A library is
written under a private name and renamed, so no process sees half a file; a damaged one is made again; an unwritable
cache is replaced by a private folder.
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

log = logging.getLogger(__name__)


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
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()[:1]
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else platform.processor()
    features = re.findall(r"^(?:model name|flags|Features)\s*:.*$", text, re.MULTILINE)[:2]
    return "\n".join([*version, *features, *FLAGS, platform.machine()])


@functools.cache
def cache_folder(home: str) -> Path:
    """Return a folder for compiled code under `home`, or a private one for this process if that can't be written."""
    folder = Path(home) / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder):
            return folder
    except OSError as error:
        log.info("the cache %s can't be written (%s): compiled code is kept for this process only", folder, error)
        private = Path(tempfile.mkdtemp(prefix="sooner-kernels-"))
        atexit.register(shutil.rmtree, private, ignore_errors=True)
        return private


def cache_home() -> str:
    """Return ``$SOONER_CACHE``, or sooner's folder in the user's cache."""
    chosen = os.environ.get("SOONER_CACHE")
    return chosen or str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sooner")


def load(source: str) -> ctypes.CDLL:
    """Compile the source, or find it in the cache, and load it.

    Raises:
        NoCompilerError: there is no compiler, or it refuses the source.
    """
    found = compiler()
    if found is None:
        raise NoCompilerError("no C compiler")
    digest = hashlib.sha256(f"{_fingerprint(found)}\n{source}".encode()).hexdigest()[:32]
    path = cache_folder(cache_home()) / f"{digest}.so"
    if path.exists():
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            log.info("compiled code %s is damaged; it is made again", path)
    try:
        _compile(found, source, path)
        return ctypes.CDLL(str(path))
    except OSError as error:
        log.info("compiled code can't be used: %s", error)
        raise NoCompilerError(str(error)) from error


def _compile(found: str, source: str, path: Path) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".so")
    os.close(descriptor)
    vector_math = ["-lmvec"] if platform.libc_ver()[0] == "glibc" and platform.machine() == "x86_64" else []
    try:
        command = [found, *FLAGS, "-x", "c", "-", "-o", name, *vector_math, "-lm"]
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            log.info("the C compiler %s failed: %s", found, done.stderr.strip()[:500])
            raise NoCompilerError(f"{found} failed")
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
