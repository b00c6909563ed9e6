"""The benchmark of lazy checkpoints runs, at a size too small to say anything about time."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    import lazy_checkpoint

    yield lazy_checkpoint
    for name in {"lazy_checkpoint", "_interleaved"} - before:
        sys.modules.pop(name, None)


def test_every_way_has_a_row_beside_the_limits(benchmark, capsys, monkeypatch):
    monkeypatch.setattr("sooner.claims._stalls.ATTEMPTS", 1)
    benchmark.main(mib=0.2, rounds=1, steps=2, kills=0)
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in benchmark.WAYS)
    assert "one copy of the memory" in printed
    assert "one write to the disk" in printed
    assert "times less than stager (target 10)" in printed
    assert benchmark.verdict(0.5).startswith("CONTENDED")
