"""Whole judgements, of programs that start in a moment: what is run, kept, refused and gone on with."""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sooner
from sooner.error import SoonerError
from sooner.judging import believed
from sooner.judging.ledger import Ledger

SOURCE = Path(__file__).parents[2] / "src"
PYTHON = f"{shlex.quote(sys.executable)} -I -S"
TRAIN = """
import random, sys, time
seed, gain, *rest = sys.argv[1:]
mode = rest[0] if rest else ""
noise = random.Random(f"{seed} {gain} {mode}").gauss(0, 0.005)
value = (3 + random.Random(seed).gauss(0, 0.2)) * (1 - float(gain)) * (1 + noise)
if mode == "fail":
    sys.exit("no such data")
if mode == "nan" and noise > -0.004:
    value = float("nan")
if mode == "slow":
    time.sleep(60)
if mode == "quiet":
    sys.exit()
if mode == "deaf":
    value = 2.5
if mode == "file":
    open(rest[1] + "/result.jsonl", "w").write('{"val_loss": %r}' % value)
else:
    print("step 10: val loss", value)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def words(gain, mode="a", *rest):
    return f"{PYTHON} train.py {{seed}} {gain} {mode} {' '.join(rest)}"


def judge(gain, mode="b", *rest, baseline="a", **options):
    return sooner.judge(baseline_command=words(0, baseline), candidate_command=words(gain, mode, *rest), **options)


def runs(folder):
    return Ledger(folder / ".sooner").all("run")


def test_what_is_better_is_kept_and_told_again_without_a_run(here):
    found = judge(0.03)
    assert (found.outcome, found.exit_code, found.better) == ("better", 0, True)
    assert 0.02 < found.gain < 0.04
    assert found.p <= found.level
    assert found.sentence.startswith("better: in val_loss, ")
    assert found.seeds == tuple(range(1000, 1000 + len(found.seeds)))
    assert len(runs(here)) == 2 * len(found.seeds)
    lines = len((here / ".sooner" / "judged.jsonl").read_text().splitlines())
    (here / ".sooner" / "runs").rename(here / "moved")
    again = judge(0.03)
    assert again == found
    assert len((here / ".sooner" / "judged.jsonl").read_text().splitlines()) == lines
    assert not (here / ".sooner" / "runs").exists()


def test_what_is_worse_and_what_is_no_different_is_not(here):
    worse = judge(-0.03)
    assert (worse.outcome, worse.exit_code) == ("worse", 1)
    none = judge(0.0, "b", worth="2%")
    assert none.exit_code == 1
    assert none.sentence.startswith(f"{none.outcome} worth 2 %: in val_loss, ")
    same = judge(0.0, "b", worth="2%", both_sides=True)
    assert same.outcome == "no difference"
    assert (same.number, same.level) == (none.number, none.level)
    assert none.seeds == same.seeds[: len(none.seeds)]
    ledger, rows = believed()
    assert [row.outcome for row in rows] == ["worse", "no difference"]
    assert ledger.discoveries() == []
    numbers = [set(range(first, first + 1000)) for first in (1000, 2000)]
    assert set(worse.seeds) < numbers[0]
    assert set(same.seeds) < numbers[1]


def test_higher_is_better(here):
    assert judge(-0.03, higher_is_better=True).better


def test_a_unit_of_its_own(here):
    found = judge(0.03, worth=0.02)
    assert found.better
    assert 0.06 < found.gain < 0.12
    assert "%" not in found.sentence.split("after")[0].replace("95 %", "")


def test_a_budget_ends_it_and_more_goes_on_from_there(here):
    cut = judge(0.003, seeds=9, worth="0.1%")
    assert (cut.outcome, cut.exit_code, len(cut.seeds)) == ("undecided", 3, 9)
    assert "goes on from here" in cut.sentence
    before = runs(here)
    longer = judge(0.003, seeds=11, worth="0.1%")
    assert longer.baseline_values[:9] == cut.baseline_values
    assert {key: run for key, run in runs(here).items() if key in before} == before


def test_seconds_end_it(here):
    began = time.monotonic()
    found = judge(0.0, "slow", seconds=1)
    assert time.monotonic() - began < 50
    assert (found.outcome, found.exit_code, found.seeds, found.number) == ("undecided", 3, (), 0)
    assert "before the first pair" in found.sentence
    assert len(runs(here)) == 1  # of the baseline, which is not run again


def test_runs_that_diverge_are_infinitely_bad(here):
    found = judge(0.0, "nan")
    assert found.exit_code == 1
    assert found.gain == -math.inf
    assert any("diverged on" in note for note in found.notes)
    assert json.loads(found.to_json())["gain"] == "-inf"
    assert judge(0.0, "b", baseline="nan").better


def test_both_diverging_says_nothing(here):
    with pytest.raises(SoonerError, match="both sides diverged on all of the first 5 seeds"):
        sooner.judge(
            baseline_command=f"{PYTHON} -c 'print(\"val_loss nan\", {{seed}})'",
            candidate_command=f"{PYTHON} -c 'print(\"val_loss inf\", {{seed}})'",
        )


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fail", r"ended with exit code 1; its last lines, kept in .*candidate-1000.log: no such data"),
        ("quiet", r"no value of 'val_loss'.*--metric"),
        ("deaf", r"gives the same numbers for the seeds 1000 to 1004 .* does not heed its seed"),
    ],
)
def test_programs_that_cannot_be_judged(here, mode, message):
    with pytest.raises(SoonerError, match=message):
        judge(0.0, mode)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline_command": "python x {seed}"}, "needs two sides"),
        ({}, "needs two sides"),
        ({"baseline_command": "a {seed}", "candidate_command": "b"}, r"'b' has no \{seed\}"),
        ({"baseline_command": "a {seed}", "candidate_command": "a  {seed}"}, "same files and the same command"),
        ({"baseline_command": "a {seed}", "candidate_command": "b {seed} '"}, "close its quotes"),
        ({"baseline_command": "nowhere-1 {seed}", "candidate_command": "nowhere-2 {seed}"}, "cannot start 'nowhere-1'"),
        ({"baseline_command": "a {seed}", "candidate_command": "b {seed}", "command": "c"}, "third one"),
        ({"baseline_command": "a {seed}", "candidate_command": "b {seed}", "share": ["d"]}, "--share"),
        ({"baseline_command": "a {seed}", "baseline": "main"}, "not both"),
        ({"seeds": 7}, "8 to 200"),
        ({"baseline_command": "a {seed}", "candidate_command": "b {seed}", "seeds": 8}, "which 8 seeds can't"),
        ({"seconds": -1.0}, "positive number"),
        ({"q": 0.9}, "share of false discoveries"),
        ({"worth": "much"}, "no size of a difference"),
    ],
)
def test_bad_input(here, options, message):
    with pytest.raises(SoonerError, match=message):
        sooner.judge(**options)


def test_a_result_in_a_file(here):
    found = judge(0.03, "file", "{out}", baseline="file {out}", log="{out}/result.jsonl")
    assert found.better


def test_files_that_change_under_our_hands(here):
    edit = f"{PYTHON} -c \"open('train.py', 'a').write('#'); print('val_loss', {{seed}})\" train.py"
    with pytest.raises(SoonerError, match="the files changed while they were judged"):
        sooner.judge(baseline_command=words(0), candidate_command=edit)


def test_killed_and_gone_on_with(here):
    """Killed while a run is going on: what is finished is not run again, and the numbers are those of one go."""
    program = (
        f"import sooner; print(sooner.judge(baseline_command={words(0)!r}, candidate_command={words(0.03, 'b')!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    path = here / ".sooner" / "judged.jsonl"
    while not path.exists() or path.read_bytes().count(b'"kind":"run"') < 5:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = runs(here)
    assert len(kept) >= 5
    found = judge(0.03)
    assert found.better
    assert {key: run for key, run in runs(here).items() if key in kept} == kept
    path.unlink()
    whole = judge(0.03)
    assert (whole.baseline_values, whole.p, whole.level) == (found.baseline_values, found.p, found.level)


def test_power_is_said_beforehand(here):
    judge(-0.03, "b")
    said = []
    judge(0.03, "c", say=said.append)
    assert "which takes" in said[0]
    assert "a gain of 1 % would be found with a chance of" in said[1]
    assert sum(line.startswith("seed ") for line in said) == len(said) - 3
