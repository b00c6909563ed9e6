"""`sooner.race` is a function and a package, takes what a notebook defines, and its result shows itself."""

import copy
import functools
import importlib
import inspect
import pickle
import subprocess
import sys
import threading
import types

import pytest
import torch
from forked_workers import ForkedPool
from points_task import Counts

import sooner
from sooner.error import SoonerError
from sooner.race.plan import Plan
from sooner.racing import RaceResult, load
from sooner.task.by_value import digest, needs_value, pack, unpack

NOTEBOOK = """
import torch
WIDTH = 4
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(WIDTH, 1)
    def forward(self, x):
        return self.layer(x)
def model(seed):
    torch.manual_seed(seed)
    return Net()
def batches(seed, split):
    x = torch.randn(60, 16, WIDTH, generator=torch.Generator().manual_seed(seed))
    return [(x[i], x[i].sum(1, keepdim=True)) for i in range(60)]
def loss(net, batch):
    return ((net(batch[0]) - batch[1]) ** 2).mean()
"""
SMALL = {"seeds": 6, "tune": 1, "cost": False}


def cell(text, name="<ipython-input-1>"):
    """The names that a notebook's cell defines, as its kernel would."""
    space = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), space)
    return space


def task_of(text, name="<ipython-input-1>", **options):
    space = cell(text, name)
    return sooner.Task(space["model"], space["batches"], space["loss"], **{"steps": 40, "name": "plane", **options})


@pytest.fixture(scope="module")
def pool(zygote):
    with ForkedPool(zygote, 1) as workers:
        yield workers


@pytest.fixture(scope="module")
def result(pool, tmp_path_factory):
    watch = Counts()
    out = tmp_path_factory.mktemp("python") / "race"
    found = sooner.race(
        task_of(NOTEBOOK), "sgd(lr=0.02); sgd(lr=0.05); sgd(lr=1e9)", pool=pool, out=out, watch=watch, **SMALL
    )
    assert len(watch.done) > 20
    return found


def test_the_package_is_a_function_and_stays_a_package():
    import sooner.race.statistics

    assert sooner.race is sys.modules["sooner.race"] is importlib.import_module("sooner.race")
    assert isinstance(sooner.race, types.ModuleType)
    assert callable(sooner.race)
    assert sooner.race.plan.Plan is Plan
    assert pickle.loads(pickle.dumps(sooner.race)) is sooner.race
    assert copy.deepcopy(sooner.race) is sooner.race
    assert list(inspect.signature(sooner.race).parameters)[:3] == ["task", "recipes", "seeds"]
    assert {"race", "train", "watch"} <= set(dir(sooner))


def test_looking_at_it_loads_no_torch():
    program = "import sys, sooner; sooner.race; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "False\n"


def test_a_task_of_a_notebook_trains_in_workers_as_in_this_process(result):
    task = task_of(NOTEBOOK)
    curve = result.contenders[0]["curves"][0]
    run = sooner.train(task, "sgd(lr=0.02)", seed=curve["seed"])
    assert (run.steps, run.values) == (curve["steps"], curve["values"])


def test_the_result_shows_itself(result):
    assert repr(result).startswith("<race on plane, 6 seeds, against sgd(lr=0.02): sgd(lr=0.05) ")
    assert "\n" not in repr(result)
    assert "Race on plane (anytime, 40 steps)" in repr(result.table)
    shown = result._repr_html_()
    assert shown.count("<tr") == 4
    assert "× out" in shown
    assert "<script" not in shown
    assert result.verdict("sgd(lr=1e9)") == "out"
    with pytest.raises(SoonerError, match="muon was not in this race of "):
        result.verdict("muon")


def test_what_a_task_calls_itself_cannot_break_the_html(result):
    data = copy.deepcopy(result.data)
    data["task"]["name"], data["notes"] = "<b>&", ["<script>alert(1)</script>"]
    shown = RaceResult(data, result.folder)._repr_html_()
    assert "<script" not in shown
    assert "<b>" not in shown


