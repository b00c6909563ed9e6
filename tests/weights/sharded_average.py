"""Run by test_ema_sharded.py with two gloo processes: a sharded and a whole model are averaged side by side."""

import sys

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from sooner.recipe import Recipe


def model(sharded, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()  # five rows, and one: uneven pieces
    return fully_shard(net, mesh=init_device_mesh("cpu", (2,))) if sharded else net


def train(net, training, steps):
    """Return what the model says of one input after every step: averaged, and as it is in training."""
    torch.manual_seed(7)
    seen = []
    for _ in range(steps):
        net(torch.randn(4, 3).double()).square().sum().backward()
        training.step()
        training.zero_grad()
        with training.view(), torch.no_grad():
            seen.append(net(torch.ones(1, 3).double()).item())
        with torch.no_grad():
            seen.append(net(torch.ones(1, 3).double()).item())
    return seen


distributed.init_process_group("gloo", init_method=sys.argv[1], rank=int(sys.argv[2]), world_size=2)
try:
    found = []
    for sharded in (True, False):
        net = model(sharded)
        training = Recipe("sgd(lr=0.05) + ema(decay=0.5)").build(net, steps=8)
        first = train(net, training, 4)
        state, weights = training.state_dict(), net.state_dict()
        averages = state["parts"][state["names"].index("EMA")]["averages"].values()
        assert all(isinstance(a, DTensor) is sharded for a in averages)
        other = model(sharded, seed=1)
        resumed = Recipe("sgd(lr=0.05) + ema(decay=0.5)").build(other, steps=8)
        other.load_state_dict(weights)
        resumed.load_state_dict(state)
        found.append([*first, *train(other, resumed, 4)])
    assert len(set(found[0])) == 15, "averages and weights are to differ, except after the first step"
    torch.testing.assert_close(*map(torch.tensor, found), rtol=1e-12, atol=1e-12)
finally:
    distributed.destroy_process_group()
