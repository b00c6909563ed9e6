"""The walk-through in docs/adding-a-part.md: its code runs, does what it says, and fits the rest of the library."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

import sooner

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-part.md"


@pytest.fixture
def signum(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)
    (tmp_path / "signum_example.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.spec_from_file_location("signum_example", tmp_path / "signum_example.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_moves_every_weight_by_the_sign_of_the_mean_gradient(signum):
    p = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = signum.Signum([p], lr=0.5, momentum=0.5)
    p.grad = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    optimizer.step()
    assert p.tolist() == [-0.5, 0.5, 0.0]
    p.grad = torch.tensor([-3.0, -2.0, 1.0], dtype=torch.float64)
    optimizer.step()  # mean: 0.25 - 1.5 < 0
    assert p.tolist() == [0.0, 1.0, -0.5]


def test_it_fits_into_a_recipe_as_an_importable_class(signum):
    recipe = sooner.Recipe("signum_example.Signum(momentum=0.8) + cosine")
    assert set(recipe.space) == {"lr"}
    training = recipe.build(torch.nn.Linear(2, 2), steps=10)
    assert training.learning_rates() == [pytest.approx(1e-3)]
