"""Run by test_shards.py with two gloo processes: matrices of every form, sharded, against the same in one piece."""

import copy
import functools
import sys

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from sooner.execute import using
from sooner.update import APOLLO, ROOT, SOAP, AdaMuon, AdamW, APOLLOMini, KLShampoo, Muon, NorMuon

SPLIT = {"split": {"qkv": (6, 3, 3)}, "heads": {"qkv": (2, 1, 1)}}
CASES = {
    "muon": functools.partial(Muon, **SPLIT),
    "muon match_rms_adamw": functools.partial(Muon, adjust="match_rms_adamw", weight_decay=0.1),
    "root": functools.partial(ROOT, **SPLIT),
    "soap": functools.partial(SOAP, interval=2, max_side=6, **SPLIT),
    "kl_shampoo in blocks": functools.partial(KLShampoo, block=4),
    "normuon": functools.partial(NorMuon, **SPLIT),
    "adamuon": functools.partial(AdaMuon, **SPLIT),
    "apollo": functools.partial(APOLLO, rank=2, **SPLIT),
    "apollo_mini": functools.partial(APOLLOMini, decay="matrices", weight_decay=0.1),
    "adamw by kind": functools.partial(AdamW, decay="matrices", weight_decay=0.1),
}


class Conv1D(nn.Module):
    """Hugging Face's linear layer, stored [in, out]."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.weight = nf, nn.Parameter(torch.randn(nx, nf))

    def forward(self, x):
        return x @ self.weight


class Net(nn.Module):
    """Three experts, five rows, one row: nothing divides evenly between two processes."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 4)
        self.wte = nn.Embedding(7, 5)
        self.token = nn.Parameter(torch.randn(1, 1, 5))
        self.qkv = nn.Linear(5, 12)
        self.mixed = nn.Linear(12, 5)
        self.turned = Conv1D(9, 5)
        self.experts = nn.Parameter(torch.randn(3, 4, 9))
        self.kernel = nn.Conv1d(3, 5, 3)
        self.single = nn.Linear(10, 1)

    def forward(self, x):
        h = self.turned(torch.tanh(self.mixed(torch.tanh(self.qkv(self.wte(x) + self.token[0])))))
        h = torch.einsum("erc,bc->ber", self.experts, h)
        return self.head(torch.tanh(self.single(self.kernel(h).flatten(1))))


def train(net, optimizer, steps=3, first=0):
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        x, y = (torch.randint(n, (6,), generator=generator) for n in (7, 4))
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def compare(label, net, plain):
    pairs = zip(net.parameters(), plain.parameters(), strict=True)
    worst = max(float((whole(p) - whole(q)).detach().abs().max()) for p, q in pairs)
    if distributed.get_rank() == 0:
        print(label, worst, flush=True)
    assert worst < 1e-12, (label, worst)


def by_experts(net, mesh):
    """Put one expert on each process, as expert parallelism does, and everything else on both."""
    net.experts = nn.Parameter(distribute_tensor(net.experts.detach(), mesh, [Shard(0)]))
    return net


def main():
    distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    torch.manual_seed(0)
    start = Net().double()
    for executor, names in (("eager", list(CASES)), ("native", ["muon match_rms_adamw"])):
        for name in names:
            make = CASES[name]
            with using(executor):
                plain, sharded = copy.deepcopy(start), copy.deepcopy(start)
                fully_shard(sharded, mesh=mesh)
                optimizer, reference = make(sharded), make(plain)
                assert optimizer.explain() == reference.explain()
                train(plain, reference)
                train(sharded, optimizer)
                compare(f"{executor} {name}", sharded, plain)
    for name, make in list(CASES.items())[:-1]:  # a stack sharded by experts, stepped with gradients of its own
        one, two = copy.deepcopy(start), by_experts(copy.deepcopy(start), mesh)
        pair = make(one), make(two)
        for step in range(2):
            for p, q in zip(one.parameters(), two.parameters(), strict=True):
                g = torch.randn(p.shape, generator=torch.Generator().manual_seed(step), dtype=p.dtype)
                p.grad = g
                q.grad = distribute_tensor(g, mesh, [Shard(0)]) if isinstance(q, DTensor) else g.clone()
            for optimizer in pair:
                optimizer.step()
        compare(f"experts {name}", two, one)
    for name, make in list(CASES.items())[1::2]:  # every process steps the parameters that it was given
        plain, spread = copy.deepcopy(start), copy.deepcopy(start)
        groups = [{"params": list(spread.parameters())[:5], "lr": 0.01}, {"params": list(spread.parameters())[5:]}]
        one_by_one = make(plain, lr=0.02)
        one_by_one.param_groups.clear()
        for group in ({"params": list(plain.parameters())[:5], "lr": 0.01}, {"params": list(plain.parameters())[5:]}):
            one_by_one.add_param_group(group)
        optimizer = ZeroRedundancyOptimizer(groups, optimizer_class=functools.partial(make, model=spread), lr=0.02)
        assert len(optimizer.param_groups) == 2
        schedules = [
            torch.optim.lr_scheduler.LambdaLR(o, [lambda k: 1 / (k + 1), lambda k: 0.5**k])
            for o in (optimizer, one_by_one)
        ]
        for step in range(3):
            train(plain, one_by_one, 1, step)
            train(spread, optimizer, 1, step)
            for schedule in schedules:
                schedule.step()
        compare(f"zero {name}", spread, plain)
    distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
