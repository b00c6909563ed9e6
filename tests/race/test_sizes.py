"""Races at several sizes: planned alike, each with its journal, gone on with where they stopped, told in one table."""

import json

import pytest
from small_races import Inline, Notes, numbers, written

from sooner.cli import main
from sooner.cli.sizes import show_sizes
from sooner.error import SoonerError
from sooner.forecast.gain import gain
from sooner.forecast.read.arms import read_arms
from sooner.race import limits
from sooner.race.journal import FILE, read
from sooner.race.referee import run
from sooner.race.sizes import finished, plans
from sooner.workloads import find

TASK = '''
"""A network with a hidden layer is fitted to points."""
import torch
steps = 40
def model(seed, size=1):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 4 * size), torch.nn.Tanh(), torch.nn.Linear(4 * size, 1))
def batches(seed, split):
    x = torch.randn(60, 16, 4, generator=torch.Generator().manual_seed(seed))
    return [(x[i], x[i].sum(1, keepdim=True)) for i in range(60)]
def loss(model, batch):
    return ((model(batch[0]) - batch[1]) ** 2).mean()
'''
SEEDS = 3
OPTIONS = {"looks": (SEEDS,), "tune": 1, "measure_cost": False, "jobs": 1}
RECIPES = ["sgd(lr=log(0.01, 0.2))", "adamw"]


@pytest.fixture(scope="module", autouse=True)
def _few():
    """Races take few seeds here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LEAST_SEEDS", "TARGET_SEEDS"):
            patch.setattr(limits, name, SEEDS)
        yield


def planned(folder, text=TASK, sizes=(1, 2, 4), horizons=(), **options):
    task = find(str(written(folder, text)))
    return plans(task, RECIPES, sizes=sizes, horizons=horizons, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Three races of two arms, the second of them stopped and gone on with."""
    folder = tmp_path_factory.mktemp("family")
    first, second, third = planned(folder, out=folder / "races")
    run(first, pool=Inline())
    with pytest.raises(KeyboardInterrupt):
        run(second, Notes(stop_after=7), pool=Inline())
    assert [size for size, _ in finished(folder / "races")] == [1]
    for plan in planned(folder, out=folder / "races"):
        run(plan, pool=Inline())
    return folder, third


def test_every_size_is_a_race_of_its_own_under_the_same_rules(family):
    folder, _ = family
    races = finished(folder / "races")
    assert [size for size, _ in races] == [1, 2, 4]
    assert [result["task"]["parameters"] for _, result in races] == [25, 49, 97]
    assert {result["tuning_trials"] for _, result in races} <= {2, 3}
    tuned = [c["tuning"]["trials"] for _, result in races for c in result["contenders"]]
    assert all(len(trials) >= 2 for trials in tuned), "learning rates are tuned at every size"
    assert sorted(p.name for p in (folder / "races").iterdir() if p.is_dir()) == [
        f"size-{size}-steps-40" for size in (1, 2, 4)
    ]


def test_a_family_that_is_run_again_repeats_nothing(family):
    folder, third = family
    before = {path: path.read_bytes() for path in (folder / "races").rglob(FILE)}
    again = Inline()
    results = [run(plan, pool=again) for plan in planned(folder, out=folder / "races")]
    assert again.ran == []
    cells = {path: read(path.parent).all("cell") for path in before}
    assert all(path.read_bytes().startswith(text) for path, text in before.items())
    assert numbers(results[2]) == numbers(read(third.folder()).find("result", "result"))
    assert len(cells) == 3


def test_the_races_end_in_one_table_a_page_and_json(family, capsys, monkeypatch):
    folder, _ = family
    monkeypatch.setenv("COLUMNS", "200")
    page = show_sizes(folder / "races", as_json=False)
    told = capsys.readouterr().out
    assert "the gain of adamw over sgd(lr=log(0.01, 0.2)) survives" in told
    assert told.count("adamw ") >= 3
    assert "Steps to sgd(lr=log(0.01, 0.2))'s middle target" in told
    assert page == folder / "races" / "report.html"
    assert "Speed-up of adamw" in page.read_text(encoding="utf-8")
    show_sizes(folder / "races", as_json=True)
    data = json.loads(capsys.readouterr().out)
    assert [(race["size"], race["steps"]) for race in data["races"]] == [(1, 40), (2, 40), (4, 40)]
    assert [one["size"] for one in data["gains"][0]["measured"]] == [25, 49, 97]


