"""`sooner forecast` as it is typed: answers, JSON, reports, and refusals in one sentence."""

import dataclasses
import gzip
import json
import subprocess
import sys

import numpy as np
import pytest

from sooner.forecast import Check, find, fit, parse, table
from sooner.forecast.check import Held
from sooner.report.forecast import build

COMMANDS = [
    "laws",
    "fit",
    "predict",
    "curve",
    "check",
    "schedule",
    "allocate",
    "task",
    "compare",
    "plan",
    "when",
    "gain-of-decay",
    "merge",
]


def loss(n, d):
    return 1.8 + 480 / n**0.35 + 2100 / d**0.37


@pytest.fixture
def files(tmp_path):
    """Tables and curves as people have them."""
    random = np.random.default_rng(0)
    n, d = (one.ravel() for one in np.meshgrid(np.geomspace(1e8, 3e9, 5), np.geomspace(2e9, 1e11, 5)))
    shock = np.exp(0.002 * random.standard_normal(25))
    rows = [f"{a:g},{b:g},{c:.5f}" for a, b, c in zip(n, d, loss(n, d) * shock, strict=True)]
    (tmp_path / "runs.csv").write_text("Model Size,tokens,val_loss\n" + "\n".join(rows))
    law, steps = find("annealing"), np.arange(100.0, 3001, 50)
    for name, text in (("cosine", "cosine:peak=1e-3,warmup=100"), ("constant", "constant:peak=1e-3,warmup=100")):
        curve = table("a", step=steps, lr=parse(text, total=3000).lr(steps))
        made = law.predict(np.array([[2.5, 0.6, 0.5, 0.5]]), law.prepare(curve))[0]
        made *= np.exp(0.0005 * random.standard_normal(len(steps)))
        lines = [f"{s:g},{v:.6f},{r:.8g}" for s, v, r in zip(steps, made, curve["lr"], strict=True)]
        (tmp_path / f"{name}.csv").write_text("step,loss,lr\n" + "\n".join(lines))
    compute = np.geomspace(1e18, 1e21, 12)
    for name, floor, amount in (("old", 2.0, 1.0), ("new", 1.9, 1.4)):
        made = (floor + amount * (compute / 1e18) ** -0.2) * np.exp(0.001 * random.standard_normal(12))
        lines = [f"{c:g},{v:.6f}" for c, v in zip(compute, made, strict=True)]
        (tmp_path / f"{name}.csv").write_text("FLOPs,loss\n" + "\n".join(lines))
    task = 0.3 + 30 / n**0.25 + 60 / d**0.25
    score = 0.98 - 0.7 / (1 + np.exp(-4 * (task - 0.9)))
    lines = [f"{a:g},{b:g},{v:.6f},{s:.6f}" for a, b, v, s in zip(n, d, task, score, strict=True)]
    (tmp_path / "task.csv").write_text("params,tokens,loss,acc\n" + "\n".join(lines))
    (tmp_path / "percent.csv").write_text("params,tokens,loss,acc\n1e8,1e9,2,155\n2e8,2e9,1.9,160\n")
    (tmp_path / "cooled.csv").write_text("params,start,loss\n1e8,3.2,3.1\n3e8,3,2.91\n1e9,2.8,2.72\n")
    (tmp_path / "gap.csv").write_text("parameters,tokens,loss\n1e8,,3\n2e8,2e9,2.8\n3e8,4e9,2.7\n4e8,5e9,2.6\n")
    (tmp_path / "one.csv").write_text("parameters,tokens,loss\n1e8,1e9,3\n")
    packed = gzip.compress(b"".join(b'{"step": %d, "loss": 2.5}\n' % step for step in range(1, 900)))
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "folder").mkdir()
    return tmp_path


