"""Options that say what runs the runs and who proposes settings: refused where they make no sense."""

import re

import pytest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--engine", "rai"), r"engine 'rai' is unknown \(did you mean 'ray'\?\); choose processes or ray"),
        (("--address", "auto"), "--address auto goes with --engine ray"),
        (("--cpus-per-run", "2"), "--cpus-per-run 2 goes with --engine ray"),
        (("--engine", "ray", "--gpus", "0,1"), "--gpus 0,1 names devices of this machine; --engine ray places runs"),
        (("--engine", "ray", "--cpus-per-run", "0"), "the number of CPUs is 0: it must be 1 or more"),
        (("--engine", "ray", "--address", "ray://head:10001"), "a race runs on a node of its cluster, where its addr"),
        (
            ("--engine", "ray", "--address", "head"),
            "--address head is no address of a cluster; write it like HOST:6379",
        ),
        (
            ("--engine", "ray", "--address", "127.0.0.1:1"),
            r"nobody listens at --address 127.0.0.1:1 \(.*refused\); give",
        ),
        (("--tuner", "optima"), r"tuner 'optima' is unknown \(did you mean 'optuna'\?\); choose halton, optuna, "),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(options, said, cli):
    if "ray" in options:
        pytest.importorskip("ray")
    told = cli("race", "quadratic", "--recipes", "sgd", "--out", "race", *options)
    assert told.code == 2
    assert re.search(said, " ".join(told.err.split()))
    assert "Traceback" not in told.err
