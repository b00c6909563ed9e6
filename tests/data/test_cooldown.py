"""Batches by domain: probabilities as published, a batch a function of its step, and what tasks give to draw from."""

import copy
import itertools
import math
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

import sooner
from sooner.cluster import train_cluster
from sooner.data import Cooldown, Temperature, upweight
from sooner.data._mixture import Mixture, probabilities
from sooner.error import SoonerError
from sooner.task import Examples, Passes, Task

DOMAINS = [0] * 60 + [1] * 5 + [2] * 20


def published(sizes, tau):
    """p_j^(1/tau) / sum, with p_j = n_j / sum n, as the paper writes it."""
    powers = [(n / sum(sizes)) ** (1 / tau) for n in sizes]
    return [one / sum(powers) for one in powers]


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=5), st.floats(1, 1e4))
def test_probabilities_are_the_published_ones(sizes, tau):
    assert probabilities(sizes, tau).tolist() == pytest.approx(published(sizes, tau), rel=1e-9)
    assert probabilities(sizes, math.inf).tolist() == pytest.approx([1 / len(sizes)] * len(sizes))


def test_the_switch_is_sharp():
    sampler = Cooldown(DOMAINS, 4, 10, hot=5.0, cold=1.0, switch=0.5)
    assert sampler.sizes == [60, 5, 20]
    for step in range(10):
        assert sampler.weights(step).tolist() == pytest.approx(published([60, 5, 20], 5 if step < 5 else 1))
    assert Cooldown(DOMAINS, 4, 10, switch=0.0).weights(0).tolist() == pytest.approx(published([60, 5, 20], 1))
    assert Cooldown(DOMAINS, 4, 10, switch=1.0).weights(9).tolist() == pytest.approx(published([60, 5, 20], 5))


SAMPLERS = {
    "cooldown": lambda **more: Cooldown(DOMAINS, 7, 40, seed=3, **more),
    "temperature": lambda **more: Temperature(DOMAINS, 7, 40, tau=3.0, seed=3, **more),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_batch_is_a_function_of_seed_and_step(name):
    make = SAMPLERS[name]
    straight = list(make())
    assert len(straight) == len(make()) == 40
    for step in (39, 0, 17, 18, 5):
        assert make()[step] == straight[step]
    assert list(make(start=25)) == straight[25:]
    assert len(make(start=25)) == 15
    used = make()
    assert [used[step] for step in (30, 2, 31)] == [straight[step] for step in (30, 2, 31)]
    for twin in (copy.deepcopy(used), pickle.loads(pickle.dumps(used))):
        assert twin[11] == straight[11]
    other = Temperature(DOMAINS, 7, 40, tau=3.0, seed=4)
    assert list(other) != straight


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_domain_goes_through_shuffled_passes(name):
    sampler = SAMPLERS[name]()
    drawn = [position for batch in sampler for position in batch]
    for domain, (low, high) in enumerate(itertools.pairwise((0, 60, 65, 85))):
        own = [p for p in drawn if low <= p < high]
        # in the order of steps, every example comes once before any comes twice, up to the order in a batch
        counts = Counter(own)
        assert max(counts.values(), default=0) - min((counts[p] for p in range(low, high)), default=0) <= 1
        assert len(own) == sampler.counts(40)[domain]
    assert sampler.passes(40) == pytest.approx(
        [n / size for n, size in zip(sampler.counts(40), (60, 5, 20), strict=True)]
    )
    assert sampler.counts(0).tolist() == [0, 0, 0]


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 30))
def test_workers_share_out_the_examples_of_one_larger_batch(world, size, step):
    whole = Temperature(DOMAINS, size * world, tau=2.0, seed=1)[step]
    parts = [Temperature(DOMAINS, size, tau=2.0, seed=1, rank=rank, world=world)[step] for rank in range(world)]
    assert all(len(part) == size for part in parts)
    assert sorted(p for part in parts for p in part) == sorted(whole)


def test_counts_split_as_independent_draws_do():
    q = np.array([0.5, 0.3, 0.2])
    one = Mixture(q, 4, (9,))
    steps = [one.before(t + 1) - one.before(t) for t in range(600)]
    assert all(counts.sum() == 4 and (counts >= 0).all() for counts in steps)
    found = np.array(steps)
    assert found.mean(0) == pytest.approx(4 * q, abs=0.15)
    assert found.var(0) == pytest.approx(4 * q * (1 - q), rel=0.25)
    assert abs(np.corrcoef(found[:-1, 0], found[1:, 0])[0, 1]) < 0.15
    far = one.before(70_000)  # in the second block
    assert far.sum() == 4 * 70_000
    assert far / far.sum() == pytest.approx(q, abs=0.01)
    large = Mixture(q, 2**25, (9,))
    assert large.block * 2**25 <= 500_000_000
    assert large.before(20).sum() == 20 * 2**25


