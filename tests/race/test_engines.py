"""Engines: who runs the cells, in which order and where, changes no number of a race."""

import hashlib
import math
import random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_races import numbers, small_plan

import sooner
from sooner.error import SoonerError
from sooner.race import worker
from sooner.race.engines import NAMES, engine
from sooner.race.engines.processes import Processes
from sooner.race.pool import Cell, failed
from sooner.race.referee import run
from sooner.race.stamps import costs_of_runs

RECIPES = ("sgd(lr=log(0.01, 0.1))", "sgd(lr=0.03)", "adamw(lr=1.0)")


def curve(payload):
    """What a run of this recipe and seed might give: no training, but another one for every cell."""
    drawn = random.Random(hashlib.sha256(f"{payload['recipe']} {payload['seed']}".encode()).digest())
    rate = drawn.uniform(0.05, 0.2)
    lost = payload["recipe"].startswith("adamw")
    steps = payload["evaluate_at"]
    return {
        "steps": steps,
        "values": [math.nan if lost and step else math.exp(-rate * step) for step in steps],
        "diverged_at": steps[1] if lost else None,
        "cpu_seconds": 0.0,
        "state_bytes": 0,
        "metrics": {},
    }


class Anyhow:
    """Ends the cells in an order that chance decides, and loses some of them."""

    def __init__(self, seed, losing=()):
        self.random, self.losing, self.closed = random.Random(seed), losing, 0

    def run(self, cells, on_result, on_progress=None, on_failure=None):
        cells = list(cells)
        self.random.shuffle(cells)
        for cell in cells:
            if self.random.random() < 0.5:
                on_progress(cell, 0.5, {"value": 1.0, "step": 3})
            if any(word in cell.key for word in self.losing):
                failed(cell, "its node burnt down", on_failure)
            else:
                on_result(cell, curve(cell.payload))

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("losing", [(), ("seed 30002",)])
def test_the_order_in_which_cells_end_changes_nothing(tmp_path_factory, losing):
    def result(seed):
        plan = small_plan(tmp_path_factory.mktemp("any") / "race", *RECIPES, tune=2, looks=(6, 7))
        return numbers(run(plan, None, Anyhow(seed, losing)))

    first = result(0)
    assert [c["verdict"] for c in first["contenders"]][2] == "out"
    assert bool(first["failures"]) == bool(losing)

    @settings(max_examples=4)
    @given(st.integers(1, 2**32))
    def holds(seed):
        found = result(seed)
        for one in (found, first):
            one["failures"] = sorted(one["failures"], key=lambda lost: lost["cell"])
        assert found == first

    holds()


def test_a_failure_that_nobody_takes_is_an_error():
    with pytest.raises(SoonerError, match="a cell failed: its node burnt down"):
        failed(Cell("a cell", {}), "its node burnt down", None)


def test_engines_go_by_name():
    assert NAMES == ("processes", "ray")
    assert isinstance(engine("processes", jobs=3), Processes)
    with pytest.raises(SoonerError, match=r"engine 'rai' is unknown \(did you mean 'ray'\?\); choose processes or ray"):
        engine("rai")
    with pytest.raises(SoonerError, match=r"the address head:6379 is that of a Ray cluster; name the engine too"):
        engine("processes", address="head:6379")


def test_a_race_in_python_takes_the_name_of_an_engine(tmp_path):
    with pytest.raises(SoonerError, match=r"engine 'procesess' is unknown \(did you mean 'processes'\?\)"):
        sooner.race("quadratic", "sgd", pool="procesess", out=tmp_path / "race")
    assert not (tmp_path / "race").exists()


@pytest.mark.parametrize(
    ("kinds", "why"), [(("a", "a"), None), (("a", "b"), "several kinds of nodes (a A100; b A100)")]
)
def test_time_stamps_of_two_kinds_of_nodes_are_no_cost(kinds, why):
    contenders = [SimpleNamespace(why_out=None, seeds=6, kind=kind) for kind in kinds]
    evidence = SimpleNamespace(
        contenders=contenders,
        cells=lambda c, purpose, number: [c],
        data=lambda c: {"milliseconds_per_step": 2.0, "node": {"processor": c.kind, "accelerator": "A100"}},
    )
    found = costs_of_runs(evidence)
    assert found["why"] is None if why is None else why in found["why"]


def test_a_cell_refuses_the_wrong_processor(tmp_path, monkeypatch):
    plan = small_plan(tmp_path, "sgd")
    (cell,) = plan.runs(plan.baseline, {}, 0)
    monkeypatch.setattr(worker, "processor", lambda: "abacus")
    with pytest.raises(SoonerError, match=r"this run belongs on a machine with the processor .* has abacus"):
        worker.run_cell(cell.payload, print)