ANSWERS = {
    "fit": (["fit", "runs.csv"], "on 25 rows of 25 runs"),
    "fit a named law": (["fit", "runs.csv", "--law", "power_floor", "--over", "compute"], "power_floor on 25 rows"),
    "predict": (["predict", "runs.csv", "--at", "parameters=7e9,tokens=1.4e11"], "at parameters 7e+09, tokens 1.4e+11"),
    "curve": (["curve", "cosine.csv", "--total", "6000", "--target", "2"], "at step 6000, 2 is not reached"),
    "when": (["when", "cosine.csv", "--total", "6000", "--target", "2.4"], "by step 6000 with a chance of"),
    "another schedule": (
        ["curve", "constant.csv", "cosine.csv", "--schedule", "wsd:total=3000,warmup=100", "--law", "annealing"],
        "final loss",
    ),
    "check": (["check", "runs.csv"], "mean error"),
    "schedule": (["schedule", "constant.csv", "cosine.csv", "--warmup", "100", "--law", "annealing"], "below cosine"),
    "allocate": (["allocate", "runs.csv", "--compute", "1e22", "--compute", "1e21"], "per parameter): loss"),
    "task": (["task", "task.csv", "--at", "parameters=7e9,tokens=1.4e11"], "by way of a task loss of"),
    "compare": (["compare", "old.csv", "new.csv"], "they cross at compute"),
    "gain-of-decay": (
        ["gain-of-decay", "cooled.csv", "--column", "before=start", "--at", "loss=2.5,N=7B"],
        "N=7B ends at",
    ),
    "gain-of-decay of a curve": (["gain-of-decay", "cosine.csv", "constant.csv"], "if it is cooled down now, at"),
    "plan": (["plan", "runs.csv", "--at", "parameters=3e10,tokens=6e11"], "the law is known to ±"),
}


@pytest.mark.parametrize(("words", "said"), ANSWERS.values(), ids=list(ANSWERS))
def test_every_command_answers_in_words_numbers_and_a_page(cli, files, words, said):
    told = cli("forecast", *words, "--draws", "30", "--out", "page.html")
    assert told.code == 0, told.err
    assert said in told.out.splitlines()[0]
    assert told.out.rstrip().endswith("report: page.html")
    page = (files / "page.html").read_text()
    assert said in page.replace("&#43;", "+")
    assert "http://" not in page.split("<script>")[0]
    numbers = cli("forecast", *words, "--draws", "30", "--json")
    found = json.loads(numbers.out)
    assert found["answer"] == told.out.splitlines()[0]
    assert isinstance(found["warnings"], list)


def test_the_mapping_the_objective_and_the_baselines_are_shown(cli, files):
    told = cli("forecast", "predict", "runs.csv", "--at", "parameters=7e9,tokens=1.4e11", "--draws", "30")
    assert "note: loss is read from 'val_loss', parameters from 'Model Size'" in told.out
    assert "note: objective: sum over 25 rows of the " in told.out
    assert "last value" in told.out
    assert "power + floor" in told.out
    assert "Fitted without the largest compute" in told.out


def test_a_run_goes_on_along_the_schedule_that_is_said(cli, files):
    rows = [line.split(",") for line in (files / "cosine.csv").read_text().splitlines()]
    half = [f"{step},{value}" for step, value, _ in rows if step == "step" or float(step) <= 1500]
    (files / "half.csv").write_text("\n".join(half))
    words = ("forecast", "curve", "half.csv", "--lr", "cosine:peak=1e-3,warmup=100,total=3000", "--draws", "30")
    told = json.loads(cli(*words, "--json").out)
    assert told["answer"].startswith("final loss")
    assert told["answer"].endswith("at step 3000")
    assert float(told["answer"].split()[2]) == pytest.approx(float(rows[-1][1]), rel=0.01)


def test_places_are_named_as_headings_are_and_a_law_in_one_column_takes_the_files(cli, files):
    told = [
        cli("forecast", "predict", "runs.csv", "--at", at, "--law", "chinchilla", "--draws", "20").out.splitlines()[0]
        for at in ("parameters=7e9,tokens=1.4e11", "N=7_000_000_000,D=1.4e11", "parameters=7e9,compute=5.88e21")
    ]
    assert told[0] == told[1] == told[2]
    assert "power_floor on" in cli("forecast", "fit", "cosine.csv", "--law", "power_floor", "--draws", "20").out
    assert "they" in cli("forecast", "compare", "cosine.csv", "constant.csv", "--draws", "20").out


FAR = {
    "predict": ["predict", "runs.csv", "--law", "chinchilla", "--at", "parameters=7e11,tokens=1e13"],
    "allocate": ["allocate", "runs.csv", "--law", "chinchilla", "--compute", "1e26"],
    "curve": ["curve", "cosine.csv", "--lr", "constant:peak=1e-3", "--law", "power_floor", "--total", "900000"],
    "task": ["task", "task.csv", "--at", "parameters=7e11,tokens=1e13"],
}


