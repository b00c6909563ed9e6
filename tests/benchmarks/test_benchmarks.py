"""Every benchmark runs, at sizes too small to say anything about time."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Import a benchmark the way `python benchmarks/NAME.py` finds its neighbours, and forget it afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in ("_interleaved", *(path.stem for path in FOLDER.glob("*.py"))):
        if name not in before:
            sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def _keep_the_number_of_threads():
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_loop_overhead_compares_the_same_training(load, capsys):
    load("loop_overhead").main(pairs=2, steps=3)
    printed = capsys.readouterr().out
    assert printed.count("weights bit-identical: yes") == 2
    assert "wall time, sooner over by hand:" in printed
    assert "overhead per step:" in printed


def test_rounds_alternate_and_time_every_candidate(load):
    called = []
    rounds = load("_interleaved").interleave(
        {"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=1, calls={"a": 1, "b": 2}
    )
    assert called[:3] == ["a", "b", "b"]
    assert set(rounds[0].wall) == set(rounds[0].cpu) == {"a", "b"}
    assert len(rounds[0].share) == len(rounds[0].calibration) == 2


def test_help_time_runs_the_command_line(load, capsys):
    load("help_time").main(runs=1)
    assert capsys.readouterr().out.startswith("sooner --help: ")


def test_false_alarms_races_and_goes_on_where_it_stopped(load, capsys, tmp_path):
    benchmark = load("false_alarms")
    benchmark.main(races=1, steps=20, seeds=6, jobs=1, folder=tmp_path)
    first = capsys.readouterr().out
    journals = {path: path.read_bytes().count(b'"cell"') for path in tmp_path.glob("*/journal.jsonl")}
    benchmark.main(races=1, steps=20, seeds=6, jobs=1, folder=tmp_path, out=tmp_path / "kept" / "alarms.json")
    assert first.startswith("false alarms, verdict: ")
    assert capsys.readouterr().out == first
    kept = json.loads((tmp_path / "kept" / "alarms.json").read_text())
    assert kept["command"] == "python benchmarks/false_alarms.py --races 1 --steps 20 --seeds 6"
    assert {rate["of"] for rate in kept["false alarms"].values()} == {1}
    assert {path: path.read_bytes().count(b'"cell"') for path in tmp_path.glob("*/journal.jsonl")} == journals
    assert len(journals) == 1


def test_verdict_rules_draws_every_kind_of_race(load, capsys, tmp_path):
    benchmark = load("verdict_rules")
    for part, options in (
        ("floor", {"races": 20}),
        ("looks", {"races": 10, "until": 32}),
        ("cover", {"races": 5}),
        ("plan", {"pilots": 1, "races": 2}),
    ):
        getattr(benchmark, part)(**options, out=tmp_path / f"{part}.json")
        kept = json.loads((tmp_path / f"{part}.json").read_text())
        assert kept["command"].startswith(f"python benchmarks/verdict_rules.py {part} --")
        assert len(kept["rows"]) == len(capsys.readouterr().out.splitlines()) >= len(benchmark.NOISES)


def result(settings, curves):
    """Return as much of a race's result as the benchmark reads; a curve is the step at which it falls below 1."""
    steps = [0, 100, 200, 300]
    return {
        "targets": {"middle": 1.0},
        "primary_target": "middle",
        "contenders": [
            {
                "tuned_recipe": settings,
                "curves": [{"steps": steps, "values": [2.0 if s < at else 0.5 for s in steps]} for at in curves],
            }
        ],
    }


def test_strangers_are_judged_as_contenders_are(load):
    benchmark = load("false_alarms")
    slow, fast = result("a", [200] * 8), result("a", [100] * 8)
    assert benchmark.judge_strangers(slow, [fast, slow]) == ["faster", "no difference found"]
    assert benchmark.judge_strangers(fast, [slow, slow]) == ["slower", "slower"]
    assert benchmark.judge_strangers(fast, [slow, fast]) == ["slower", "no difference found"]


def test_only_races_with_two_others_of_the_same_settings_are_paired(load):
    benchmark = load("false_alarms")
    alike = [result("a", [100] * 8) for _ in range(3)]
    assert len(benchmark.two_contenders([*alike, result("b", [100] * 8), result("b", [100] * 8)])) == 3


