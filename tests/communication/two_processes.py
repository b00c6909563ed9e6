"""Checks that two gloo processes run together: a script of them is started once, and every check is a test."""

import json
import os
import re
import subprocess
import sys

import pytest


def run(script, rendezvous):
    """Run all checks of a script, and return what failed by check and rank, and what was said on standard error."""
    command = [sys.executable, str(script), str(rendezvous)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(one["check"], one["rank"]): one["failed"] for one in lines}, done.stderr


def checks_of(script):
    """Return a fixture that runs the script, and a test for each of its functions ``check_...``."""

    @pytest.fixture(scope="module")
    def outcome(tmp_path_factory):
        return run(script, tmp_path_factory.mktemp(script.stem) / "rendezvous")

    @pytest.mark.parametrize("check", re.findall(r"^def check_(\w+)", script.read_text("utf-8"), re.MULTILINE))
    def test_on_two_processes(outcome, check):
        failures, errors = outcome
        for rank in (0, 1):
            assert (check, rank) in failures, f"not reached: {errors[-2000:]}"
            assert not failures[check, rank], f"rank {rank}: {failures[check, rank]}"

    return outcome, test_on_two_processes