@pytest.mark.parametrize("words", FAR.values(), ids=list(FAR))
def test_beyond_what_backtests_support_the_headline_is_a_range(cli, files, words):
    told = cli("forecast", *words, "--draws", "20").out.splitlines()[0]
    assert "times beyond the largest fitted, and forecasts were tested to 100 times: no value can be told" in told
    assert "±" not in told


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal_and_numbers_do_not_break(cli, files, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = cli("forecast", "check", "runs.csv", "--draws", "30").out.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("Fitted without"))
    table = lines[start + 1 : lines.index("", start)] if "" in lines[start:] else lines[start + 1 :]
    assert max(map(len, table)) <= width
    bands = [line for line in table if "[" in line]
    assert bands
    assert all("]" in line and line.count("%") >= 4 for line in bands)


def test_help_and_answers_do_not_wait_for_torch(files):
    code = (
        "import sys; from sooner.cli import main; sys.argv = ['sooner', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'scipy', 'plotly') if name in sys.modules], file=sys.stderr)"
    )

    def loaded(*words):
        words = [sys.executable, "-c", code, "forecast", *words]
        return subprocess.run(words, capture_output=True, text=True, cwd=files, check=True).stderr.splitlines()[-1]

    assert loaded("--help") == "[]"
    assert loaded("fit", "--help") == "[]"
    assert loaded("curve", "cosine.csv", "--law", "annealing", "--draws", "20") == "['numpy', 'scipy']"


def test_what_beats_the_law_is_told_and_long_lists_of_columns_are_short(cli, files):
    made = "".join(f"{s},{3 + s**-0.5 + (s > 30) * (s - 30) * 2e-3:.5f},{1e-3 / s:.6f}\n" for s in range(1, 61))
    (files / "turn.csv").write_text("step,loss,lr\n" + made)
    assert "do not rely on it here" in cli("forecast", "fit", "turn.csv", "--draws", "20").out
    names = ",".join(f"c{k}" for k in range(60))
    (files / "wide.csv").write_text(f"{names}\n{','.join('1' * 60)}\n")
    told = cli("forecast", "fit", "wide.csv").err
    assert "c15 and 44 more" in told
    assert "c16" not in told


def test_a_plain_power_law_that_does_better_is_told():
    x = np.geomspace(1e3, 1e6, 8)
    fitted = fit(find("m1", "tokens"), table(tokens=x, loss=2 + x**-0.3), draws=20)
    held = Held("a", 1e6, 2.0, 2.1, 1.9, 2.2, error=0.05, last_value=0.08, power_floor=0.01, covered=1.0)
    told = build.of_fit(fitted, Check("m1", "the largest tokens", 0.9, [held], []), {}).warnings
    assert any("off by 5 %, a plain power law with a floor by 1 %" in one for one in told)
    worse = Check("m1", "the largest tokens", 0.9, [dataclasses.replace(held, last_value=0.02)], [])
    assert any("do not rely on it here" in one for one in build.of_fit(fitted, worse, {}).warnings)


def test_every_answer_has_its_plots(cli, files):
    for words, _ in ANSWERS.values():
        assert cli("forecast", *words, "--draws", "20", "--out", "page.html").code == 0
        assert 'id="plot-forecast-0"' in (files / "page.html").read_text(), words


