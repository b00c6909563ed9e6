"""docs/your-own-model.md: its task is at most 15 lines long, races from the command line, and its words are ours."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

import sooner
from sooner.cli import main
from sooner.error import SoonerError
from sooner.objective import Objective
from sooner.task import check, from_file

PAGE = Path(__file__).parents[2] / "docs" / "your-own-model.md"
TEXT = PAGE.read_text(encoding="utf-8")
TASK, ACCURACY, COUNTED, BY_HAND = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my_task.py"
    path.write_text(TASK, encoding="utf-8")
    return path


def test_the_task_is_at_most_15_lines_long():
    assert len(TASK.splitlines()) <= 15
    assert "15 lines" in TEXT


def test_the_task_races_from_the_command_line(task, tmp_path, begin):
    words = ["race", "my_task.py", "--steps", "60", "--recipes", "adamw; muon", "--tune", "1", "--seeds", "6"]
    done = begin(*words, "--jobs", "2", "--no-cost", "--json", "--out", "race", cwd=tmp_path)
    assert done.wait() == 0, done.error.read_text()
    result = json.loads(done.out.read_text())
    assert result["task"]["name"] == "my_task"
    assert result["task"]["description"].startswith("A perceptron with one hidden layer reads 1,797")
    assert [c["status"] for c in result["contenders"]] == ["raced", "raced"]
    for c in result["contenders"]:
        assert all(curve["values"][-1] < curve["values"][0] / 3 for curve in c["curves"])  # it learns
    assert None not in result["targets"].values()
    assert (tmp_path / "race" / "report.html").is_file()


def test_the_page_shows_what_the_check_prints(task, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sooner", "workloads", "my_task.py"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit, match="0"):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert f"{lines[0]}\n{lines[1]}\n" in TEXT


def test_the_accuracy_that_the_page_adds_is_a_metric(task):
    task.write_text(TASK + ACCURACY, encoding="utf-8")
    found = from_file(task)
    assert (found.metric, found.higher_is_better) == ("accuracy", True)
    run = sooner.train(found, "adamw", steps=60)
    assert run.values[0] < 0.3
    assert run.values[-1] > 0.8


def test_the_counted_loss_of_the_page_and_its_loop_give_the_gradient_of_the_full_batch(task):
    task.write_text(TASK + COUNTED + BY_HAND, encoding="utf-8")
    found = from_file(task)
    check(found)
    module = sys.modules[found.loss.__module__]
    x, y = found.batches(1, "train")[0]
    y = y.masked_fill(torch.arange(len(y)) % 3 == 1, -100)
    y[:6] = -100
    micro = [(x[:9], y[:9]), (x[9:20], y[9:20]), (x[20:], y[20:])]
    slopes = []
    for way in ("full", "training", "by hand"):
        model = found.model(0).double()
        pairs = [(one.double(), labels) for one, labels in micro]
        if way == "full":
            torch.nn.functional.cross_entropy(model(x.double()), y).backward()
        elif way == "training":
            sooner.Recipe("sgd").build(model, 1).backward(Objective(model, found.loss, pairs))
        else:
            module.backward(model, pairs, expected=20)
        slopes.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    for slope in slopes[1:]:
        torch.testing.assert_close(slope, slopes[0], rtol=1e-12, atol=1e-14)


def commands():
    return re.findall(r"^sooner race my_task\.py --recipes \"(.*)\"$", TEXT, re.MULTILINE)


def test_the_recipes_of_the_page_are_recipes(task, tmp_path, monkeypatch):
    code = "import torch\nclass Mine(torch.optim.SGD):\n    pass\n"
    (tmp_path / "my_optimizer.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    recipes = [sooner.Recipe(text) for line in commands() for text in line.split(";")]
    assert len(recipes) == 5
    for recipe in recipes:
        recipe.build(from_file(task).model(0), 10)
    monkeypatch.delitem(sys.modules, "my_optimizer")


BROKEN = {
    "does not import: line 3": TASK.replace("sklearn.datasets", "no.such.place"),
    "defines no function loss (did you mean 'los'?)": TASK.replace("def loss", "def los"),
    "sets no budget; add a line such as steps = 400": TASK.replace("steps = 200\n", ""),
    "model(seed) gave two different models for one seed": TASK.replace("    torch.manual_seed(seed)\n", ""),
    "batches(seed, 'train')[3] gave two different batches": TASK.replace("torch.Generator().manual_seed(seed)", "None"),
    "so all runs would be the same": TASK.replace("manual_seed(seed)", "manual_seed(1)"),
    "that can't be indexed by step": TASK.replace("return [(", "return len([(").replace("draw])]", "draw])])"),
    "has no batch 279": TASK.replace("(500, 32)", "(230, 32)"),
    "loss(model, batch) is nan at step 0": TASK.replace("batch[1])", "batch[1]) * float('nan')"),
    "returned shape (32,)": TASK.replace("batch[1])", "batch[1], reduction='none')"),
    "metric 'accuracy' is not among what metrics(model, batch) returns": TASK + "metric = 'accuracy'\n",
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_what_the_page_says_you_see_is_what_you_see(task, sentence):
    assert sentence in TEXT
    task.write_text(BROKEN[sentence], encoding="utf-8")
    with pytest.raises(SoonerError, match=re.escape(sentence)):
        from_longest_run(task)


def from_longest_run(path):
    """Check the task as a race with schedules does: for runs of 1.4 budgets."""
    from sooner.race.plan import Plan
    from sooner.workloads import find

    Plan(find(str(path)), [sooner.Recipe("adamw + cosine")], out=path.parent)


def test_the_methods_of_the_page_say_what_the_page_says(task):
    task.write_text(
        TASK.replace("torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)", "torch.nn.Linear(64, 10)"),
        encoding="utf-8",
    )
    with pytest.raises(SoonerError, match="muon finds no hidden weight matrix"):
        sooner.Recipe("muon").build(from_file(task).model(0), 10)
    assert "muon finds no hidden weight matrix" in TEXT
    assert check(from_file(task))["parameters"] == 650