def test_a_far_step_is_not_spun_to(monkeypatch):
    sampler = Temperature(DOMAINS, 7, tau=3.0)
    made = []
    default = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: made.append(seed) or default(seed))
    sampler[1_000_000]
    assert len(made) < 120


def test_in_a_dataloader_over_several_sets():
    sets = [
        TensorDataset(torch.arange(60)),
        TensorDataset(torch.arange(100, 105)),
        TensorDataset(torch.arange(200, 220)),
    ]
    data = ConcatDataset(sets)
    loader = DataLoader(data, batch_sampler=Cooldown(data, 4, 10, seed=2))
    found = [batch[0].tolist() for batch in loader]
    assert len(found) == 10
    values = [sets[0].tensors[0], sets[1].tensors[0], sets[2].tensors[0]]
    flat = torch.cat(values).tolist()
    assert found == [[flat[i] for i in batch] for batch in Cooldown(DOMAINS, 4, 10, seed=2)]


def test_names_and_tensors_say_the_same_as_numbers():
    names = ["a"] * 60 + ["b"] * 5 + ["c"] * 20
    expected = list(Cooldown(DOMAINS, 4, 10))
    assert list(Cooldown(names, 4, 10)) == expected
    assert list(Cooldown(torch.tensor(DOMAINS), 4, 10)) == expected


def test_weights_have_the_expectation_of_sampling_and_more_variance():
    w = upweight(DOMAINS, tau=5.0)
    assert w.mean() == pytest.approx(1.0)
    q = published([60, 5, 20], 5)
    values = np.where(np.array(DOMAINS) == 1, 3.0, -1.0)
    assert (w * values).mean() == pytest.approx(q[1] * 3 - q[0] - q[2])
    assert w[60] == pytest.approx(q[1] / (5 / 85))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Cooldown(DOMAINS, 4, 10, hot=0.5), r"cooldown: hot=0.5 is not a number in \[1, inf"),
        (lambda: Cooldown(DOMAINS, 4, 10, switch=1.5), r"cooldown: switch=1.5 is not a number in \[0, 1\]"),
        (lambda: Cooldown(DOMAINS, 0, 10), r"cooldown: batch_size=0 is not a whole number"),
        (lambda: Cooldown(DOMAINS, 4, None), r"cooldown: steps=None has no half to switch at"),
        (lambda: Cooldown([], 4, 10), r"cooldown: domains"),
        (lambda: Cooldown([0.5, 1.5], 4, 10), r"cooldown: domains has the shape \(2,\) and the type float64"),
        (lambda: Temperature(DOMAINS, 4, rank=2, world=2), r"temperature: rank=2 is not a whole number in \[0, 1\]"),
        (lambda: upweight(DOMAINS, 0.0), r"upweight: tau=0.0"),
        (lambda: Examples(TensorDataset(torch.zeros(3)), 0), r"Examples: batch_size=0 is no batch"),
        (
            lambda: Examples(TensorDataset(torch.zeros(3)), 1, domains=[1]),
            r"Examples: domains are 1 and the data set has 3",
        ),
    ],
)
def test_what_can_t_be_done_is_refused(make, sentence):
    with pytest.raises(SoonerError, match=sentence):
        make()


def test_a_step_outside_the_run_does_not_exist():
    with pytest.raises(IndexError):
        Cooldown(DOMAINS, 4, 10)[10]
    with pytest.raises(TypeError):
        len(Temperature(DOMAINS, 4))


X = torch.randn(85, 3, generator=torch.Generator().manual_seed(0))


def examples(split):
    return Examples(TensorDataset(X, X.sum(1)), 4, domains=DOMAINS)


def line(seed):
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def squared(model, batch):
    return (model(batch[0])[:, 0] - batch[1]).square().mean()


@pytest.fixture
def task():
    return Task(
        line, Passes(examples), squared, steps=8, evaluations=2, examples=examples, provides=frozenset({"domains"})
    )


def test_in_a_recipe_it_draws_what_the_loop_trains_on(task):
    seen = []

    def loss(model, batch):
        seen.append(batch[0])
        return squared(model, batch)

    sooner.train(Task(**{**task.__dict__, "loss": loss}), "cooldown + sgd(lr=0.01)", 3, evaluate_at=[])
    order = sooner.task.derived_seed(3, "order")
    expected = [X[batch] for batch in Cooldown(DOMAINS, 4, 8, seed=order)]
    assert len(seen) == 8
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))


