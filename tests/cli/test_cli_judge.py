"""`sooner judge` as a loop sees it: a sentence or JSON on standard output, the rest on standard error, an exit code."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

TRAIN = """
import pathlib, random, sys, time
seed, gain = sys.argv[1:]
if gain == "slow":
    pathlib.Path("started").write_text(str(__import__("os").getpid()))
    time.sleep(60)
noise = random.Random(f"{seed} {gain}").gauss(0, 0.004)
print("accuracy", (3 + random.Random(seed).gauss(0, 0.2)) * (1 + float(gain)) * (1 + noise))
"""


@pytest.fixture
def judge(cli, tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)

    def run(gain, *words):
        program = f"{shlex.quote(sys.executable)} -I -S train.py {{seed}} "
        sides = ["--baseline-command", program + "0", "--candidate-command", program + gain]
        return cli("judge", *sides, "--metric", "accuracy", "--higher-is-better", *words)

    return run


def test_exit_codes_and_what_is_printed_where(judge, cli):
    better = judge("0.03")
    assert better.code == 0
    assert better.out.startswith("better: in accuracy, ")
    assert better.out.count("\n") == 1
    assert "seed 1000: " in better.err
    worse = judge("-0.03", "--json")
    assert worse.code == 1
    told = json.loads(worse.out)
    assert (told["outcome"], told["exit_code"], told["number"]) == ("worse", 1, 2)
    cut = judge("0.001", "--worth", "0.1%", "--seeds", "12")
    assert (cut.code, cut.out[:9]) == (3, "undecided")
    broken = judge("much")
    assert (broken.code, broken.out) == (2, "")
    assert "ended with exit code 1" in broken.err
    ledger = cli("judge", "--ledger")
    assert ledger.code == 0
    for word in ("better", "worse", "undecided", "unfinished", "1 of 4 kept", "has to reach p ="):
        assert word in ledger.out
    rows = json.loads(cli("judge", "--ledger", "--json").out)
    assert [row["outcome"] for row in rows["judged"]] == ["better", "worse", "undecided", "unfinished"]
    assert rows["q"] == 0.05


def test_bad_input(cli):
    for words, message in (
        ([], "needs two sides"),
        (["--ledger"], "there is no ledger in"),
        (["--ledger", "--candidate", "HEAD"], "leave the rest out"),
        (["--seeds", "8.5"], "not a whole number"),
    ):
        told = cli("judge", *words)
        assert told.code == 2
        assert message in told.err.replace("\n", " ")


def test_a_judgement_that_is_ended_ends_its_run(program, tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    words = [
        f"{shlex.quote(sys.executable)} -I -S train.py {{seed}} slow",
        f"{shlex.quote(sys.executable)} -I -S train.py {{seed}} 0",
    ]
    process = subprocess.Popen(
        [*program.words, "judge", "--baseline-command", words[0], "--candidate-command", words[1]],
        cwd=tmp_path,
        env=program.environment,
    )
    started = tmp_path / "started"
    while not started.exists() or not started.read_text():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
