"""Ctrl-C in a running race: it ends cleanly, says how to go on, and the same command finishes it."""

import os
import re
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from sooner.race.journal import read


def until(condition):
    """Wait for it, however busy the machine is; what never happens meets the time limit of every test."""
    while not condition():
        time.sleep(0.005)


def lines(folder):
    with suppress(FileNotFoundError):
        return (folder / "journal.jsonl").read_bytes().count(b"\n")
    return 0


def alive(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_stopped_race_leaves_nobody_behind_and_the_same_command_finishes_it(begin, cli, tmp_path):
    folder = tmp_path / "race"
    words = ["race", "quadratic", "--recipes", "sgd; adamw", "--steps", "150", "--tune", "1", "--seeds", "6"]
    words += ["--no-cost", "--jobs", "2", "--out", str(folder)]
    process = begin(*words, group=True)
    until(lambda: lines(folder) >= 5 or not alive(process.pid))
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the workers as well
    code, out, err = process.wait(), process.out.read_text(), process.error.read_text()
    assert len(workers) == 2
    until(lambda: not any(alive(pid) for pid in workers))
    kept = [record.key for record in read(folder).all("cell")]
    assert "Traceback" not in err
    assert out == ""
    assert code == 130
    stopped = re.search(r"stopped; (\d+) finished cells are kept in (.*), and the same command goes on", err)
    assert int(stopped[1]) == len(kept)
    assert stopped[2] == str(folder)
    told = cli(*words)
    assert told.code == 0
    assert [record.key for record in read(folder).all("cell")][: len(kept)] == kept


def test_ctrl_c_between_a_record_and_who_counts_along_is_counted(cli, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sooner.cli.progress.RaceProgress.finished", interrupted)
    words = ["race", "quadratic", "--recipes", "sgd", "--steps", "20", "--tune", "0", "--seeds", "6", "--no-cost"]
    told = cli(*words, "--jobs", "1", "--out", str(tmp_path / "race"))
    assert told.code == 130
    assert "stopped; 1 finished cells are kept in" in told.err
    assert len(read(tmp_path / "race").all("cell")) == 1


def test_ctrl_c_before_the_race_runs_ends_quietly(cli, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sooner.workloads.find", interrupted)
    told = cli("workloads", "quadratic")
    assert (told.code, told.out) == (130, "")
    assert told.err.strip() == "sooner: stopped"


def test_a_reader_that_goes_away_is_no_error(program):
    command = f"{shlex.join([*program.words[:3], 'race', '--help'])} | head -1"
    done = subprocess.run(command, shell=True, env=program.environment, capture_output=True, text=True)
    assert done.stdout.startswith("Usage: sooner race")
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
