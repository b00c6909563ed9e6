"""The benchmark of a search's regret, on drawn runs whose best stack is known."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def regret(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("search_regret")
    sys.modules.pop("search_regret", None)


class Drawn:
    """Runs that fall at a rate of each stack's own: lion halves the steps, ema takes a tenth off, clipping adds one."""

    def __init__(self, regret, seeds, steps=100):
        self.stacks = regret.stacks()
        draw = np.random.default_rng(0)
        self.runs, self.steps, self.tuned = {}, {}, {}
        for stack in self.stacks:
            name = regret.key(stack)
            factor = (0.5 if "lion" in name else 1.0) * (0.9 if "ema" in name else 1.0)
            factor *= 1.1 if "clip_norm" in name else 1.0
            needs = 60 * factor * np.exp(0.02 * draw.standard_normal(seeds))
            grid = list(range(0, steps + 1, 2))
            self.runs[name] = [
                {
                    "steps": grid,
                    "values": [float(np.exp(-s / n)) for s in grid],
                    "diverged_at": None,
                    "cpu_seconds": 0.1,
                }
                for n in needs
            ]
            self.steps[name], self.tuned[name] = needs, str(stack)


def test_a_search_of_drawn_runs_picks_the_best_and_regrets_nothing(regret, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(regret, "Stored", lambda ground, seeds, folder: Drawn(regret, seeds))
    monkeypatch.setattr(regret, "EFFORTS", (regret.EFFORTS[-1], regret.EFFORTS[0]))
    regret.main(seeds=50, searches=1, folder=tmp_path, out=tmp_path / "found.json")
    told = capsys.readouterr().out
    assert "12 stacks on 50 seeds" in told
    assert "effort 2 needs 41 seeds for a search and 25 are there: left out" in told
    rows = {line.split("  ")[1]: line.split() for line in told.splitlines() if line.endswith("%")}
    assert rows["search"][-1] == rows["all alike"][-1] == "100%"
    assert float(rows["as it is"][3]) == pytest.approx(1 / 0.45 - 1, rel=0.05)
    assert (tmp_path / "found.json").exists()


def test_stacks_are_all_different_and_the_first_is_the_base(regret):
    names = [regret.key(stack) for stack in regret.stacks()]
    assert (len(names), len(set(names)), names[0]) == (12, 12, "adamw")


def test_regrets_are_told_with_their_doubt(regret):
    told = regret.told([0.0, 0.0, 0.0, 1.0])
    assert (told["mean"], told["median"], told["best"]) == (0.25, 0.0, 0.75)
    assert told["low"] <= 0.25 <= told["high"]
