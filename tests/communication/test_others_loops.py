"""Communication in other people's models and loops, which change, wrap, clip, scale and skip: on two gloo processes."""

from pathlib import Path

import pytest
from test_attached import checks_of, outcome_of

SCRIPT = Path(__file__).with_name("others_loops.py")


@pytest.fixture(scope="module")
def outcome(ranks):
    """Run all checks in one pair of processes, and return what failed by check and rank."""
    return outcome_of(ranks([SCRIPT]))


@pytest.mark.parametrize("check", checks_of(SCRIPT))
def test_on_two_processes(outcome, check):
    failures, errors = outcome
    for rank in (0, 1):
        assert (check, rank) in failures, f"not reached: {errors[-2000:]}"
        assert not failures[check, rank], f"rank {rank}: {failures[check, rank]}"