def test_resuming_repeats_nothing(task, tmp_path):
    straight = sooner.train(task, "cooldown + sgd(lr=0.01)", 3)

    def stop(step, value):
        if step > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sooner.train(task, "cooldown + sgd(lr=0.01)", 3, checkpoint=tmp_path / "x.pt", save_every=4, progress=stop)
    again = sooner.train(task, "cooldown + sgd(lr=0.01)", 3, checkpoint=tmp_path / "x.pt")
    assert torch.equal(straight.losses, again.losses)


def test_micro_batches_and_simulated_workers_draw_too(task):
    assert sooner.train(task, "cooldown + sgd(lr=0.01)", 3, accumulate=2).diverged_at is None
    cluster = train_cluster(task, "cooldown + sgd(lr=0.01)", 3, workers=2)
    assert cluster.diverged_at is None
    alone = train_cluster(task, "cooldown + sgd(lr=0.01)", 3, workers=1)
    assert alone.values == pytest.approx(sooner.train(task, "cooldown + sgd(lr=0.01)", 3).values, rel=1e-5)


def test_tasks_without_domains_are_refused_in_one_sentence(task):
    with pytest.raises(
        SoonerError, match=r"cooldown needs domains, which task digits does not provide; train on a task"
    ):
        sooner.train(sooner.workload("digits"), "cooldown + adamw", 1, 2)
    with pytest.raises(SoonerError, match="cooldown needs domains, which this training loop does not provide"):
        sooner.Recipe("cooldown + adamw").build(line(0), 4)
    only = Task(line, task.batches, squared, steps=8, provides=frozenset({"domains"}))
    with pytest.raises(SoonerError, match="cooldown draws single examples, and task task gives only batches"):
        sooner.train(only, "cooldown + adamw", 1, 2)
    bare = Task(**{**task.__dict__, "examples": lambda split: Examples(TensorDataset(X, X.sum(1)), 4)})
    with pytest.raises(SoonerError, match="cooldown needs domains, which these examples do not have"):
        sooner.train(bare, "cooldown + adamw", 1, 2)
    shards = Task(**{**task.__dict__, "shards": lambda worker, workers, seed: task.batches(seed, "train")})
    with pytest.raises(SoonerError, match="cooldown draws from the data of all workers"):
        train_cluster(shards, "cooldown + sgd", 3, workers=2)


def test_a_recipe_makes_the_sampler_of_a_loop_of_one_s_own(task):
    recipe = sooner.Recipe("cooldown(hot=3.0) + sgd")
    assert str(recipe) == "cooldown(hot=3.0) + sgd"
    assert not recipe.horizon_free
    sampler = recipe.sampler(examples("train"), steps=8, seed=5)
    assert list(sampler) == list(Cooldown(DOMAINS, 4, 8, hot=3.0, seed=5))
    assert sooner.Recipe("sgd").sampler(examples("train"), steps=8) is None
    assert recipe.build(line(0), 8, {"domains"}).others == []
    with pytest.raises(SoonerError, match="cooldown has no hyper-parameter 'batch_size'"):
        sooner.Recipe("cooldown(batch_size=3) + sgd")


class Squares:
    def __len__(self):
        return 10

    def __getitem__(self, i):
        return torch.tensor(float(i) ** 2), i


def test_examples_make_batches_as_a_dataloader_does():
    class AtOnce(Squares):
        def __getitems__(self, positions):
            return [self[i] for i in positions]

    for data in (Squares(), AtOnce(), TensorDataset(torch.arange(10.0) ** 2, torch.arange(10))):
        (expected,) = DataLoader(data, batch_sampler=[[3, 1, 1]])
        found = Examples(data, 3).batch([3, 1, 1])
        assert type(found) is type(expected)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_task_with_examples_needs_no_batches(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\nfrom sooner.task import Examples\n"
        "steps = 8\nX = torch.arange(24.0).view(12, 2) / 24\n"
        "def examples(split): return Examples(TensorDataset(X, X.sum(1)), 5)\n"
        "def model(seed):\n    torch.manual_seed(seed)\n    return torch.nn.Linear(2, 1)\n"
        "def loss(model, batch): return (model(batch[0])[:, 0] - batch[1]).square().mean()\n"
    )
    task = sooner.task.from_file(file)
    train, evaluation = task.batches(1, "train"), task.batches(0, "eval")
    first = torch.cat([train[i][1] for i in (0, 1)])
    assert len(first.unique()) == 10  # a pass of 12 has two whole batches
    assert not torch.equal(train[0][1], train[2][1])
    assert [len(batch[1]) for batch in evaluation] == [5, 5, 2]
    assert sooner.task.check(task)["parameters"] == 3
    assert sooner.train(task, "sgd", 1, 3).diverged_at is None
    with pytest.raises(SoonerError, match="2 examples make no batch of 5"):
        Passes(lambda split: Examples(TensorDataset(X[:2]), 5))(1, "train")