def test_laws_and_help_name_everything(cli):
    laws = cli("forecast", "laws").out
    assert all(name in laws for name in ("chinchilla", "annealing", "hestness", "mixture_of_experts"))
    told = cli("forecast", "--help").out
    assert all(f" {name} " in told for name in COMMANDS)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fit", "none.csv"], "there is no file none.csv"),
        (["fit"], "name at least one file"),
        (["fit", "runs.csv", "--law", "chinchila"], "did you mean 'chinchilla'"),
        (["fit", "runs.csv", "--column", "loss=vall_loss"], "did you mean 'val_loss'"),
        (["fit", "runs.csv", "--column", "loss"], "is not NAME=HEADING"),
        (["fit", "runs.csv", "--column", "loss=a", "--column", "loss=b"], "--column names loss twice"),
        (["fit", "runs.csv", "--draws", "1"], "--draws is 1; give 20 or more"),
        (["fit", "runs.csv", "--level", "90"], "--level is 90; give a share"),
        (["fit", "runs.csv", "--law", "annealing"], "the column 'step' is missing"),
        (["predict", "runs.csv", "--at", "parameters"], "is not NAME=NUMBER"),
        (["predict", "runs.csv", "--at", "parameters=big,tokens=1"], "is not NAME=NUMBER"),
        (["predict", "runs.csv", "--at", "parameters=1e9"], "--at 'parameters=1e9' does not say tokens"),
        (["predict", "runs.csv", "--at", "N=1e9,parameters=2e9,D=1e9"], "says parameters twice"),
        (["predict", "runs.csv", "--at", "parameters=nan,tokens=1"], "is not NAME=NUMBER"),
        (
            ["predict", "cosine.csv", "--at", "step=9000"],
            "reads whole learning-rate schedules; use sooner forecast curve",
        ),
        (["plan", "cosine.csv", "--at", "step=9000"], "reads whole learning-rate schedules; use sooner forecast curve"),
        (["curve", "cosine.csv", "--total", "nan"], "--total is nan; give a positive number"),
        (["curve", "cosine.csv", "--total", "1e30"], "step 1e+30 is beyond 20,000,000"),
        (["curve", "cosine.csv", "--target", "-2"], "--target is -2; give a positive number"),
        (["schedule", "cosine.csv", "--total", "nan"], "--total is nan; give a positive number"),
        (["schedule", "cosine.csv", "--total", "3"], "the total of 3 steps is too short to plan; give 24 or more"),
        (["compare", "old.csv", "cosine.csv"], "the files share none of compute, tokens, parameters, step"),
        (["compare", "old.csv", "new.csv", "--to", "nan"], "--to is nan"),
        (["plan", "runs.csv", "--at", "parameters=1e9,tokens=1e9", "--budget", "-3"], "--budget is -3"),
        (["task", "percent.csv", "--at", "parameters=1e9,tokens=1e9"], "divide percents by 100"),
        (["fit", "gap.csv"], "tokens is nan in row 1 of the table (run row 2)"),
        (["fit", "one.csv"], "nothing in parameters, tokens, loss changes"),
        (["fit", "cut.jsonl.gz"], "the compressed file is cut off; copy it again"),
        (["fit", "runs.csv", "--column", "los=val_loss"], "did you mean 'loss'"),
        (["fit", "runs.csv", "--draws", "30", "--out", "folder"], "cannot write the report to folder (Is a directory)"),
        (["curve", "cosine.csv", "--schedule", "cosin:total=9"], "did you mean 'cosine'"),
        (["curve", "cosine.csv", "--total", "5"], "has reached step 3000 already"),
        (["curve", "runs.csv"], "the column 'step' is missing"),
        (["check", "runs.csv", "--leave", "all"], "--leave is 'all'"),
        (["allocate", "runs.csv", "--compute", "-1"], "the budget is -1 FLOP"),
        (["allocate", "cosine.csv", "--compute", "1e21"], "a budget is split under a law in parameters and tokens"),
        (["compare", "old.csv", "runs.csv", "--over", "width"], "the column 'width' is missing"),
        (["plan", "runs.csv", "--at", "parameters=1e9,tokens=1e9", "--goal", "2"], "the goal is 2"),
        (["schedule", "runs.csv"], "the column 'step' is missing"),
        (["predict", "runs.csv", "--at", "N=7e9,D=1e11,experts=8"], "says experts, which"),
        (["predict", "runs.csv", "--at", "N=7e9,D=1e11,compute=1"], "says compute, which"),
        (["predict", "runs.csv", "--at", "N=7e9,D=1e11,epochs=2"], "says epoch, which"),
        (
            ["fit", "task.csv", "--column", "experts=acc", "--law", "chinchilla"],
            "names experts, which chinchilla does not",
        ),
        (["gain-of-decay", "runs.csv"], "read from curves with their learning rates (say them with --lr KIND:...)"),
        (["gain-of-decay", "cosine.csv"], "no run has a cool-down behind or ahead of it (cosine decays over"),
        (["gain-of-decay", "cooled.csv", "--at", "parameters=7e9"], "--at 'parameters=7e9' does not say loss"),
        (["gain-of-decay", "cooled.csv", "--column", "before=begin"], "begin"),
        (["task", "runs.csv", "--at", "parameters=1e9,tokens=1e9"], "the column 'accuracy' is missing"),
        (["fit", "runs.csv", "--draws", "30", "--out", "runs.csv/x/page.html"], "cannot write the report"),
    ],
)
def test_bad_input_ends_with_one_sentence(cli, files, words, sentence):
    told = cli("forecast", *words)
    assert told.code == 2
    assert sentence in told.err.strip().splitlines()[-1]
    assert "Traceback" not in told.err
