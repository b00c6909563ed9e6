"""Runs machines of `sequences` in a process of their own, so that a crash or a hang becomes a report with the sequence.

    make fuzz                                    2,000 sequences for each executor
    SOONER_FUZZ_SANITIZE=1 make fuzz SEQUENCES=500 ARGS="-k native"
    python tests/fuzz/run_sequences.py adamw native 100                  one machine, in this process
    python tests/fuzz/run_sequences.py adamw native again < sequence     what a report printed, once more

With $SOONER_FUZZ_SANITIZE the native loops are compiled with gcc's AddressSanitizer: a compiler that adds
``-fsanitize=address`` is put into $CC, the cache is fresh, and the sanitizer's library is loaded before all others, so
that it also guards the memory that torch allocates. A read or write outside any tensor then ends the process, and that
is a failure with its sequence like any other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

SECONDS_EACH = 3
"""No sequence takes longer: a process that does hangs."""

ASAN_OPTIONS = "detect_leaks=0:abort_on_error=1:handle_segv=0"
"""Python never frees all; faulthandler shows where a crash was."""


def run(method: str, executor: str, examples: int) -> str:
    """Run that many sequences in another process and return what it printed, which ends with their number.

    Raises:
        AssertionError: a difference, a crash or a hang; with the shortest sequence that shows it.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = _environment(Path(folder))
        trace = Path(folder) / "trace"
        environment["SOONER_FUZZ_TRACE"] = str(trace)
        code, printed = _child(method, executor, str(examples), environment, 120 + SECONDS_EACH * examples)
        if code == 0:
            return printed.strip().splitlines()[-1]
        if code > 0:
            raise AssertionError(f"{method} with {executor}:\n{_told(printed)}")
        lines = _shorten(method, executor, trace.read_text(encoding="utf-8").splitlines(), environment)
        again = f"python tests/fuzz/run_sequences.py {method} {executor} again"
        raise AssertionError(
            f"{method} with {executor}: {_name(code)} in this sequence (feed it to `{again}`):\n"
            + "\n".join(lines)
            + f"\n{printed[max(0, printed.find('AddressSanitizer')) :][:4000]}"
        )


def _child(
    method: str, executor: str, what: str, environment: dict[str, str], limit: float, given: str = ""
) -> tuple[int, str]:
    """Return the exit code, negative for a crash or a hang, and everything that was printed."""
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", __file__, method, executor, what]
    try:
        done = subprocess.run(
            command,
            env=environment,
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return -signal.SIGALRM, f"no end after {limit:.0f} s"
    crashed = done.returncode < 0 or "AddressSanitizer" in done.stderr
    return -abs(done.returncode) if crashed else done.returncode, done.stdout + done.stderr


def _environment(folder: Path) -> dict[str, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SOONER_CACHE": str(folder / "cache")}
    environment.pop("SOONER_FUZZ_TRACE", None)
    if os.environ.get("SOONER_FUZZ_SANITIZE"):
        compiler = folder / "sanitizing-cc"
        compiler.write_text('#!/bin/sh\nexec gcc -fsanitize=address -g "$@"\n', encoding="ascii")
        compiler.chmod(0o700)
        library = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], encoding="utf-8").strip()
        environment |= {"CC": str(compiler), "LD_PRELOAD": library, "ASAN_OPTIONS": ASAN_OPTIONS}
    return environment


def _shorten(method: str, executor: str, lines: list[str], environment: dict[str, str]) -> list[str]:
    """Return the sequence without what the crash does not need."""
    position = 1
    while position < len(lines):
        fewer = lines[:position] + lines[position + 1 :]
        code, _ = _child(method, executor, "again", environment, 60, "\n".join(fewer))
        if code < 0:
            lines = fewer
        else:
            position += 1
    return lines


def _told(printed: str) -> str:
    """Return what hypothesis says of a failure, from the error on."""
    lines = printed.splitlines()
    errors = [
        i
        for i, line in enumerate(lines)
        if line.startswith(("AssertionError", "Failing test case")) or "Error: " in line
    ]
    return "\n".join(lines[max(0, errors[0] - 12) :] if errors else lines[-60:])


def _name(code: int) -> str:
    return (
        "a hang"
        if code == -signal.SIGALRM
        else f"a crash ({signal.Signals(-code).name if -code in set(signal.Signals) else code})"
    )


@contextlib.contextmanager
def comparing(executor: str) -> Iterator[str]:
    """Inside, cohorts compare their tensors in C++, or all in Python for "native, Python"; yields the executor."""
    from unittest.mock import patch

    from sooner.execute import snapshot

    helper = snapshot.Helper()
    if executor == "native":
        assert helper.make() is not None
    helper._asked = snapshot.PATIENCE + 1
    with patch("sooner.execute.cohort.HELPER", helper), patch("sooner.execute.snapshot.HELPER", helper):
        yield executor.removesuffix(", Python")


def check(method: str, executor: str, examples: int, *, same_every_time: bool) -> str:
    """Run that many sequences in this process and return their number and that of the steps.

    Raises:
        AssertionError: a difference; hypothesis adds the shortest sequence that shows it.
    """
    from hypothesis import HealthCheck, settings
    from hypothesis.stateful import run_state_machine_as_test
    from sequences import machine

    chosen = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        database=None,
        derandomize=same_every_time,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    with comparing(executor) as chosen_executor:
        made = machine(method, chosen_executor)
        run_state_machine_as_test(made, settings=chosen)
    return f"{method} with {executor}: {made.sequences} sequences, {made.steps} steps"


def main(arguments: Sequence[str]) -> None:
    import torch
    from sequences import replay

    torch.set_num_threads(1)
    method, executor, what = arguments
    if what == "again":
        with comparing(executor) as chosen:
            replay(method, chosen, sys.stdin.read().splitlines())
    else:
        print(check(method, executor, int(what), same_every_time=False))


if __name__ == "__main__":
    main(sys.argv[1:])
