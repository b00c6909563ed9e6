"""The benchmark of the simulated cluster runs, so small that its figures mean nothing."""

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    before, threads = set(sys.modules), torch.get_num_threads()
    yield importlib.import_module("simulated_cluster")
    torch.set_num_threads(threads)
    for path in FOLDER.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


def test_rounds_are_timed_against_the_same_arithmetic_by_hand(benchmark, capsys):
    ratio = benchmark.cost(measured=1, workers=3, width=4, rows=2, every=2)
    assert math.isfinite(ratio)
    shown = capsys.readouterr().out
    agreement = float(shown.partition("agree to ")[2].split()[0])
    assert agreement < 1e-6
    assert "guard: " in shown


def test_federated_methods_are_compared_per_round_and_per_gradient(benchmark, capsys):
    ends = benchmark.federated(
        clients=4, share=0.5, every=1, steps=2, rates=(0.1,), seeds=(1,), arms=("fedavg", "fedspeed", "fedhyper gm")
    )
    assert list(ends) == ["fedavg", "fedspeed", "fedhyper gm"]
    assert all(math.isfinite(value) for values in ends.values() for value in values)
    assert "per gradient" in capsys.readouterr().out
