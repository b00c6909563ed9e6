"""A task on another device: everything that meets there has been moved there."""

import functools

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, TensorDataset

import sooner
from sooner.task.placing import placed, to_device

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def model(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 1))


def loss(model, batch):
    (x,) = batch
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def loader(seed, split):
    return DataLoader(TensorDataset(X), batch_size=16, shuffle=split == "train")


def generated(seed, split):
    def walk():
        draw = torch.Generator().manual_seed(seed)
        for _ in range(4 if split == "eval" else 30):
            yield (X[torch.randint(64, (16,), generator=draw)],)

    return walk()


TASK = sooner.Task(model, loader, loss, steps=12, evaluations=4)


class OneDevice(TorchDispatchMode):
    """Refuses operations between devices, other than copies and numbers."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        devices = {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.dim()}
        assert len(devices) < 2 or "copy" in str(function), f"{function} mixes {devices}"
        return function(*args, **kwargs or {})


def test_model_and_batches_meet_on_the_device():
    task = placed(TASK, "meta")
    with OneDevice():
        made = task.model(3)
        found = task.loss(made, TASK.batches(0, "train")[0])
        found.backward()
    assert found.device.type == "meta"
    assert {p.grad.device.type for p in made.parameters()} == {"meta"}


def test_bf16_runs_the_loss_in_autocast_and_keeps_weights():
    run = sooner.train(placed(TASK, "cpu", "bf16"), "sgd(lr=0.05)")
    plain = sooner.train(TASK, "sgd(lr=0.05)")
    assert next(run.model.parameters()).dtype == torch.float32
    assert run.values != plain.values
    assert run.values == pytest.approx(plain.values, rel=0.05)
    with pytest.raises(sooner.SoonerError, match="choose bf16"):
        placed(TASK, amp="fp16")


def test_nested_batches_are_moved_whole():
    moved = to_device({"a": [X, 3], "b": (X, "text")}, torch.device("meta"))
    assert moved["a"][0].device.type == moved["b"][0].device.type == "meta"
    assert (moved["a"][1], moved["b"][1]) == (3, "text")


@pytest.mark.parametrize("batches", [loader, generated])
def test_a_stream_is_a_function_of_seed_and_step(batches):
    task = sooner.Task(model, batches, loss, steps=12, evaluations=4)
    one, two = (task.batches(5, "train") for _ in range(2))
    torch.manual_seed(1)
    forward = [one[step][0] for step in range(12)]
    torch.manual_seed(2)
    backward = [two[step][0] for step in (11, 3, 0)]
    assert all(torch.equal(a, b) for a, b in zip(backward, (forward[11], forward[3], forward[0]), strict=True))
    assert not torch.equal(forward[0], task.batches(6, "train")[0][0])
    evaluation = task.batches(0, "eval")
    assert len(evaluation) == 4
    assert sum(len(evaluation[i][0]) for i in range(4)) == 64


def test_drawing_from_a_stream_leaves_the_random_state_alone():
    stream = TASK.batches(5, "train")
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    stream[4]
    assert torch.equal(torch.rand(3), expected)


def test_resuming_a_stream_is_exact(tmp_path):
    train = functools.partial(sooner.train, TASK, "adamw", 3)
    train(checkpoint=tmp_path / "c.pt", save_every=5)
    assert train(checkpoint=tmp_path / "c.pt").values == train().values


def test_a_stream_that_ends_says_so():
    task = sooner.Task(model, generated, loss, steps=40, evaluations=4)
    with pytest.raises(sooner.SoonerError, match="end after 30 steps"):
        sooner.train(task, "sgd(lr=0.05)")
