"""docs/getting-started.md: its loop trains, its recipes are recipes, and commands print what it says they print."""

import re
import sys
from pathlib import Path

import torch

import sooner

TEXT = (Path(__file__).parents[2] / "docs" / "getting-started.md").read_text(encoding="utf-8")


def test_the_changed_line_trains():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    found = {}
    first = code.replace("range(50)", "range(1)")
    for program in (first, code):
        torch.manual_seed(0)
        scope = {}
        exec(program, scope)
        found[program] = scope["loss"].item()
    assert found[code] < found[first] / 2


def test_explain_prints_what_the_page_shows():
    (recipe,) = re.findall(r'^sooner explain "(.*)"$', TEXT, re.MULTILINE)
    assert f"```text\n{sooner.explain(recipe).rstrip()}\n```" in TEXT


def test_the_recipes_are_recipes(tmp_path, monkeypatch):
    (tmp_path / "my_optimizer.py").write_text("import torch\nclass Mine(torch.optim.SGD):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    (line,) = re.findall(r'--recipes "(.*)"$', TEXT, re.MULTILINE)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    for text in line.split(";"):
        sooner.Recipe(text).build(model, 10)
    monkeypatch.delitem(sys.modules, "my_optimizer")


def test_its_commands_are_commands_of_make_and_sooner():
    from sooner.cli import app

    commands = re.findall(r"^(?:sooner|`?sooner) (\w+)", TEXT, re.MULTILINE) + re.findall(r"`sooner (\w+)", TEXT)
    assert {"race", "workloads", "explain", "claim"} <= set(commands)
    assert all(app[name] for name in commands)
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}:" in makefile for target in re.findall(r"`?make (\w+)", TEXT))
