"""Checks that two gloo processes run together: a script of them is started once, and every check is a test."""

import json
import re

import pytest


def outcome_of(both):
    """Return what failed by check and rank, and what the ranks said on standard error."""
    both.codes()
    lines = [json.loads(line) for n in (0, 1) for line in both.printed(n).splitlines() if line.startswith("{")]
    return {(one["check"], one["rank"]): one["failed"] for one in lines}, both.said(0) + both.said(1)


def checks_of(script):
    """Return a fixture that runs the script, and a test for each of its functions ``check_...``."""

    @pytest.fixture(scope="module")
    def outcome(ranks):
        return outcome_of(ranks([script]))

    @pytest.mark.parametrize("check", re.findall(r"^def check_(\w+)", script.read_text("utf-8"), re.MULTILINE))
    def test_on_two_processes(outcome, check):
        failures, errors = outcome
        for rank in (0, 1):
            assert (check, rank) in failures, f"not reached: {errors[-2000:]}"
            assert not failures[check, rank], f"rank {rank}: {failures[check, rank]}"

    return outcome, test_on_two_processes
