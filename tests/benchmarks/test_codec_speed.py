"""The benchmark of the codecs' own time runs, at a size too small to say anything about time."""

import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    threads, before = torch.get_num_threads(), set(sys.modules)
    import codec_speed

    yield codec_speed
    torch.set_num_threads(threads)
    for name in {"codec_speed", "_interleaved"} - before:
        sys.modules.pop(name, None)


def test_every_codec_has_a_row(benchmark, capsys, monkeypatch):
    monkeypatch.setattr("_interleaved.BLOCK_SECONDS", 0.001)
    benchmark.main(millions=0.01, rounds=1, at_once=30)
    printed = capsys.readouterr().out
    assert all(f"  {text.strip()} " in printed for text in benchmark.RECIPES.split(";"))


@pytest.mark.parametrize("numbers", [1000, 10_000, 5_000_000])
def test_the_layout_is_about_as_large_as_asked(benchmark, numbers):
    assert abs(benchmark.layout_of(numbers).size - numbers) < max(4000, 0.01 * numbers)
