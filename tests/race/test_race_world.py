"""Races in which two processes train every run: numbers, columns, costs, and what happens to a process that dies."""

import contextlib
import copy
import math

import pytest
from forked_workers import ForkedPool
from small_races import LINE, Notes, small_plan, written

from sooner.race import limits
from sooner.race.cell import run_alone
from sooner.race.pool import Cell
from sooner.race.referee import run
from sooner.report import html, table

SEEDS = 2
RECIPES = ("sgd(lr=0.02)", "sgd(lr=0.02) + top_k(ratio=0.1) + ef", "sgd(lr=0.02) + diloco(every=10)")

OPTIONS = {"world": 2, "arms": True, "tune": 0, "steps": 30, "looks": (SEEDS,)}


@pytest.fixture(scope="module")
def couple(zygote):
    """One pool worker, which keeps the second process at hand."""
    with ForkedPool(zygote, 1) as pool:
        yield pool


@contextlib.contextmanager
def few():
    """Within it, races take few seeds, as every one of their runs brings two processes together anew."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LEAST_SEEDS", "TARGET_SEEDS"):
            patch.setattr(limits, name, SEEDS)
        yield


@pytest.fixture(scope="module")
def raced(tmp_path_factory, couple):
    folder = tmp_path_factory.mktemp("world") / "race"
    watch = Notes()
    with few():
        plan = small_plan(folder, *RECIPES, **OPTIONS)
        return plan, watch, run(plan, watch, couple)


def row(result, text):
    return next(c for c in result["contenders"] if c["recipe"] == text)


def test_bytes_are_those_of_every_method(raced):
    _, watch, result = raced
    assert watch.lost == {}
    assert (result["world"], result["workers"]) == (2, 1)
    dense = row(result, "sgd(lr=0.02)")["communication"]
    assert dense["wire_bytes_per_step"] == pytest.approx(400, rel=0.001)
    assert dense["bytes_ratio"] == 1.0
    half = row(result, "fp16 + sgd(lr=0.02)")["communication"]
    assert half["wire_bytes_per_step"] == pytest.approx(200, rel=0.001)
    assert half["bytes_ratio"] == pytest.approx(0.5, rel=0.05)
    window = row(result, "local_sgd(every=10) + sgd(lr=0.02)")["communication"]
    assert window["wire_bytes_per_step"] == pytest.approx(40, rel=0.001)
    nothing = row(result, "silent + sgd(lr=0.02)")["communication"]
    assert (nothing["wire_bytes_per_step"], nothing["bytes_to_target"], nothing["bytes_ratio"]) == (0, 0, 0)
    assert nothing["consensus"] > 0
    assert nothing["replicas"] > row(result, "silent + sgd(lr=0.02)")["final"]["mean"]
    sparse = row(result, "top_k(ratio=0.1) + ef + sgd(lr=0.02)")["communication"]
    assert 0 < sparse["error"] < 1
    assert sparse["gradients_per_step"] == 1


def test_a_cell_gives_the_numbers_of_the_same_two_processes_again(raced, couple, tmp_path):
    plan, _, result = copy.deepcopy(raced)
    with few():
        again = run(small_plan(tmp_path / "again", *RECIPES[:2], **{**OPTIONS, "arms": False}), None, couple)
        other = small_plan(tmp_path / "other", *RECIPES, **{**OPTIONS, "world": 1})
    assert again["targets"] == result["targets"]
    for contender in again["contenders"]:
        before = row(result, contender["recipe"])
        assert contender["communication"] == before["communication"]
        assert contender["final"]["values"] == before["final"]["values"]  # Holm's correction counts the contenders
    assert other.identity() != plan.identity()


def test_table_and_page_show_the_columns_for_several_workers_only(raced, finished):
    _, _, result = raced
    for width in (80, 200):
        text = table.text(result, width)
        assert "Every run trained on 2 processes over the loopback interface" in text
        assert "sent to target" in text
        assert "0.50x" in text
    assert 'id="together"' in html.page(result)
    alone = finished[2]
    assert "Every run trained on" not in table.text(alone, 200)
    assert 'id="together"' not in html.page(alone)


def test_steps_are_timed_by_both_processes_together(couple):
    answers = {}
    payload = {"task": {"spec": "quadratic", "digest": digest()}, "steps": 30, "world": 2}
    cells = [Cell("blocks", {"do": "blocks", "recipes": list(RECIPES[:2]), **payload})]
    cells += [Cell("memory", {"do": "memory", "recipe": RECIPES[1], **payload})]
    couple.run(cells, lambda cell, data: answers.update({cell.key: data}))
    blocks = answers["blocks"]
    for kind in ("blocks", "encode", "wait"):
        assert [len(times) for times in blocks[kind]] == [7, 7]
    assert all(w < b for b, w in zip(blocks["blocks"][0], blocks["wait"][0], strict=True))
    assert math.isfinite(answers["memory"]["peak_memory_mib"])


def digest():
    import hashlib

    from sooner.workloads import find

    return hashlib.sha256(find("quadratic").source.encode()).hexdigest()


def test_what_fails_in_the_second_process_is_told_and_the_next_cell_runs(couple, tmp_path):
    text = LINE.replace(
        "def batches(seed, split):",
        "import os\nimport torch.distributed as dist\ndef batches(seed, split):\n"
        "    if split == 'train' and dist.is_initialized() and dist.get_rank() == 1 and FAULT: FAULT()",
    )
    raising = written(tmp_path, text + "\ndef FAULT(): raise ZeroDivisionError('in the second')\n", "raising.py")
    dying = written(tmp_path, text + "\ndef FAULT(): os._exit(7)\n", "dying.py")
    lost, found = {}, {}

    def cell(spec, name):
        from sooner.task import from_file

        task = small_plan(tmp_path / "x", "sgd(lr=0.02)", task=spec).sendable_task() if spec else from_file
        payload = {"do": "train", "task": task, "recipe": "sgd(lr=0.02)", "seed": 1, "steps": 5, "evaluate_at": [0, 5]}
        return Cell(name, {**payload, "world": 2})

    cells = [cell(raising, "raising"), cell(dying, "dying"), cell("quadratic", "fine")]
    couple.run(cells, lambda c, data: found.update({c.key: data}), None, lambda c, cause: lost.update({c.key: cause}))
    assert "rank 1: ZeroDivisionError: in the second" in lost["raising"]
    assert "rank 1: exit code 7" in lost["dying"]
    assert "2 times" in lost["dying"]  # a process that dies is tried once more
    assert found["fine"]["steps"] == [0, 5]


def test_simulated_workers_count_the_same_bytes(raced):
    _, _, result = raced
    payload = {"do": "train", "task": {"spec": "quadratic", "digest": digest()}, "seed": 30_000, "steps": 30}
    for text in RECIPES:
        cell = {**payload, "recipe": text, "evaluate_at": [0, 30], "workers": 2}
        simulated = run_alone(cell, lambda *_: None)["communication"]
        name = str(small_plan("unused", text).recipes[0])
        real = row(result, name)["communication"]
        assert simulated["wire_bytes_per_step"] == pytest.approx(real["wire_bytes_per_step"], abs=1)
