"""A task whose model takes a size: what counts as one, what it gives at other sizes, and how others are refused."""

import functools
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.race.cell import _task
from sooner.race.plan import Plan
from sooner.recipe import Recipe
from sooner.task import check, from_file

LINE = '''
"""A plane is fitted to points by a network with a hidden layer."""
import torch
steps = 20
def model(seed{}):
    torch.manual_seed(seed)
    width = round(8 * {})
    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 1))
def batches(seed, split):
    x = torch.randn(40, 16, 4, generator=torch.Generator().manual_seed(seed))
    return [(x[i], x[i].sum(1, keepdim=True)) for i in range(40)]
def loss(model, batch):
    return ((model(batch[0]) - batch[1]) ** 2).mean()
'''


def task(folder, argument=", size=1", factor="size"):
    path = folder / "line.py"
    path.write_text(LINE.format(argument, factor), encoding="utf-8")
    return from_file(path)


def parameters(task):
    return check(task)["parameters"]


def test_a_model_with_a_size_is_the_plain_one_at_1_and_larger_at_more(tmp_path):
    found = task(tmp_path)
    assert found.sizable
    assert found.at(1) is found
    assert [parameters(found.at(size)) for size in (1, 2, 4)] == [49, 97, 193]
    assert parameters(found.at(0.5)) == 25
    assert parameters(found.at(2).at(4)) == 193
    assert found.at(2.0).size == 2


def test_a_sized_task_can_be_sent_to_a_worker_by_its_file_or_whole(tmp_path):
    found = task(tmp_path)
    assert parameters(pickle.loads(pickle.dumps(found.at(4)))) == 193
    plan = Plan(found.at(4), [Recipe("sgd")], looks=(6,), tune=0, out=tmp_path / "race")
    assert plan.identity()["task"]["size"] == 4
    assert parameters(_task(**plan.sendable_task())) == 193
    plain = Plan(found, [Recipe("sgd")], looks=(6,), tune=0, out=tmp_path / "race")
    assert "size" not in plain.identity()["task"], "older races stay what they are"
    assert "size" not in plain.sendable_task()


@pytest.mark.parametrize(
    ("argument", "factor"),
    [("", "1"), (", width=1", "width"), (", size=64", "size / 64"), (", *, sizes=1", "sizes"), (", **size", "1")],
)
def test_a_model_that_takes_no_size_trains_as_ever_and_refuses_one(tmp_path, argument, factor):
    found = task(tmp_path, argument, factor)
    assert not found.sizable
    assert parameters(found.at(1)) == 49
    with pytest.raises(SoonerError, match=r"task line: model\(seed\) takes no size whose default is 1, so it can't be"):
        found.at(2)


@given(st.one_of(st.floats(max_value=0), st.just(float("nan")), st.just(float("inf")), st.booleans(), st.text()))
@settings(max_examples=12, deadline=None)
def test_what_is_no_size_gets_one_sentence(size):
    with pytest.raises(SoonerError, match="is not a positive number; give 2 for twice the parameters"):
        _any().at(size)


@functools.cache
def _any():
    from sooner.workloads import find

    return find("quadratic")
