"""One run of a command: started, followed while it prints, ended if it falls silent, and read to the end."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from sooner.command.reading import Following, log_files
from sooner.error import SoonerError

_POLLS = (0.02, 0.5)
"""Seconds between two looks at a run: at its beginning, and later."""
_LEAST_SECONDS = 2.0
"""Between the first and the last measured step of a run, for its steps to be timed from outside."""
_WORDS = 300
OUT = "out"
"""The folder of a run's own, in the race's folder of that run."""

Report = Callable[..., None]


def digest(path: Path) -> str:
    """Return what tells a file from another, empty where it can't be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def run(payload: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Run a command to its end and return its curve.

    Raises:
        SoonerError: it failed, fell silent, printed no metric, or took another number of steps than it was asked for.
    """
    _unchanged(payload["files"])
    folder = Path(payload["folder"])
    (folder / OUT).mkdir(parents=True, exist_ok=True)
    attempt = 1 + sum(1 for _ in folder.glob("stdout-*.txt"))
    started = time.monotonic()
    code, cpu, seen = _run(payload, folder, attempt, report)
    seconds = time.monotonic() - started
    values, times, why = _read(payload, folder, attempt)
    _unchanged(payload["files"])
    broken = next((step for step, value in sorted(values.items()) if not math.isfinite(value)), None)
    if code and broken is None:
        raise SoonerError(f"{_end_of(code)}{_words(folder / f'stderr-{attempt}.txt', 'stderr ends')}")
    if not values:
        raise SoonerError(f"no {payload['metric']} was found{why}")
    steps = sorted(step for step in values if broken is None or step <= broken)
    if broken is None:
        _check_end(steps[-1], payload)
    found = [values[step] for step in steps]
    if broken is None and payload["steps"] is not None and steps[-1] == payload["steps"] - 1:
        steps[-1] = payload["steps"]  # it counts from 0
    return {
        "steps": [int(step) if step == int(step) else step for step in steps],
        "values": found,
        "diverged_at": None if broken is None else int(broken),
        "cpu_seconds": cpu,
        "seconds": seconds,
        "milliseconds_per_step": _per_step(times or seen),
        "metrics": {},
        "contender": (folder / f"report-{attempt}.jsonl").exists(),
    }


def _unchanged(files: Mapping[str, str]) -> None:
    for name, was in files.items():
        if digest(Path(name)) != was:
            raise SoonerError(f"{name} changed while the race was running; put the old file back or start a new race")


def _per_step(times: Mapping[float, float]) -> float | None:
    """Return milliseconds from the first to the last measured step, per step; None where that is too short to tell."""
    if len(times) < 2:
        return None
    first, last = min(times), max(times)
    seconds = times[last] - times[first]
    return 1000 * seconds / (last - first) if seconds >= _LEAST_SECONDS else None


def _run(
    payload: Mapping[str, Any], folder: Path, attempt: int, report: Report
) -> tuple[int, float, dict[float, float]]:
    """Return exit code and processor seconds of the command, and when each of its steps was seen."""
    spec = folder / f"run-{attempt}.json"
    told = {name: payload[name] for name in ("seed", "recipe", "settings", "steps", "device")}
    reports = str(folder / f"report-{attempt}.jsonl")
    spec.write_text(json.dumps({**told, "folder": str(folder / OUT), "reports": reports}), encoding="utf-8")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), payload["threads"])
    outputs = [folder / f"stdout-{attempt}.txt", folder / f"stderr-{attempt}.txt"]
    guard = Path(__file__).with_name("guard.py")
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(guard), payload["command"], *map(str, outputs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,  # nothing comes, but it is closed at the end
        env={**os.environ, **threads, "PYTHONUNBUFFERED": "1", "SOONER_RUN": str(spec)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        return _follow(process, payload, folder, attempt, report)
    finally:
        process.stdin.close()  # ends it, if it has not ended
        process.stdout.close()


def _follow(
    process: subprocess.Popen[bytes], payload: Mapping[str, Any], folder: Path, attempt: int, report: Report
) -> tuple[int, float, dict[float, float]]:
    """Wait for the end, and tell meanwhile how far the run is."""
    assert process.stdout is not None
    followed = [Following(payload["metric"], rewinds=True) for _ in range(2)]
    heard, told, pause = time.monotonic(), -1.0, _POLLS[0]
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            seen = followed[1].points()[1] or followed[0].points()[1]
            return process.returncode, used.ru_utime + used.ru_stime, seen
        now = time.monotonic()
        attempts = [folder / f"{name}-{attempt}" for name in ("report", "stdout", "stderr")]
        streams = [attempts[0].with_suffix(".jsonl"), *(one.with_suffix(".txt") for one in attempts[1:])]
        logs = log_files(folder / OUT, payload["log"]) if payload["log"] else []
        if followed[0].look(streams, now) | followed[1].look(logs, now):
            heard = now
        points = {**followed[1].points()[0], **followed[0].points()[0]}
        latest = max(points, default=-1.0)
        if latest > told:
            told = latest
            report(
                min(1.0, latest / payload["steps"]) if payload["steps"] else 0.0,
                {"value": points[latest], "step": latest},
            )
        else:
            report(0.0)
        if now - heard > payload["silence"]:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait()
            raise SoonerError(
                f"it wrote nothing for {payload['silence']:g} s and was ended"
                f"{_words(folder / f'stdout-{attempt}.txt', 'it ends')}; give more with --silence if that is its way"
            )
        wait([process.stdout.fileno()], pause)  # ends with the command
        pause = min(2 * pause, _POLLS[1])


def _read(payload: Mapping[str, Any], folder: Path, attempt: int) -> tuple[dict[float, float], dict[float, float], str]:
    """Return the values by step of the first source that has the metric, with the times that it tells itself.

    Where none has it, the text says what was tried and how the output ends.
    """
    metric = payload["metric"]
    numbers = range(1, attempt + 1)
    sources: dict[str, list[Path]] = {"sooner.contender": [folder / f"report-{n}.jsonl" for n in numbers]}
    if payload["log"]:
        sources[f"the files {payload['log']}"] = log_files(folder / OUT, payload["log"])
    sources["standard output"] = [folder / f"stdout-{n}.txt" for n in numbers]
    sources["standard error"] = [folder / f"stderr-{n}.txt" for n in numbers]
    tried, without_step, last = [], False, ""
    for name, files in sources.items():
        there = [path for path in files if path.exists()]
        following = Following(metric, rewinds=name.startswith("the files"))
        following.look(there, 0.0, end=True)
        values, times = following.points()
        scanners = following.scanners.values()
        without_step = without_step or any(one.without_step for one in scanners)
        if values:
            return values, times if name == "sooner.contender" else {}, ""
        if there:
            tried.append(name)
        elif payload["log"] and name.startswith("the files"):
            tried.append(f"{name} (none is there)")
        lines = [line for one in scanners for line in one.last]
        last = last or (" | ".join(lines[-3:])[-_WORDS:] if name != "standard error" or not last else last)
    why = f"; {metric} is there, but no step beside it" if without_step else ""
    ends = f"; the last lines are: {last}" if last else "; it printed nothing"
    remedy = f"; print lines such as 'step 100: {metric} 1.234', name another --metric, or give --read for files"
    return {}, {}, f" in {', '.join(tried)}{why}{ends}{remedy}"


def _check_end(last: float, payload: Mapping[str, Any]) -> None:
    asked = payload["steps"]
    if asked is None or last in (asked, asked - 1):
        return
    if last > asked:
        raise SoonerError(
            f"it went on to step {last:g} where {asked} were its budget; make it stop there, such as with {{steps}}"
        )
    raise SoonerError(
        f"its last {payload['metric']} is of step {last:g}, and the budget {asked}; measure at the last step too"
    )


def _words(path: Path, what: str) -> str:
    """Return the last lines of a file as the end of a sentence."""
    try:
        lines = [line.strip() for line in path.read_bytes()[-4000:].decode("utf-8", "replace").splitlines()]
    except OSError:
        lines = []
    said = [line for line in lines if line]
    return f"; {what}: {' | '.join(said[-3:])[-_WORDS:]}" if said else ""


def _end_of(code: int) -> str:
    """Return an exit code in words."""
    return f"killed by signal {code - 128} ({signal.strsignal(code - 128)})" if code > 128 else f"exit code {code}"
