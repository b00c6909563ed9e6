"""Every method takes the step of its equations and of its authors' package, and the page that says so is up to date."""

import functools
from pathlib import Path

import pytest
import table
import torch

from sooner import part
from sooner.update._matrices import MatrixOptimizer
from sooner.update._optimizer import ChainOptimizer

PACKAGES = {"adabelief-pytorch", "adamp", "apollo-torch", "lion-pytorch", "prodigyopt", "schedulefree"}
PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


@functools.cache
def rows():
    return table.rows()


def named(method):
    return method.partition("(")[0]


def on_the_page():
    """The rows of the committed page as lists of cells."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    return [line.strip("| ").split(" | ") for line in lines[first + 1 :]]


@pytest.mark.parametrize("executor", table.EXECUTORS)
def test_every_error_is_one_of_rounding(executor):
    found = {row: row.errors[table.EXECUTORS.index(executor)] for row in rows()}
    assert {str(row): error for row, error in found.items() if not error <= 1e-6} == {}


def test_in_double_precision_hardly_anything_is_left(monkeypatch):
    monkeypatch.setattr(table, "dtype", torch.float64)
    monkeypatch.setattr(table, "EXECUTORS", ("native",))
    for row in table.rows():
        matrices = issubclass(getattr(table.update, named(row.method)), MatrixOptimizer)
        limit = 1e-11 if matrices else 1e-12
        if row.against.startswith("torch.optim.Muon"):
            limit = 1e-7  # it divides by the norm, the authors and we by the norm + 1e-7
        assert row.errors[0] < limit, row


def test_every_method_that_needs_only_gradients_is_compared():
    compared = {named(row.method) for row in rows() if row.against == "its equations"}
    for name, home in part.names().items():
        method = part.load(name)
        if home == "update" and issubclass(method, ChainOptimizer) and "closure" not in method.needs:
            assert method.__name__ in compared


def test_the_page_shows_these_comparisons():
    present = [[row.method, row.against] for row in rows()]
    packages = {cells[1] for cells in on_the_page()} - {against for _, against in present}
    assert packages <= PACKAGES  # those that are not installed
    assert [cells[:2] for cells in on_the_page() if cells[1] not in packages] == present
    assert all(float(error) <= 1e-6 for cells in on_the_page() for error in cells[3:])


def test_the_page_opens_as_the_script_prints_it():
    assert PAGE.read_text(encoding="utf-8").startswith(table.INTRODUCTION.format(steps=table.STEPS))
