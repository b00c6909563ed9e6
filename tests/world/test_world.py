"""Two real processes train one model: what they compute, agree on, write down and refuse."""

import logging
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from world_checks import AVERAGED, plain, squared

import sooner
from sooner.task import from_file, worker_batches

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def found(ranks, folder):
    """What both ranks found, by check."""
    both = ranks([HERE / "world_checks.py", folder])
    assert both.codes() == [0, 0], both.said(0) + both.said(1)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def plane():
    return from_file(HERE / "plane_task.py")


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in ("weights", "losses")) and all(
        a[name] == b[name] for name in ("history", "sent", "apart")
    )


def test_all_ranks_end_with_the_same_model_history_and_traffic(found):
    for recipe, first in found[0]["straight"].items():
        assert same(first, found[1]["straight"][recipe]), recipe
        assert first["history"][3] is None
        assert first["losses"].isfinite().all()


class Both:
    """The batches of both workers side by side."""

    def __init__(self, task, seed, split):
        self.parts = [worker_batches(task, 3, rank, 2) for rank in (0, 1)]

    def __getitem__(self, index):
        return [part[index] for part in self.parts]


@pytest.mark.parametrize("name", AVERAGED)
def test_workers_that_average_gradients_are_one_with_the_batches_of_all(found, plane, name):
    recipe, more = AVERAGED[name]

    def batches(seed, split):
        return plane.batches(seed, split) if split == "eval" else Both(plane, seed, split)

    def loss(model, batch):
        if not model.training:
            return squared(model, batch)
        return torch.stack([squared(model, one) for one in batch]).mean()

    alone = sooner.train(replace(plane, model=plain, batches=batches, loss=loss), recipe, 3, **more)
    weights = torch.cat([p.detach().flatten() for p in alone.model.parameters()])
    together = found[0]["averaged"][name]
    assert torch.allclose(together["weights"], weights, rtol=1e-5, atol=1e-7)
    assert torch.allclose(together["losses"], alone.losses, rtol=1e-5)
    first, second = (worker_batches(plane, 3, rank, 2)[0][0] for rank in (0, 1))
    assert not torch.equal(first, second)


def test_a_run_goes_on_bit_for_bit_from_a_checkpoint(found):
    for rank in (0, 1):
        for recipe, run in found[rank]["resumed"].items():
            assert same(run, found[rank]["straight"][recipe]), (rank, recipe)


def test_no_communication_sends_nothing_and_goes_apart(found):
    silent = found[0]["straight"]["adamw(lr=0.02) + silent"]
    payload, wire = silent["sent"]
    assert set(payload) == set(wire) == {0.0}
    consensus, replicas = silent["apart"]
    assert consensus > 0
    assert replicas != silent["history"][1][-1]


def test_traffic_is_written_down_at_every_evaluation(found):
    numbers = sum(p.numel() for p in from_file(HERE / "plane_task.py").model(0).parameters())
    payload, wire = found[0]["straight"]["adamw(lr=0.02)"]["sent"]
    steps = found[0]["straight"]["adamw(lr=0.02)"]["history"][0]
    assert len(payload) == len(steps)
    per_step = (payload[-1] - payload[-2]) / (steps[-1] - steps[-2])
    assert per_step == 4 * numbers
    assert wire == payload  # 2 (n - 1) / n copies are one for two workers


def test_another_number_of_workers_goes_on_from_the_average(found, folder, plane, caplog):
    for number, recipe in enumerate(found[0]["straight"]):
        with caplog.at_level(logging.WARNING):
            run = sooner.train(plane, recipe, 3, checkpoint=folder / "resumed" / f"{number} of two")
        assert run.steps == found[0]["straight"][recipe]["history"][0]
        assert run.values[:4] == found[0]["straight"][recipe]["history"][1][:4]
        assert torch.equal(run.losses[:9], found[0]["straight"][recipe]["losses"][:9])
        assert run.losses[9:].isfinite().all()
    assert "was written by 2 workers and is read by 1: what each of them kept for itself is averaged" in caplog.text


def test_a_folder_that_exists_is_the_checkpoint_of_a_single_worker_too(plane, tmp_path):
    first = sooner.train(plane, "adamw", 3, checkpoint=tmp_path, save_every=10)
    assert [path.name for path in tmp_path.iterdir()] == ["step-24"]
    again = sooner.train(plane, "adamw", 3, checkpoint=tmp_path)
    assert (again.values, again.cpu_seconds) == (first.values, first.cpu_seconds)
    for file in (tmp_path / "step-24").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(sooner.SoonerError, match=r"step-24 can't be read \(\w+\); delete it to go on without it"):
        sooner.train(plane, "adamw", 3, checkpoint=tmp_path)


def test_a_number_that_is_not_finite_in_one_worker_ends_all_alike(found):
    assert found[0]["not_a_number"] == found[1]["not_a_number"]
    assert found[0]["not_a_number"][1] == 8


REFUSED = {
    "closure": "sophia_h looks at the batch of its own worker",
    "cohort": "sampled says which of many simulated workers take part, and here every worker does; race it with --wo",
    "passes": "sam needs more than one gradient of a batch",
    "recipe": r"rank 1 is about to train something else than rank 0: part is TopK\(ratio=0.2",
    "model": "rank 1 is about to train something else than rank 0: parameter 0.weight is absent",
    "no folder": "has no place: the folder .*no does not exist; make it first",
    "unwritable": "can't be written .*; give a folder that can be written to",
    "a file": "is the file of a single worker, and 2 workers write a folder; give another",
    "full disk": "can't be written by worker 1: .*File too large.*; the previous one, if any, is untouched",
    "another run": "belongs to another run",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_can_not_work_is_refused_on_all_ranks_in_one_sentence(found, what):
    for rank in (0, 1):
        assert re.search(REFUSED[what], found[rank]["refusals"][what] or "nothing"), found[rank]["refusals"][what]
