"""Run by test_sharded_replicas.py with four gloo processes: two replicas of a model, each sharded over two."""

import copy
import sys

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from sooner.communication import EF, FP16, FSDPReplicas, TopK


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def batch(step, replica):
    generator = torch.Generator().manual_seed(10 * step + replica)
    return torch.randn(5, 6, generator=generator), torch.randn(5, 3, generator=generator)


def loss_of(net, step, replica):
    x, y = batch(step, replica)
    kind = next(net.parameters()).dtype
    return nn.functional.mse_loss(net(x.to(kind)), y.to(kind))


def train(mesh, codec, memory, steps, begin=None):
    """Both ranks of a replica see the batch of the replica."""
    replica = mesh.get_local_rank("replicate")
    net = model()
    for layer in (net[0], net[2]):
        fully_shard(layer, mesh=mesh["shard"])
    fully_shard(net, mesh=mesh["shard"])
    replicas = FSDPReplicas(net, mesh.get_group("replicate"), codec, memory)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    first = 0
    if begin is not None:
        first, weights, kept = begin
        with torch.no_grad():
            for p, saved in zip(net.parameters(), weights, strict=True):
                p.to_local().copy_(saved)
        replicas.load_state_dict(kept)
    middle = None
    for step in range(first, steps):
        if step == steps // 2:
            weights = [p.to_local().detach().clone() for p in net.parameters()]
            middle = (step, weights, copy.deepcopy(replicas.state_dict()))
        optimizer.zero_grad()
        loss_of(net, step, replica).backward()
        optimizer.step()
    return [p.full_tensor() for p in net.parameters()], middle, replicas


def whole(steps):
    """Return the weights after the same steps in one process, with plain averages."""
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        (sum(loss_of(net, step, replica) for replica in range(2)) / 2).backward()
        optimizer.step()
    return list(net.parameters())


def cast_afterwards(codec, memory):
    """Return the weights of a model that is cast afterwards and thaws a layer, sharded and in one process."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    net, one = model(), model()
    fully_shard(net, mesh=mesh["shard"])
    replicas = FSDPReplicas(net, mesh.get_group("replicate"), codec, memory)
    for each in (net, one):
        each.double()
    for step in range(4):
        if memory is None:
            for each in (net, one):
                each[0].requires_grad_(step >= 2)
        optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (net, one)]
        loss_of(net, step, mesh.get_local_rank("replicate")).backward()
        (sum(loss_of(one, step, replica) for replica in range(2)) / 2).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    kept = [v for e in replicas.exchanges.values() for v in e.state.get("memory", {}).values()]
    assert all(v.dtype == torch.float64 for v in kept), "memories go along"
    return [p.full_tensor() for p in net.parameters()], list(one.parameters())


def main():
    distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    dense, _, replicas = train(mesh, None, None, 4)
    for ours, theirs in zip(dense, whole(4), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)
    half, _, halved = train(mesh, FP16(), None, 4)
    for ours, theirs in zip(half, dense, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert halved.wire.traffic.payload_bytes == replicas.wire.traffic.payload_bytes / 2
    sparse, middle, _ = train(mesh, TopK(0.2), EF(), 6)
    resumed, _, _ = train(mesh, TopK(0.2), EF(), 6, middle)
    assert all(torch.equal(a, b) for a, b in zip(sparse, resumed, strict=True))
    others = [torch.empty_like(sparse[0]) for _ in range(4)]
    distributed.all_gather(others, sparse[0])
    assert all(torch.equal(one, sparse[0]) for one in others), "the replicas went apart"
    for ours, theirs in zip(*cast_afterwards(None, None), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-14)
    cast_afterwards(TopK(0.2), EF())
    distributed.barrier()
    distributed.destroy_process_group()
    sys.stdout.write("fine\n")


main()
