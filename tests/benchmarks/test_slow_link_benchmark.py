"""The arithmetic of the benchmark of slow links, and what its journal keeps; its runs are for people to read."""

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = ("_language_model", "_slow_link_target", "slow_link")


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)


def test_a_target_is_crossed_on_the_line_between_two_evaluations(load):
    crossing = load("_slow_link_target").crossing
    found = {"steps": [10, 20, 30], "values": [4.0, 3.0, 1.0]}
    assert crossing(found, 2.0) == 25
    assert crossing(found, 4.5) == 10
    assert crossing(found, 0.5) == math.inf
    assert crossing({"steps": [10, 20], "values": [math.nan, 1.0]}, 2.0) == 20


def test_the_journal_goes_on_after_a_line_that_was_cut_off(load, tmp_path):
    journal = load("_slow_link_target").Journal
    first = journal(tmp_path / "journal.jsonl")
    first.keep("a", [1, 2])
    with first.path.open("a") as file:
        file.write('\n{"key": "b", "val')
    again = journal(first.path)
    assert again.cells == {"a": [1, 2]}
    again.keep("b", 3)
    assert journal(first.path).cells == {"a": [1, 2], "b": 3}


def test_ratios_are_paired(load):
    mean, low, high = load("slow_link").interval(np.array([2.0, 8.0]), np.array([1.0, 1.0]))
    assert (mean, low, high) == pytest.approx((4, 2, 8))
    assert load("slow_link").interval(np.array([2.0, 8.0]), np.array([1.0, np.inf]))[0] == 0


def test_the_learning_rate_goes_into_the_recipe(load):
    setting = load("_slow_link_target").Setting
    assert setting("x", "adamw + fp16", 8, 0.002).text == "adamw(lr=0.002) + fp16"
    assert setting("x", "muon + dense", 8, 0.02).text == "muon(lr=0.02) + dense"


@pytest.mark.parametrize(("best", "asked"), [(5, [3, 4, 5, 6]), (1, [3, 4, 2, 1, 0]), (3, [3, 4, 2])])
def test_tuning_climbs_from_neighbor_to_neighbor(load, best, asked):
    seen = []

    def cost(value):
        seen.append(value)
        return abs(value - best)

    assert load("_slow_link_target").climb(range(7), 3, cost) == best
    assert seen == asked
