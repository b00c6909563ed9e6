"""What the commands print when all is well, and what they need for it."""

import json
import re
import subprocess
import sys

import pytest

from sooner import part, workloads
from sooner.cli.progress import RaceProgress
from sooner.race.journal import read
from sooner.race.pool import Cell

HEAVY = ("torch", "scipy", "plotly", "numpy", "pydantic", "jinja2")


@pytest.mark.parametrize("words", [["--help"], ["race", "--help"], ["--version"], ["parts"], ["workloads"], ["bogus"]])
def test_help_and_lists_import_nothing_heavy(program, words):
    code = (
        f"import sys, contextlib; sys.argv = ['sooner', *{words!r}]\n"
        "from sooner.cli import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=program.environment, capture_output=True, text=True)
    assert "heavy: []" in done.stdout
    assert "Traceback" not in done.stderr


def test_help_reads_like_a_manual(cli):
    told = cli("--help")
    assert told.code == 0
    assert all(command in told.out for command in ("race", "show", "parts", "workloads", "explain"))
    race = cli("race", "--help").out
    for option in (
        "recipes",
        "seeds",
        "looks",
        "until",
        "power",
        "effect",
        "tune",
        "steps",
        "regime",
        "jobs",
        "series",
        "ablate",
        "out",
        "json",
    ):
        assert f"--{option}" in race


def test_parts_are_listed_and_described(cli):
    listed = cli("parts").out
    assert re.search(r"^update +\n  adabelief +AdaBelief: ", listed, re.MULTILINE)
    assert re.search(r"^schedule +\n  adadagrad ", listed, re.MULTILINE)
    assert f"{len(part.names())} parts; `sooner explain NAME` shows the card of one" in listed
    for name, words in (("muon", "tunes lr in [0.003, 0.3], default 0.02"), ("cosine", "plans for a fixed number")):
        told = cli("parts", name)
        assert told.code == 0
        assert words in told.out
        assert "theta <-" in told.out or "factor(t)" in told.out


def test_workloads_are_listed_and_described(cli):
    listed = cli("workloads").out
    assert re.findall(r"^\w+", listed, re.MULTILINE)[1:] == workloads.names()
    told = cli("workloads", "quadratic")
    assert "100 parameters, 300 steps, metric loss (lower is better)" in told.out
    assert re.search(r"sha256:[0-9a-f]{16}", told.out)


def test_explain_prints_the_parts_in_order(cli):
    told = cli("explain", "cosine + muon(lr=0.05)")
    assert told.code == 0
    assert re.search(r"update +muon\(lr=0.05\)\n.*\nschedule +cosine\n", told.out)
    assert "torch.optim.NAdam" in cli("explain", "torch.optim.NAdam(lr=log(1e-4, 1e-2))").out


def test_an_optimizer_in_a_file_of_the_working_directory_is_found(cli, tmp_path):
    (tmp_path / "my_optimizer.py").write_text("import torch\nclass Mine(torch.optim.SGD):\n    pass\n")
    told = cli("explain", "my_optimizer.Mine(lr=log(1e-3, 1e-1))")
    assert "tunes lr in [0.001, 0.1]" in told.out
    sys.modules.pop("my_optimizer")


def test_a_race_prints_the_table_and_where_the_report_is(finished):
    assert "sgd(lr=1000000.0) is out: its loss became NaN or infinite in its only tuning trial (at step" in finished.out
    assert "A/A noise floor" in finished.out
    assert f"report: {finished.folder}/report.html" in finished.out
    assert f"quadratic: 100 parameters, 60 steps, anytime; journal in {finished.folder}" in finished.err
    assert "note: sgd(lr=0.02) has no hyper-parameter left to tune" in finished.err
    assert "tuning: 4 cells" in finished.err  # one of the points is the default, which need not be run again
    assert "racing on 8 seeds: 24 cells" in finished.err
    assert (finished.folder / "report.html").stat().st_size > 1_000_000


def test_the_cost_of_a_step_is_measured(finished):
    result = read(finished.folder).find("result", "result")
    first, second, out = result["contenders"]
    assert first["peak_memory_mib"] >= 0
    assert second["peak_memory_mib"] >= 0
    assert out["peak_memory_mib"] is None
    assert result["timing"]["blocks"] == 2 * 7
    assert result["timing"]["withheld"] == (second["cost"] is None)


def test_show_prints_the_same_table_and_makes_the_report_again(cli, finished):
    report = finished.folder / "report.html"
    before = report.read_bytes()
    report.unlink()
    told = cli("show", finished.folder)
    assert told.code == 0
    assert told.out == finished.out
    assert report.read_bytes() == before


def test_show_opens_the_report_when_asked(cli, finished, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert cli("show", finished.folder, "--open").code == 0
    assert opened == [(finished.folder / "report.html").as_uri()]


def test_json_is_the_result_in_the_journal_and_nothing_else(cli, finished, program):
    told = cli("show", finished.folder, "--json")
    assert json.loads(told.out) == read(finished.folder).find("result", "result")
    again = cli(*program.race, "--json", "--out", finished.folder)  # a finished race is told at once
    assert json.loads(again.out) == json.loads(told.out)
    assert "cells" not in again.err


def test_a_torn_last_line_is_reported(cli, finished):
    path = finished.folder / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind":"cell","ke')
    told = cli("show", finished.folder)
    path.write_bytes(whole)
    assert told.code == 0
    assert re.search(r"Note: the last line of .* is\s+incomplete", told.out)


def test_a_report_that_cannot_be_written_keeps_the_table_on_the_screen(cli, finished):
    report = finished.folder / "report.html"
    kept = report.read_bytes()
    report.unlink()
    report.mkdir()
    told = cli("show", finished.folder)
    report.rmdir()
    report.write_bytes(kept)
    assert told.code == 2
    assert "A/A noise floor" in told.out
    assert "sooner: cannot write the report to" in told.err


def test_folders_with_brackets_in_their_name_are_printed_as_they_are(cli, finished, tmp_path):
    finished.folder.rename(tmp_path / "[red]x[bold]")
    told = cli("show", "[red]x[bold]")
    (tmp_path / "[red]x[bold]").rename(finished.folder)
    assert "report: [red]x[bold]/report.html" in told.out


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


def test_the_estimate_is_the_work_left_at_the_pace_so_far(monkeypatch):
    import io

    from rich.console import Console

    from sooner.cli import progress

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    screen = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=100)
    cells = [Cell(f"sgd | seed {i} | 100 steps", {}, 100.0) for i in range(4)]
    with RaceProgress(screen, 2) as shown:
        bar = shown._bar.tasks[0]
        shown.phase("tuning", cells, 600.0)
        clock.now = 2.0
        shown.finished(cells[0], {})
        assert bar.fields["left"] == ""  # too early to say
        clock.now = 10.0
        shown.progress(cells[1], 0.5, {"value": 1.0})
        assert (bar.completed, bar.total) == (150.0, 1000.0)
        assert bar.fields["left"] == "at least 57 s left"
        shown.phase("racing on 8 seeds", cells[1:], 0.0)
        clock.now = 20.0
        shown.failed(cells[1], "it [bold]broke[/bold]")
        assert bar.fields["left"] == "about 20 s left"
    assert "failed: sgd | seed 1 | 100 steps: it [bold]broke[/bold]" in screen.file.getvalue()


def test_what_a_task_prints_does_not_get_into_the_json(cli, tmp_path):
    (tmp_path / "chatty.py").write_text("print('loading')\nfrom sooner.workloads.quadratic import *\n")
    told = cli(
        "race",
        "chatty.py",
        "--recipes",
        "sgd",
        "--steps",
        "20",
        "--tune",
        "0",
        "--seeds",
        "6",
        "--no-cost",
        "--jobs",
        "1",
        "--json",
    )
    assert json.loads(told.out)["task"]["name"] == "chatty"
    assert "loading" in told.err


def test_power_before_a_race_runs_a_pilot_once_and_no_race(cli, tmp_path):
    words = ("race", "quadratic", "--recipes", "sgd(lr=0.02); adamw", "--steps", "40", "--tune", "0", "--jobs", "1")
    told = cli(*words, "--power", "0.9", "--effect", "0.7")
    assert told.code == 0
    assert "seeds for 90%" in told.out
    assert "As typed, 40 steps and 8 seeds, the race would see a ratio of" in told.out
    assert "To see 0.70x of the steps with a chance of 90%, the cheapest is this race with --steps" in told.out
    (folder,) = (tmp_path / "races").iterdir()
    assert folder.name.startswith("pilot-quadratic-")
    before = (folder / "journal.jsonl").read_bytes().count(b'"kind":"cell"')
    found = json.loads(cli(*words, "--power", "0.8", "--until", "40", "--json").out)
    assert (found["power"], found["until"], found["level"]) == (0.8, 40, 0.05)
    assert (folder / "journal.jsonl").read_bytes().count(b'"kind":"cell"') == before == 11