def test_a_budgeted_family_is_read_by_the_ends_of_its_runs(tmp_path):
    task = find(str(written(tmp_path, TASK)))
    arms = ["sgd(lr=0.05)", "sgd(lr=0.1) + cosine"]
    for plan in plans(task, arms, sizes=(1, 2), **{**OPTIONS, "tune": 0, "out": tmp_path / "races"}):
        assert plan.regime == "budgeted"
        run(plan, pool=Inline())
    made = read_arms([tmp_path / "races"])
    assert sorted(made.curves) == [(25.0, 40.0), (49.0, 40.0)]
    for arms in made.curves.values():
        for seeds in arms.values():
            assert [sorted(points) for points in seeds.values()] == [[10, 14, 20, 28, 40, 56]] * SEEDS
    (found,) = gain(made, draws=40)
    assert [(one.size, one.length, one.seeds) for one in found.measured] == [(25, 40, SEEDS), (49, 40, SEEDS)]


def test_without_a_folder_the_same_command_finds_its_races_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, again = planned(tmp_path, sizes=(1, 2)), planned(tmp_path, sizes=(1, 2))
    other = planned(tmp_path, sizes=(1, 4))
    assert [p.folder() for p in first] == [p.folder() for p in again]
    assert first[0].folder() != other[0].folder()
    both = planned(tmp_path, sizes=(1, 2), horizons=(20, 40))
    assert [(p.task.size, p.budget) for p in both] == [(1, 20), (1, 40), (2, 20), (2, 40)]


@pytest.mark.parametrize(
    ("sizes", "horizons", "said"),
    [
        ((2,), (), "--sizes needs 2 sizes or more, such as 1,2,4,8"),
        ((2, 1), (), "--sizes 2,1 must be different and ascending"),
        ((1, 1), (), "--sizes 1,1 must be different and ascending"),
        ((1, 2), (40, 20), "--horizons 40,20 must be different and ascending"),
        ((1, 2), (3,), "a budget of 3 steps is too short"),
        ((1, 1.5), (), r"at size 1.5: task my_task: model\(.*raised TypeError"),
    ],
)
def test_what_makes_no_family_is_one_sentence(tmp_path, sizes, horizons, said):
    with pytest.raises(SoonerError, match=said):
        planned(tmp_path, sizes=sizes, horizons=horizons)


def test_a_task_without_a_size_or_with_one_it_ignores_is_refused(tmp_path):
    with pytest.raises(SoonerError, match="takes no size whose default is 1, so it can't be made 2 times as large"):
        planned(tmp_path, TASK.replace(", size=1", "").replace("4 * size", "4"))
    with pytest.raises(SoonerError, match=r"25 parameters at size 1 and 25 at size 2; model\(seed, size\) must grow"):
        planned(tmp_path, TASK.replace("4 * size", "4"))
    with pytest.raises(SoonerError, match=r"no race in .* is finished"):
        show_sizes(tmp_path, as_json=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--horizons", "100"], "--horizons 100 goes with --sizes"),
        (["--sizes", "a,b"], "--sizes 'a,b' is not a list of positive numbers"),
        (["--sizes", "0,1"], "--sizes '0,1' is not a list of positive numbers"),
        (["--sizes", "1,2", "--horizons", "50.5,100"], "--horizons '50.5,100' are steps, in whole numbers"),
        (["--sizes", "1,2", "--horizons", "50,100", "--steps", "20"], "say the same thing twice"),
        (["--sizes", "1,2"], "task quadratic: model(seed) takes no size whose default is 1"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sooner", "race", "quadratic", *words])
    with pytest.raises(SystemExit, match="2"):
        main()
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert len(told.err.splitlines()) == 1