def test_the_result_becomes_data_frames(result):
    pytest.importorskip("pandas")
    frame = result.to_pandas()
    assert list(frame["recipe"]) == ["sgd(lr=0.02)", "sgd(lr=0.05)", "sgd(lr=1000000000.0)"]
    assert frame["ratio"][1] == result.contenders[1]["targets"]["middle"]["ratio"]
    curves = result.to_pandas("curves")
    assert set(curves["seed"]) == set(result.data["seeds"]["racing"])
    with pytest.raises(SoonerError, match=r"to_pandas\('table'\): there are the tables contenders and curves"):
        result.to_pandas("table")


def test_the_report_is_written_and_the_result_is_found_again(result, tmp_path):
    page = result.report(tmp_path / "deep" / "page.html")
    assert "Race on plane" in page.read_text(encoding="utf-8")
    assert result.report() == result.folder / "report.html"
    assert load(result.folder).data["contenders"] == result.data["contenders"]


def test_called_again_it_runs_nothing_and_says_the_same(result, pool):
    watch = Counts()
    task = task_of(NOTEBOOK, "<ipython-input-7>")  # the cell was run again, unchanged
    again = sooner.race(
        task,
        ["sgd(lr=0.02)", sooner.Recipe("sgd(lr=0.05)"), "sgd(lr=1e9)"],
        pool=pool,
        out=result.folder,
        watch=watch,
        **SMALL,
    )
    assert watch.done == []
    assert again.data == result.data


@pytest.mark.parametrize(
    "edit",
    [
        ("batch[1]) ** 2", "batch[1]).abs()"),
        ("WIDTH = 4", "WIDTH = 5"),
        ("return self.layer(x)", "return 2 * self.layer(x)"),
    ],
)
def test_an_edited_cell_is_another_task(edit, result, pool):
    edited = task_of(NOTEBOOK.replace(*edit))
    assert digest(edited) != digest(task_of(NOTEBOOK))
    with pytest.raises(SoonerError, match=r"another race|holds"):
        sooner.race(edited, "sgd(lr=0.02); sgd(lr=0.05); sgd(lr=1e9)", pool=pool, out=result.folder, **SMALL)


def test_a_comment_and_a_moved_cell_are_the_same_task():
    moved = "# moved down\n\n" + NOTEBOOK.replace("WIDTH = 4\n", "WIDTH = 4  # inputs\n")
    assert digest(task_of(moved, "<ipython-input-9>")) == digest(task_of(NOTEBOOK))


def test_the_digest_is_the_same_in_another_process():
    program = f"""
import sooner
from sooner.task.by_value import digest
{NOTEBOOK}
print(digest(sooner.Task(model, batches, loss, steps=40, name="plane")))
"""
    told = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout for _ in "ab"
    ]
    assert told[0] == told[1]


def test_lambdas_closures_and_partials_travel():
    rate = torch.tensor(2.0)

    def scaled(scale, net, batch):
        return scale * rate * net(batch[0]).mean()

    base = task_of(NOTEBOOK)
    for loss in (lambda net, batch: rate * net(batch[0]).mean(), functools.partial(scaled, 3.0)):
        task = sooner.Task(base.model, base.batches, loss, steps=40)
        assert needs_value(task)
        there = unpack(pack(task))
        net, batch = task.model(0), task.batches(0, "eval")[0]
        assert torch.equal(there.loss(net, batch), loss(net, batch))


def test_what_cannot_travel_is_refused_in_one_sentence(monkeypatch):
    base = task_of(NOTEBOOK)
    lock = threading.Lock()
    held = sooner.Task(
        base.model, base.batches, lambda net, batch: lock and net(batch[0]).mean(), steps=40, name="mine"
    )
    with pytest.raises(SoonerError, match=r"task mine can't be sent to worker processes \(.*\); define model"):
        Plan(held, [sooner.Recipe("sgd")])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SoonerError, match=r"pip install 'sooner\[notebook\]', or define model"):
        Plan(base, [sooner.Recipe("sgd")])


def test_two_ways_to_say_when_to_judge_are_one_too_many():
    with pytest.raises(SoonerError, match="seeds, looks and until say in several ways"):
        sooner.race("quadratic", seeds=8, until=16)
