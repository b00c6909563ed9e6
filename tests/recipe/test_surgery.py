"""Surgery comes first: parameters that it adds are trained, those that it freezes are not, and resuming repeats it."""

from pathlib import Path

import pytest
import torch
import toy_parts
from torch import nn

import sooner
from sooner.cluster import train_cluster
from sooner.error import SoonerError
from sooner.foundation import surgery
from sooner.race.worker import run_cell
from sooner.recipe import Recipe
from sooner.task import Task, from_file

BESIDE = "toy_parts.Beside + adamw(lr=0.1)"
HALVED = "toy_parts.Halved + sgd(lr=0.1)"


def line(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))


class Points:
    def __init__(self, seed, count=None):
        self.seed, self.count = seed, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        x = torch.randn(8, 1, generator=torch.Generator().manual_seed(self.seed % 1000 + index))
        return x, x.sin()


def squared(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


@pytest.fixture
def task():
    return Task(line, lambda seed, split: Points(seed, 1 if split == "eval" else None), squared, steps=8, evaluations=2)


def test_new_parameters_are_trained_and_frozen_ones_are_not():
    old = line(0)
    before = {n: p.clone() for n, p in old.state_dict().items()}
    training = Recipe(BESIDE).build(old, 5)
    assert training.model is not old
    start = training.model.beside.weight.clone()
    squared(training.model, Points(0)[0]).backward()
    training.step()
    assert not torch.equal(start, training.model.beside.weight)
    assert all(torch.equal(p, before[n]) for n, p in training.model.inner.state_dict().items())
    assert training.state_bytes() < 16  # two moments of one weight: nothing is kept for what rests


def test_patterns_name_what_surgery_has_added():
    training = Recipe("toy_parts.Beside + sgd(on='beside.*')").build(line(0), 5)  # nobody has to take what is frozen
    assert [p is training.model.beside.weight for p in training.optimizers[0].param_groups[0]["params"]] == [True]
    with pytest.raises(SoonerError, match=r"adamw takes only frozen parameters of this model"):
        Recipe("toy_parts.Beside + sgd(on='beside.*') + adamw(on='inner.*')").build(line(0), 5)
    with pytest.raises(SoonerError, match=r"parameter '2.weight' has no optimizer"):
        Recipe("sgd(on='0.*')").build(line(0), 5)


def test_a_frozen_parameter_that_is_unfrozen_later_is_trained():
    net = line(0)
    net[0].requires_grad_(False)
    training = Recipe("sgd(lr=0.1)").build(net, 5)
    net[0].requires_grad_(True)
    before = net[0].weight.clone()
    squared(net, Points(0)[0]).backward()
    training.step()
    assert not torch.equal(net[0].weight, before)


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(SoonerError, match="no parameters to train"):
        Recipe("sgd").build(line(0).requires_grad_(False), 5)


def test_stations_go_in_their_order_whatever_is_written_first():
    recipe = Recipe("adamw + toy_parts.Halved + toy_parts.Beside + orthogonal")
    assert [s.station for s in recipe.slots] == ["model", "adapter", "precision", "update"]
    told = sooner.explain(recipe)
    assert told.index("orthogonal") < told.index("toy_parts.Beside") < told.index("toy_parts.Halved")
    assert told.count("changes the model first") == 3
    assert told.count("undone by export()") == 1


def test_what_surgery_draws_is_a_function_of_the_seed_alone(task):
    torch.manual_seed(1)
    first = sooner.train(task, BESIDE, 3, steps=1).model
    torch.manual_seed(2)
    assert torch.equal(first.beside.weight, sooner.train(task, BESIDE, 3, steps=1).model.beside.weight)
    assert not torch.equal(first.beside.weight, sooner.train(task, BESIDE, 4, steps=1).model.beside.weight)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    Recipe(BESIDE).prepare(line(0), seed=7)
    assert not torch.equal(state, torch.get_rng_state())  # `line` itself draws
    state = torch.get_rng_state()
    Recipe("orthogonal + sgd").prepare(nn.Linear(2, 2, device="meta").to_empty(device="cpu"), seed=7)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("recipe", [BESIDE, HALVED, "orthogonal + toy_parts.Beside + sgd(lr=0.1) + ema"])
def test_resuming_repeats_the_surgery_bit_for_bit(task, recipe, tmp_path):
    straight = sooner.train(task, recipe, 3)

    def stop(step, value):
        if step > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sooner.train(task, recipe, 3, checkpoint=tmp_path / "run.pt", save_every=4, progress=stop)
    again = sooner.train(task, recipe, 3, checkpoint=tmp_path / "run.pt")
    assert torch.equal(straight.losses, again.losses)
    assert straight.values == again.values
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


@pytest.mark.parametrize("communication", ["", " + local_sgd(every=2)", " + top_k(ratio=0.5) + ef"])
@pytest.mark.parametrize("recipe", [BESIDE, HALVED, "orthogonal + sgd(lr=0.1)"])
def test_a_simulated_cluster_operates_once_and_all_workers_follow(task, recipe, communication, tmp_path):
    straight = train_cluster(task, recipe + communication, 3, workers=2)
    assert straight.diverged_at is None
    if "Beside" in recipe:
        assert isinstance(straight.model, toy_parts.Bypass)

    def stop(step, value):
        if step > 4:
            raise KeyboardInterrupt

    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train_cluster(task, recipe + communication, 3, workers=2, checkpoint=file, save_every=4, progress=stop)
    again = train_cluster(task, recipe + communication, 3, workers=2, checkpoint=file)
    assert straight.values == again.values


def test_a_cluster_of_one_trains_as_the_loop_does(task):
    for recipe in (BESIDE, HALVED):
        alone, cluster = sooner.train(task, recipe, 3), train_cluster(task, recipe, 3, workers=1)
        assert alone.values == pytest.approx(cluster.values, rel=1e-5)


def test_a_race_worker_operates_too():
    file = Path(__file__).parent.parent / "loop" / "tiny_task.py"
    task = from_file(file)
    payload = {"do": "train", "task": {"task": task}, "recipe": HALVED, "seed": 1, "steps": 4, "evaluate_at": [0, 4]}
    found = run_cell(payload, lambda *_: None)
    assert found["values"] == sooner.train(task, HALVED, 1, 4, evaluate_at=[0, 4]).values
    measured = run_cell(
        {"do": "blocks", "task": {"task": task}, "recipes": ["sgd", HALVED], "steps": 4}, lambda *_: None
    )
    assert measured


def test_export_undoes_what_can_be_undone_in_a_copy():
    training = Recipe(BESIDE + " + ema(decay=0.5)").build(line(0), 5)
    plain = training.export()
    assert isinstance(plain, nn.Sequential)
    assert plain is not training.model.inner
    assert isinstance(training.model, toy_parts.Bypass)


def test_a_part_without_a_method_that_operates_is_refused():
    with pytest.raises(SoonerError, match=r"Idle is of the station model and has no method prepare\(model\)"):
        Recipe("toy_parts.Idle + sgd").build(line(0), 5)


def test_sharded_wrapped_and_absent_weights_are_refused():
    with pytest.raises(SoonerError, match=r"x: weight is on the meta device; load or initialise the model first"):
        surgery.refuse_sharded("x", nn.Linear(1, 1, device="meta"))
    with pytest.raises(SoonerError, match=r"x: the model is inside DataParallel, .*; change the model first"):
        surgery.refuse_wrapped("x", nn.DataParallel(nn.Linear(1, 1)))
    surgery.refuse_wrapped("x", nn.Linear(1, 1))
