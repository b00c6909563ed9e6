"""Run by test_shards.py with two gloo processes: trains sharded and whole models side by side and compares them."""

import sys

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from sooner.execute import using
from sooner.recipe import Recipe


class Net(nn.Module):
    """Weights whose rows do not divide evenly between two processes, one with fewer rows than processes."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 5)
        self.hidden = nn.Linear(5, 5)
        self.convolution = nn.Conv1d(1, 3, 3)
        self.single = nn.Linear(9, 1)
        self.head = nn.Linear(1, 4)

    def forward(self, x):
        h = torch.tanh(self.hidden(self.embedding(x)))
        return self.head(self.single(self.convolution(h[:, None]).flatten(1)))


def model(sharded):
    torch.manual_seed(0)
    net = Net().double()
    if sharded:
        fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
        assert all(isinstance(p, DTensor) and p.to_local().numel() < p.numel() for p in net.parameters() if len(p) > 1)
    return net


def train(recipe, sharded, steps=4):
    """Both processes see the same batch, so that the mean of their gradients is each one's own."""
    net = model(sharded)
    training = Recipe(recipe).build(net, steps)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        x, y = (torch.randint(n, (6,), generator=generator) for n in (7, 4))
        nn.functional.cross_entropy(net(x), y).backward()
        training.step()
        training.zero_grad()
    return net, training


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def main():
    distributed.init_process_group("gloo")
    for executor in ("eager", "native"):
        for recipe in sys.argv[1:]:
            with using(executor):
                sharded, training = train(recipe, sharded=True)
                plain, reference = train(recipe, sharded=False)
            parameters = zip(sharded.named_parameters(), plain.named_parameters(), strict=True)
            worst = max(float((whole(p) - q).detach().abs().max()) for (_, p), (_, q) in parameters)
            kept = zip(sharded.parameters(), plain.parameters(), strict=True)
            for p, q in kept:
                ours = training.optimizers[0].state[p]
                theirs = reference.optimizers[0].state[q]
                assert set(ours) == set(theirs)
                for slot, value in theirs.items():
                    assert whole(ours[slot]).shape == value.shape, slot
                    worst = max(worst, float((whole(ours[slot]) - value).abs().max()))
            before = [whole(p).clone() for p in sharded.parameters()]
            x = torch.arange(6)
            with training.view(), reference.view(), torch.no_grad():  # of a model that an evaluation has gathered
                worst = max(worst, float((sharded(x) - plain(x)).abs().max()))
            assert all(torch.equal(whole(p), q) for p, q in zip(sharded.parameters(), before, strict=True))
            with torch.no_grad():
                worst = max(worst, float((sharded(x) - plain(x)).abs().max()))
            if distributed.get_rank() == 0:
                print(executor, recipe, worst, flush=True)
            assert worst < 1e-12, (executor, recipe, worst)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
