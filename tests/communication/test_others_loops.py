"""Communication in other people's models and loops, which change, wrap, clip, scale and skip: on two gloo processes."""

from pathlib import Path

from two_processes import checks_of

outcome, test_on_two_processes = checks_of(Path(__file__).with_name("others_loops.py"))
