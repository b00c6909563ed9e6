"""Run by test_closures.py as one of two gloo processes: workers who share a model, each with half of the batch."""

import pytest
import torch
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

import sooner
from sooner.update import GradNormSmooth, LeapVerify, NormalizedLogisticGD, SoftmaxGhosts, SophiaG, SophiaH


def data(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=generator).double(), torch.randint(0, 3, (8,), generator=generator)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def whole(model):
    tensors = [p.detach().full_tensor() if isinstance(p, DTensor) else p.detach() for p in model.parameters()]
    return torch.cat([t.flatten() for t in tensors])


def train(optimizer, called, rank, steps, *, inside=False, parts=2):
    for step in steps:
        x, y = (t[rank::parts] for t in data(step))

        def loss(x=x, y=y):
            return F.cross_entropy(called(x), y)

        def closure(loss=loss):
            optimizer.zero_grad()
            found = loss()
            found.backward()
            return found

        if inside:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step(loss)


def alike(tensor):
    every = [torch.zeros_like(tensor) for _ in range(2)]
    distributed.all_gather(every, tensor)
    assert torch.equal(*every), "the workers have gone apart"


def made(method, way):
    model = network()
    called = DistributedDataParallel(model) if way == "ddp" else fully_shard(model) if way == "fsdp" else model
    torch.manual_seed(7)
    return model, called, method(model.parameters(), **({"every": 2} if method in (SophiaG, SophiaH) else {}))


def check_optimizer(method, way, rank):
    reached = []
    for inside in (False, True):
        model, called, optimizer = made(method, way)
        train(optimizer, called, rank, range(5), inside=inside)
        alike(whole(model))
        reached.append(whole(model))
    assert torch.equal(*reached)
    single, called, optimizer = made(method, "alone")
    train(optimizer, called, 0, range(5), parts=1)
    # SophiaG draws labels of its own on every worker, so its curvature is another draw, not another number of answers
    near = 1e-12 if method is not SophiaG else 2e-3
    assert torch.allclose(reached[0], whole(single), rtol=0, atol=near)
    return reached[0]


def check_resume(method, rank):
    model, called, optimizer = made(method, "fsdp")
    train(optimizer, called, rank, range(3))
    saved = tree_map(
        lambda x: x.clone() if isinstance(x, torch.Tensor) else x, get_optimizer_state_dict(model, optimizer)
    )
    again, called_again, resumed = made(method, "fsdp")
    for p, q in zip(again.parameters(), model.parameters(), strict=True):
        p.data.copy_(q.data)
    set_optimizer_state_dict(again, resumed, saved)
    train(optimizer, called, rank, range(3, 7))
    train(resumed, called_again, rank, range(3, 7))
    assert torch.equal(whole(model), whole(again))


def refused(method, way, sentence, rank):
    _, called, optimizer = made(method, way)
    with pytest.raises(sooner.SoonerError, match=sentence):
        train(optimizer, called, rank, range(1))


def check_wrappers(rank):
    model = network()
    called = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=100.0)
    guard, leap = SoftmaxGhosts(model, limit=0.1), LeapVerify(model, interval=1, when="not chaotic")
    for step in range(4):
        x, y = (t[rank::2] for t in data(step))
        optimizer.zero_grad()
        F.cross_entropy(called(x), y).backward()
        objective = sooner.objective.Objective(
            called, lambda m, b: F.cross_entropy(m(b[0]), b[1]), [(x, y)], held_out=lambda x=x, y=y: (x, y)
        )
        with leap.around_step(objective), guard.around_step(objective):
            optimizer.step()
        alike(whole(model))
    assert leap.attempted > 0
    assert guard.ratio > 0.1


def main():
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    for method in (SophiaG, SophiaH, NormalizedLogisticGD):
        ways = [way for way in ("ddp", "fsdp") if (method, way) != (SophiaH, "fsdp")]
        reached = [check_optimizer(method, way, rank) for way in ways]
        assert all(torch.allclose(one, reached[0], rtol=0, atol=1e-12) for one in reached)
    refused(SophiaH, "fsdp", "sophia_h needs a second derivative, which sharded weights do not have", rank)
    refused(GradNormSmooth, "ddp", "workers who share a model would go apart", rank)
    refused(GradNormSmooth, "fsdp", "takes no sharded ones", rank)
    for method in (SophiaG, NormalizedLogisticGD):
        check_resume(method, rank)
    check_wrappers(rank)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