def test_the_interval_of_a_rate_is_exact(load):
    # Clopper and Pearson: 0 of n has the upper end 1 - 0.025 ** (1 / n)
    assert load("false_alarms").rate(0, 10) == f"0 of 10 = 0.000 [0.000, {1 - 0.025**0.1:.3f}]"


def test_forecast_accuracy_skips_what_is_absent(load, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["forecast_accuracy.py", str(tmp_path)])
    benchmark = load("forecast_accuracy")
    benchmark.main()
    assert capsys.readouterr().out.replace("\n", "").count("skipped") == len(benchmark.TASKS) + 1
    assert benchmark.at_most("x", 0.544, 0.54, " %") == ("x", "0.544 %", "<= 0.54 %", True)
    assert benchmark.at_most("x", 0.546, 0.54, " %")[-1] is False


def test_forecast_accuracy_counts_the_goals_that_were_reached(load, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["forecast_accuracy.py", str(tmp_path)])
    benchmark = load("forecast_accuracy")
    (tmp_path / "made").mkdir()
    rows = [("a", "1", "1", True), ("b", "1", "0", False), ("c", "1", "none", None)]
    monkeypatch.setattr(benchmark, "TASKS", {"made": lambda folder: iter(rows)})
    benchmark.main()
    assert capsys.readouterr().out.rstrip().endswith("1 of 2 goals reached")
    assert benchmark.coverage("x", np.array([1.0] * 9 + [0.0])) == ("x, coverage at 90%", "90 %", "80 to 97 %", True)
    assert benchmark.coverage("x", np.ones(9))[-1] is False


def test_halves_are_better_than_the_last_value_or_warned(load):
    curves = load("_forecast_curves")
    steps = np.arange(10.0, 1001, 10)
    falling, stuck = 1 + steps**-0.5, np.maximum(1 + steps**-0.5, 1.1)
    (row,) = curves._halves("x", [("a", set(zip(steps, falling, strict=True)))], None)
    assert row[1].endswith("1 of 1 better")
    assert row[3] is True
    (row,) = curves._halves("x", [("a", set(zip(steps, stuck, strict=True)))], None)
    assert row[1:] == ("0.000 %; 0 of 1 better, 1 of the other 1 warned", "< 0.000 % (last value), or warned", True)


def test_the_dora_layer_is_compared_with_peft_s(load, capsys):
    pytest.importorskip("peft")
    load("dora_layer").main(width=16, rank=2, tokens=2, rounds=1)
    printed = capsys.readouterr().out
    for words in ("memory:", "forward:", "forward and backward:", "outputs differ by"):
        assert words in printed


def test_gain_coverage_counts_intervals_that_hold_the_truth(load, capsys):
    benchmark = load("gain_coverage")
    share = benchmark.main(repeats=1, draws=20, sizes=(3,), truths=("constant", "growing"))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed][:2] == ["constant", "low noise"]
    assert printed[-1].startswith("all")
    assert "of    6, width" in printed[-1]
    assert share >= 0.5
    tally = benchmark.Tally([True] * 9 + [False], [2.0] * 10)
    assert tally.line().startswith(" 90.0 % [55, 100] of   10, width 2.00x")


def test_a_greedy_loop_keeps_little_that_only_had_luck(load, capsys, tmp_path):
    benchmark = load("judge_errors")
    null = benchmark.figures(4, 25, "normal", 0.0, 0.02, 32)
    assert null["most kept by luck in a stream"] <= 1
    assert null["kept by luck by others, mean"]["one run"] > 5
    real = benchmark.figures(2, 20, "normal", 0.5, 0.04, 32)
    assert real["real ones kept"] > 0.7
    assert abs(real["real ones kept"] - real["said beforehand"]) < 0.3
    benchmark.main(streams=1, candidates=2, out=tmp_path / "judge.json")
    assert len(json.loads((tmp_path / "judge.json").read_text())["figures"]) == 6
    assert capsys.readouterr().out.count("kept by luck") == 6
