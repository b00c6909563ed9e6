"""Workers with nothing in common: which memory gets to the optimum, without noise and with it, in miniature."""

import importlib.util
from pathlib import Path

import pytest

from sooner.communication import EF, EF21, EControl, EF21Momentum, TopK

SPEC = importlib.util.spec_from_file_location(
    "simulated_cluster", Path(__file__).parents[2] / "benchmarks" / "simulated_cluster.py"
)
CLUSTER = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(CLUSTER)


def excess(memory, rate, noise=0.0, rounds=800):
    return CLUSTER.descend(TopK(CLUSTER.RATIO), memory, rate, noise, rounds)


def test_error_feedback_stalls_where_ef21_goes_on_to_the_optimum():
    assert excess(EF21(), 0.25, rounds=1200) < 1e-12
    assert min(excess(EF(), rate) for rate in (1 / 128, 1 / 64, 1 / 32)) > 1e-3


def test_top_k_alone_stops_far_away():
    assert excess(None, 0.25) > 0.3


def test_momentum_and_error_control_hold_under_noise():
    ef21 = min(excess(EF21(), rate, noise=0.3) for rate in (1 / 128, 1 / 64))
    assert excess(EF21Momentum(), 1 / 128, noise=0.3) < 0.2 * ef21
    assert excess(EControl(0.02), 1 / 128, noise=0.3) < 0.5 * ef21


def test_they_reach_the_optimum_without_noise_too():
    assert excess(EF21Momentum(), 1 / 16, rounds=1500) < 1e-12
    assert excess(EControl(0.02), 1 / 8, rounds=1500) < 1e-12


def test_the_benchmark_prints_what_it_returns(capsys):
    found = CLUSTER.quadratics(rounds=20, noises=(0.0,), rates=(0.25, 0.125), arms=("dense", "top-k + ef21"))
    printed = capsys.readouterr().out
    assert set(found) == {("dense", 0.0), ("top-k + ef21", 0.0)}
    assert all(f"{value:.2e}" in printed for value in found.values())
    assert found["dense", 0.0] == pytest.approx(
        min(CLUSTER.descend(*CLUSTER.ARMS["dense"][:1], None, rate, 0.0, 20) for rate in (0.25, 0.125))
    )
