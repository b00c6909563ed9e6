"""Lazy checkpoints of the reference loop and the command line: the same file, resumed bit for bit, or one sentence."""

import json
import sys
from pathlib import Path

import pytest
import torch
from stopping import Stopped, stop_after

import sooner
from sooner.cli import main
from sooner.cluster import train_cluster
from sooner.memory import LazySaver
from sooner.task import from_file
from sooner.workloads import find

TINY = Path(__file__).parents[1] / "loop" / "tiny_task.py"
RECIPE = "adamw(lr=0.01) + cosine + ema(decay=0.5) + lazy_saver"


@pytest.fixture(scope="module")
def tiny():
    return from_file(TINY)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_the_file_is_that_of_the_ordinary_loop_and_a_run_goes_on_from_it_bit_for_bit(tiny, tmp_path):
    ordinary = RECIPE.removesuffix(" + lazy_saver")
    straight = sooner.train(tiny, ordinary, 3)
    for name, recipe in (("lazy", RECIPE), ("ordinary", ordinary)):
        with pytest.raises(Stopped):
            sooner.train(tiny, recipe, 3, checkpoint=tmp_path / name, save_every=2, progress=stop_after(6))
    lazy, plain = (torch.load(tmp_path / name, weights_only=True) for name in ("lazy", "ordinary"))
    assert lazy["step"] == plain["step"] == 8
    for content in (lazy, plain):
        content.pop("identity")
        content["history"].pop("cpu_seconds")
    assert same(lazy, plain)
    resumed = sooner.train(tiny, RECIPE, 3, checkpoint=tmp_path / "lazy", save_every=2)
    assert same(resumed.model.state_dict(), straight.model.state_dict())
    assert torch.equal(resumed.losses, straight.losses)
    assert resumed.values == straight.values
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lazy", "ordinary"]
    assert sooner.train(tiny, RECIPE, 3, checkpoint=tmp_path / "lazy").values == straight.values


def test_a_disk_that_is_full_ends_the_run_in_one_sentence(tiny, tmp_path, monkeypatch):
    sooner.train(tiny, RECIPE, 3, steps=2, checkpoint=tmp_path / "run.pt")

    def full(*_):
        raise RuntimeError("PytorchStreamWriter failed writing file data.pkl: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(sooner.SoonerError, match=r"other.pt can't be written: PytorchStream.*; make room on the disk"):
        sooner.train(tiny, RECIPE, 3, checkpoint=tmp_path / "other.pt", save_every=2)
    with pytest.raises(sooner.SoonerError, match="has no place"):
        sooner.train(tiny, RECIPE, 3, checkpoint=tmp_path / "nowhere" / "run.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_where_it_can_not_work_it_is_refused(tiny, tmp_path):
    with pytest.raises(sooner.SoonerError, match="lazy_saver writes the checkpoints of a single worker into one file"):
        sooner.train(tiny, RECIPE, 3, checkpoint=tmp_path)
    with pytest.raises(sooner.SoonerError, match="lazy_saver waits with the step of an optimizer"):
        train_cluster(find("quadratic"), "sgd(lr=0.1) + local_sgd(every=2) + lazy_saver", 3, workers=2)
    with pytest.raises(sooner.SoonerError, match="lazy_saver and lazy_saver both own the checkpoints"):
        sooner.Recipe("adamw + lazy_saver + lazy_saver(keep=3)")


def test_all_optimizers_of_a_recipe_wait(tiny):
    training = sooner.Recipe("sgd(on='*.bias') + muon(on='rest') + lazy_saver(keep=3)").build(tiny.model(0), 12)
    assert isinstance(training.saver, LazySaver)
    assert training.saver._optimizers == training.optimizers
    assert training.saver.keep == 3
    assert sooner.Recipe("adamw").build(tiny.model(0), 12).saver is None


def test_the_command_line_writes_them_and_ends_with_exit_code_2_where_it_can_not(tmp_path, capsys, monkeypatch):
    def run(place):
        words = ["train", str(TINY), "--parts", "adamw + lazy_saver", "--save-every", "4", "--checkpoint", str(place)]
        monkeypatch.setattr(sys, "argv", ["sooner", *words])
        monkeypatch.setattr(sys, "path", [*sys.path])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, capsys.readouterr()

    assert run(tmp_path / "run.pt")[0] == 0
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] == 12
    code, told = run(tmp_path)
    assert code == 2
    assert told.err.startswith("sooner: lazy_saver writes the checkpoints of a single worker into one file")
    assert "Traceback" not in told.err


def test_processes_that_are_killed_leave_whole_files(tmp_path, tmp_path_factory, zygote):
    killing = zygote.start(["-m", "sooner.claims._killed", tmp_path, 3, 0], tmp_path_factory.mktemp("said"), "killed")
    assert killing.wait() == 0, killing.error.read_text()
    found = json.loads(killing.out.read_text())
    assert found["finished"] >= 3
    assert found["broken"] == 0


ENDS = """
import sys, torch, sooner
p = torch.nn.Parameter(torch.ones(300_000))
sooner.memory.LazySaver(torch.optim.SGD([p], lr=1.0)).save(sys.argv[1], p=p)
"""


def test_a_process_that_ends_in_the_ordinary_way_finishes_its_file(tmp_path, fresh):
    fresh(ENDS, tmp_path / "a.pt")
    assert bool(torch.load(tmp_path / "a.pt", weights_only=True)["p"].all())
