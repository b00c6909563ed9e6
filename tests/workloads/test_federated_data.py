"""How examples are divided among clients: completely, reproducibly, and as unevenly as asked."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.task import check
from sooner.workloads import _digits, digits_federated, find
from sooner.workloads._partition import dirichlet
from sooner.workloads.digits_federated import Client, shards


@settings(max_examples=60)
@given(
    count=st.integers(1, 120),
    classes=st.integers(1, 6),
    workers=st.integers(1, 30),
    alpha=st.sampled_from([0.01, 0.3, 100.0]),
    least=st.integers(1, 8),
    seed=st.integers(0, 50),
)
def test_every_example_has_one_client_and_every_client_an_example(count, classes, workers, alpha, least, seed):
    workers = min(workers, count)
    labels = np.random.default_rng(seed).integers(classes, size=count)
    parts = dirichlet(labels, workers, alpha, seed, least)
    assert len(parts) == workers
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert min(map(len, parts)) >= min(least, count // workers)
    again = dirichlet(labels, workers, alpha, seed, least)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


def entropy(alpha):
    """Mean entropy of the classes in a client, in nats."""
    labels = np.repeat(np.arange(10), 200)
    found = []
    for part in dirichlet(labels, 20, alpha, 3):
        shares = np.bincount(labels[part], minlength=10) / len(part)
        found.append(-np.sum(shares[shares > 0] * np.log(shares[shares > 0])))
    return np.mean(found)


def test_smaller_alpha_gives_clients_fewer_classes():
    few, some, all_ = entropy(0.05), entropy(0.3), entropy(1000.0)
    assert few < some - 0.3 < all_ - 0.6
    assert all_ == pytest.approx(np.log(10), abs=0.02)


def test_the_division_depends_on_the_seed():
    labels = np.repeat(np.arange(4), 30)
    one, other = (dirichlet(labels, 5, 0.3, seed) for seed in (1, 2))
    assert any(not np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def test_clients_hold_all_training_images_once():
    clients = [shards(i, 20, 5) for i in range(20)]
    assert sum(len(c.labels) for c in clients) == len(_digits.divided("train")[1])
    rows = torch.cat([c.examples[0].flatten(1) for c in clients])
    assert len(rows.unique(dim=0)) == len(rows)
    assert min(len(c.labels) for c in clients) >= digits_federated.LEAST
    assert all(torch.equal(c.examples[1], c.labels) for c in clients)


@pytest.mark.parametrize("worker", [0, 7])
def test_a_pass_shows_every_image_of_the_client_once(worker):
    client = Client(worker, 20, 5)
    count = len(client.labels)
    rows = torch.cat([client[step][0] for step in range(3 * count)]).flatten(1)
    own = client.examples[0].flatten(1)
    for number in (0, 2):
        one = rows[number * count : (number + 1) * count]
        assert torch.equal(one.unique(dim=0), own.unique(dim=0))
    images, labels = client[40]
    assert images.shape == (32, 1, 8, 8)
    assert labels.shape == (32,)
    assert torch.equal(Client(worker, 20, 5)[40][0], images)
    assert not torch.equal(Client(worker, 20, 6)[40][0], images)
    with pytest.raises(IndexError, match="batch -1"):
        client[-1]


def test_the_task_is_one_that_races_take():
    task = find("digits_federated")
    assert task.shards is not None
    assert check(task)["parameters"] == 14_458
