"""docs/schedules.md: every snippet runs, every part of the station is on it, and its figures are right."""

import re
from pathlib import Path

import pytest
import torch

from sooner import part
from sooner.schedule import UBA

PAGE = Path(__file__).parents[2] / "docs" / "schedules.md"
TEXT = PAGE.read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"^## (\w+):.*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE))


def run(name):
    found = {}
    exec(compile(SNIPPETS[name], f"{PAGE.name} {name}", "exec"), found)
    return found


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # snippets write files


def test_the_page_lists_the_parts_of_the_station():
    listed = re.findall(r"^\| `(\w+)`", TEXT, re.MULTILINE)
    assert sorted(listed) == sorted(name for name, station in part.names().items() if station == "schedule")
    assert list(SNIPPETS) == ["uba", "refined", "batch_scaling", "adadagrad"]


def test_uba(capsys):
    run("uba")
    assert capsys.readouterr().out == "mean rate 0.66 of the peak\n"


@pytest.mark.parametrize("phi", [0.25, 5])
def test_the_mean_factors_on_the_page(phi):
    found = UBA(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0), 10_000, phi=phi, warmup=0.0).mean_factor()
    assert f"{found:.2f} at\n$\\phi = {phi}$" in TEXT or f"{found:.2f} at $\\phi = {phi}$" in TEXT


def test_refined():
    found = run("refined")
    assert len(found["log"].norms()) == 200
    x = torch.eye(4)
    assert (found["model"](x) - x[:, :2]).abs().max() < 0.05  # the second run learned


def test_batch_scaling():
    found = run("batch_scaling")
    assert 0.01 < found["rate"] < 0.08
    assert found["curvature"].noise > 0
    assert found["training"].learning_rates()[0] == pytest.approx(1e-3 * 8**0.5 / 6)  # first of five warm-up steps


def test_adadagrad(capsys):
    controller = run("adadagrad")["controller"]
    assert 8 < controller.batch_size <= 256
    assert capsys.readouterr().out == f"the last batch had {controller.batch_size} samples\n"
