"""What every part of every station must do, driven by one entry per part in `declared`."""

import contextlib
import copy
import dataclasses
import inspect
import math
from pathlib import Path

import pytest
import torch
from declared import DECLARED, NAMES
from stopping import Stopped, stop_after

import sooner
from sooner import part
from sooner.cluster import train_cluster
from sooner.error import SoonerError
from sooner.loop import objective_of, provided_by
from sooner.loop.batches import batches_of
from sooner.recipe import Recipe
from sooner.task import from_file
from sooner.update import _newton_fit

HERE = Path(__file__).parent
USED = {name: one for name, one in DECLARED.items() if not one.refused}


@pytest.fixture(scope="module")
def task():
    return from_file(HERE / "generous_task.py")


@pytest.fixture(scope="module", autouse=True)
def _coefficients_of_root(task):
    """Those for the sides of the task's matrices, whose fit takes a second each and is the subject of other tests."""
    sides = {tuple(sorted(p.shape)) for p in task.model(0).parameters() if p.ndim == 2}
    with pytest.MonkeyPatch.context() as patch:
        for short, long in sides:
            patch.setitem(_newton_fit.PUBLISHED, (short, long), _newton_fit.COEFFICIENTS)
        _newton_fit.coefficients.cache_clear()
        yield
    _newton_fit.coefficients.cache_clear()


def train(task, one, recipe=None, **options):
    recipe = one.recipe if recipe is None else recipe
    if one.workers > 1:
        return train_cluster(task, recipe, 3, workers=one.workers, **options)
    return sooner.train(task, recipe, 3, **options)


def attempt(act):
    """Return what `act` returns, and None where it refuses, which it does in one sentence."""
    try:
        return act()
    except SoonerError as refused:
        said = str(refused)
    assert "\n" not in said, said
    return None


def test_every_part_is_declared():
    assert set(DECLARED) == set(NAMES), "a part is missing in tests/parts/declared.py, or one there is no part"


@pytest.mark.parametrize("name", USED)
def test_a_recipe_is_what_it_prints(name):
    recipe = Recipe(USED[name].recipe)
    assert str(Recipe(str(recipe))) == str(recipe)
    assert any(slot.name == name for slot in recipe.slots)


@pytest.mark.parametrize("name", USED)
def test_it_trains_twice_alike_and_goes_on_where_it_stopped(name, task, tmp_path):
    one = USED[name]
    straight = train(task, one)
    assert straight.diverged_at is None
    before = task.model(0)
    assert torch.equal(dict(straight.model.named_parameters())["frozen"], before.frozen) or name == "dora"
    with pytest.raises(Stopped):
        train(task, one, checkpoint=tmp_path / "run.pt", save_every=3, progress=stop_after(3))
    resumed = train(task, one, checkpoint=tmp_path / "run.pt")
    assert torch.equal(straight.losses, resumed.losses)
    ours, theirs = straight.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert straight.values == resumed.values


@pytest.mark.parametrize("name", [name for name, one in DECLARED.items() if one.refused])
def test_what_no_recipe_can_use_is_refused_in_a_sentence(name, task):
    with pytest.raises(SoonerError, match=DECLARED[name].refused) as refused:
        train(task, DECLARED[name])
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def settings_of(name):
    """The part's own settings that are numbers, or say which of a few things is meant, as a recipe gives them."""
    for key, parameter in inspect.signature(part.load(name)).parameters.items():
        if isinstance(parameter.default, int | float) or "float" in str(parameter.annotation):
            yield key, parameter.default


def with_setting(name, written):
    """The part's recipe with one setting more, or another value for it."""
    key = written.partition("=")[0]
    calls = []
    for slot in Recipe(DECLARED[name].recipe).slots:
        settings = {k: v for k, v in slot.settings.items() if slot.name != name or k != key}
        inside = ", ".join([*(f"{k}={v!r}" for k, v in settings.items()), *([written] if slot.name == name else [])])
        calls.append(f"{slot.name}({inside})")
    return " + ".join(calls)


CASES = [(name, key, default) for name in USED for key, default in settings_of(name)]
BAD = {
    "nan": "nan",
    "a text": "'twelve'",
    "a list": "[1, 2, 3]",
    "far below": "-1e30",
    "the largest": "3.4e38",
    "beyond the largest": "1e300",
    "nothing": "None",
}


@pytest.mark.parametrize(("name", "key", "default"), CASES, ids=lambda value: str(value))
def test_settings_are_taken_or_refused_in_a_sentence(name, key, default, task):
    """Nothing but one clear sentence, and no number that is not one is ever taken."""
    for kind, value in BAD.items():
        recipe = with_setting(name, f"{key}={value}")
        taken = attempt(lambda: train(task, USED[name], recipe, steps=2, evaluate_at=[2]))
        assert not (taken and kind in ("nan", "a text", "a list")), f"{name} takes {key}={value}"


WHOLE = [(name, key) for name, key, default in CASES if type(default) is int]


@pytest.mark.parametrize(("name", "key"), WHOLE, ids=lambda value: str(value))
def test_whole_numbers_are_whole(name, key, task):
    for value in ("2.5", "True", "-3"):
        with pytest.raises(SoonerError, match=key) as refused:
            train(task, USED[name], with_setting(name, f"{key}={value}"), steps=1)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", USED)
def test_an_unknown_setting_is_named(name, task):
    with pytest.raises(SoonerError, match="wizardry"):
        train(task, USED[name], with_setting(name, "wizardry=1"), steps=1)


