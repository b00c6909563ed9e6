"""One run: fill in the seed, start the program, wait for it, read its metric."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sooner.error import SoonerError
from sooner.judging.metric import Course, read, tail

SEED, OUT = "{seed}", "{out}"
_PATIENCE = 5.0
"""Seconds that a program has to end by itself when it is stopped."""


class OutOfTimeError(Exception):
    """The budget in seconds ended while a run was going on; it was stopped."""


@dataclass(frozen=True)
class Program:
    """A program with places to fill in.

    Args:
        words: its words; `{seed}` and `{out}` are filled in, and no shell looks at them.
        log: the file to read, where it is not standard output; may hold `{out}` and `{seed}`, and counts from the
            folder in which the program runs.

    Raises:
        SoonerError: there is no program, or no `{seed}`: then every run would be the same.
    """

    words: tuple[str, ...]
    log: str | None = None

    def __post_init__(self) -> None:
        if not self.words:
            raise SoonerError(
                "there is nothing to run; write the program after --, such as -- python train.py --seed {seed}"
            )
        if not any(SEED in word for word in self.words):
            raise SoonerError(
                f"{' '.join(self.words)!r} has no {SEED}, so that all runs would be the same; write it where the "
                f"program takes its seed, such as --seed {SEED}"
            )

    def filled(self, seed: int, out: Path) -> list[str]:
        """Return the words of one run."""
        return [word.replace(SEED, str(seed)).replace(OUT, str(out)) for word in self.words]

    def run(self, folder: Path, seed: int, out: Path, metric: str, seconds: float | None) -> tuple[Course, float]:
        """Run it to its end, and return the course of the metric and the seconds that it took.

        Args:
            folder: to run in.
            seed: of this run.
            out: a folder of its own, emptied before; what the program prints is kept beside it as OUT.log.
            metric: what to read.
            seconds: to stop it after, None to wait as long as it takes.

        Raises:
            SoonerError: it can't be started, fails, or tells no metric.
            OutOfTimeError: it was stopped.
        """
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        printed = out.with_name(f"{out.name}.log")
        printed.unlink(missing_ok=True)  # a run that outlived a killed judgement may still write to it
        words = self.filled(seed, out)
        began = time.monotonic()
        with printed.open("wb") as file:
            try:
                process = subprocess.Popen(
                    words,
                    cwd=folder,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as error:
                raise SoonerError(
                    f"cannot start {words[0]!r} ({error.strerror}); name a program that is there"
                ) from None
            try:
                code = process.wait(seconds)
            except BaseException as error:
                _end(process)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise OutOfTimeError from None
                raise
        if code:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise SoonerError(f"{' '.join(words)!r} {how}; its last lines, kept in {printed}: {tail(printed)}")
        where = printed
        if self.log is not None:
            where = folder / self.log.replace(SEED, str(seed)).replace(OUT, str(out))
        return read(where, metric), time.monotonic() - began


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program with all that it started: it leads a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    with suppress(ProcessLookupError):  # whatever of it is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def words_of(command: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the words of a command, which no shell interprets.

    Raises:
        SoonerError: its quotes don't match.
    """
    if not isinstance(command, str):
        return tuple(command or ())
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise SoonerError(f"{command!r} is no command ({error}); close its quotes") from None
