"""Run by test_ema_sharded.py with two gloo processes: a sharded and a whole model are averaged side by side.

The model is sharded before the average is made, after that, between two steps, or while steps are taken otherwise than
usual; its state goes from a whole model into a sharded one and back. All must come out as if it had stayed whole.
"""

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from sooner.recipe import Recipe
from sooner.weights import EMA


def model(sharded, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()  # five rows, and one: uneven pieces
    return shard(net) if sharded else net


def shard(net):
    return fully_shard(net, mesh=init_device_mesh("cpu", (2,)))


def says(net):
    with torch.no_grad():
        return net(torch.ones(1, 3, dtype=next(net.parameters()).dtype)).double().item()


def train(net, training, steps):
    """Return what the model says of one input after every step: averaged, and as it is in training."""
    torch.manual_seed(7)
    seen = []
    for _ in range(steps):
        net(torch.randn(4, 3).double()).square().sum().backward()
        training.step()
        training.zero_grad()
        with training.view():
            seen.append(says(net))
        seen.append(says(net))
    return seen


def advance(net, ema, steps, first=0):
    """Take steps of plain SGD and their average; the optimizer is new, for sharding replaces the parameters."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for step in range(first, first + steps):
        torch.manual_seed(step)
        net(torch.randn(4, 3, dtype=next(net.parameters()).dtype)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.after_step()


def averaged(net, ema):
    with ema.view():
        return [says(net), says(net)]


def sharded_late(at):
    """Return what the average says when the model is sharded after so many steps; None for never."""
    net = model(sharded=False)
    ema = EMA(net, 0.5)
    if at == 0:
        shard(net)
    advance(net, ema, 3)
    if at == 3:
        shard(net)
    advance(net, ema, 3, first=3)
    found = [*averaged(net, ema), says(net)]
    assert [isinstance(a, DTensor) for a in ema.state_dict()["averages"].values()] == [at is not None] * 4
    return found


def held_whole(sharded):
    """The shards are gathered and left so, by evaluation outside of the view and by training itself."""
    net = model(sharded)
    ema = EMA(net, 0.5)
    if sharded:
        net.set_reshard_after_backward(False)
    advance(net, ema, 2)
    says(net)
    ema.after_step()
    found = averaged(net, ema)
    advance(net, ema, 2, first=2)
    return [*found, *averaged(net, ema), says(net)]


def cast(sharded):
    """FSDP2 can be cast until its first forward pass."""
    net = model(sharded)
    ema = EMA(net, 0.5)
    ema.after_step()
    net.float()
    advance(net, ema, 2)
    return [*averaged(net, ema), says(net)]


def other_way(sharded):
    """A state saved by a sharded model goes into a whole one, and the other way round."""
    first, then = model(not sharded), model(sharded, seed=1)
    one, other = EMA(first, 0.5), EMA(then, 0.5)
    advance(first, one, 2)
    other.load_state_dict(one.state_dict())
    return averaged(then, other)


distributed.init_process_group("gloo")
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
    late = [sharded_late(at) for at in (0, 3, None)]
    assert abs(late[0][0] - late[0][2]) > 1e-3, "averages and weights are to differ"
    for one in late[:2]:
        torch.testing.assert_close(*map(torch.tensor, (one, late[2])), rtol=1e-12, atol=1e-12)
    for case, tolerance in ((held_whole, 1e-12), (cast, 1e-5), (other_way, 1e-12)):
        both = [torch.tensor(case(sharded)) for sharded in (True, False)]
        torch.testing.assert_close(*both, rtol=tolerance, atol=tolerance, msg=lambda text, case=case: f"{case}: {text}")
finally:
    distributed.destroy_process_group()