ALONE = [name for name, one in USED.items() if one.workers == 1]


class Loop:
    """A model and what trains it, in a loop of one's own."""

    def __init__(self, name, task):
        self.task = task
        model = task.model(0)
        recipe = Recipe(USED[name].recipe)
        self.training = recipe.build(model, 6, provided_by(task), seed=1)
        self.batches = batches_of(task, recipe, 0, 6)

    @property
    def model(self):
        return self.training.model

    def run(self, first, last):
        """Take some steps and return their losses."""
        torch.manual_seed(first)
        losses = []
        for step in range(first, last):
            objective = objective_of(self.task, self.model, self.batches, step)
            losses.append(float(self.training.backward(objective)))
            self.training.step(objective)
            self.training.zero_grad()
        return losses

    def run_by_hand(self, first, last, scaler=None, *, whole=True):
        """As `run`, with a call of ``loss.backward()`` as scripts have it, and a GradScaler or none."""
        torch.manual_seed(first)
        for step in range(first, last):
            objective = objective_of(self.task, self.model, self.batches, step)
            with self.training.during_loss() if whole else contextlib.nullcontext():
                loss = self.task.loss(self.model, self.batches[step])
            if scaler is None:
                loss.backward()
                self.training.step(objective)
            else:
                scaler.scale(loss).backward()
                scaler.step(self.training, objective)
                scaler.update()
            self.training.zero_grad()

    def weights(self):
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", ALONE)
def test_a_deep_copy_goes_on_by_itself(name, task):
    loop = Loop(name, task)
    loop.run(0, 3)
    twin = copy.deepcopy(loop)
    before = twin.weights()
    losses = loop.run(3, 6)
    assert same(before, twin.weights()), "the copy has moved with its original"
    assert twin.run(3, 6) == losses
    assert same(loop.weights(), twin.weights())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ALONE)
def test_a_model_that_is_cast_on_the_way_is_followed_or_refused(name, dtype, task):
    loop = Loop(name, task)
    loop.run(0, 2)
    loop.model.to(dtype)
    before = loop.weights()
    losses = attempt(lambda: loop.run(2, 5))
    if losses is None:
        return
    assert all(math.isfinite(loss) for loss in losses)
    after = loop.weights()
    assert {p.dtype for p in after.values()} == {dtype}
    assert not same(before, after), "nothing moves any more"


@pytest.mark.parametrize("name", ALONE)
def test_what_is_frozen_on_the_way_stays(name, task):
    loop = Loop(name, task)
    loop.run(0, 2)
    loop.model.first.requires_grad_(False)
    before = loop.weights()
    if attempt(lambda: loop.run(2, 5)) is None:
        return
    after = loop.weights()
    for key in before:
        if key.startswith("first."):
            assert torch.equal(before[key], after[key]), key
    assert not same(before, after)


@pytest.mark.parametrize("name", USED)
def test_a_loss_that_is_no_number_ends_a_run_in_order(name, task):
    def losses(model, batch):
        found = task.losses(model, batch)
        sick = torch.full((), math.nan) if batch[0].shape[0] == 8 and model.training else 1.0
        return {key: value * sick for key, value in found.items()}

    sick = dataclasses.replace(task, losses=losses, loss=lambda model, batch: sum(losses(model, batch).values()))
    run = attempt(lambda: train(sick, USED[name], steps=2, evaluate_at=[0, 2]))
    assert run is None or run.diverged_at is not None


@pytest.mark.parametrize("name", USED)
def test_the_same_part_twice_is_refused(name, task):
    twice = Recipe(USED[name].recipe)
    written = next(str(slot) for slot in twice.slots if slot.name == name)
    with pytest.raises(SoonerError) as refused:
        train(task, USED[name], f"{USED[name].recipe} + {written}", steps=1)
    assert name in str(refused.value)


@pytest.mark.parametrize("name", ALONE)
def test_a_loop_of_ones_own_takes_the_same_steps_or_says_what_it_leaves_out(name, task):
    wanted = Loop(name, task)
    wanted.run(0, 4)
    acts_on_losses = wanted.training.around_loss or any(hasattr(part, "backward") for part in wanted.training.others)
    forgetful = Loop(name, task)
    if acts_on_losses:
        with pytest.raises(SoonerError, match=name):
            forgetful.run_by_hand(0, 1, whole=False)
    else:
        forgetful.run_by_hand(0, 4, whole=False)
        assert same(wanted.weights(), forgetful.weights())
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        whole = Loop(name, task)
        try:
            whole.run_by_hand(0, 4, scaler)
        except SoonerError as refused:
            unscaled = USED[name].unscaled if scaler else ""
            assert (unscaled or "training.backward") in str(refused)  # noqa: PT017
        else:
            assert not (scaler and USED[name].unscaled)
            assert same(wanted.weights(), whole.weights())


@pytest.mark.parametrize("name", [name for name in ALONE if not USED[name].looks])
def test_a_step_looks_at_no_number(name, task):
    """On the meta device there are none, so that whoever would wait for a device fails."""

    def losses(model, batch):
        return task.losses(model, [tensor.to("meta") for tensor in batch])

    def model(seed):
        return task.model(seed).to("meta")

    nowhere = dataclasses.replace(
        task, model=model, losses=losses, loss=lambda model, batch: sum(losses(model, batch).values())
    )
    loop = Loop(name, nowhere)
    for step in range(4):
        objective = objective_of(nowhere, loop.model, loop.batches, step)
        loop.training.backward(objective)
        loop.training.step(objective)
        loop.training.zero_grad()
