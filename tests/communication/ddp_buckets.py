"""Run by test_ddp_buckets.py with two gloo processes: codecs as a DDP hook, against the attachment to the optimizer."""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sooner.communication import BF16, EF, FP16, DDPBuckets, Dense, Int8, RandomK, TopK


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 600), nn.Tanh(), nn.Linear(600, 600), nn.Tanh(), nn.Linear(600, 3))


def batch(step, rank):
    generator = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(5, 6, generator=generator), torch.randn(5, 3, generator=generator)


def train(codec, memory, steps, bucket_mb=0.1):
    ddp = DistributedDataParallel(model(), bucket_cap_mb=bucket_mb)
    buckets = DDPBuckets(ddp, codec, memory)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)
    for step in range(steps):
        x, y = batch(step, dist.get_rank())
        optimizer.zero_grad()
        nn.functional.mse_loss(ddp(x), y).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in ddp.parameters()]), buckets


def whole(steps):
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for step in range(steps):
        optimizer.zero_grad()
        loss = sum(nn.functional.mse_loss(net(x), y) for x, y in (batch(step, rank) for rank in range(2))) / 2
        loss.backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def same_everywhere(weights):
    both = [torch.empty_like(weights) for _ in range(2)]
    dist.all_gather(both, weights)
    return torch.equal(*both)


def main():
    dist.init_process_group("gloo")
    exact = whole(6)
    dense, counted = train(Dense(), None, 6)
    torch.testing.assert_close(dense, exact, rtol=1e-5, atol=1e-6)
    numbers = len(exact)
    assert counted.traffic.payload_bytes == 6 * 4 * numbers
    assert counted.traffic.messages > 6, "the model has several buckets, so that messages could overlap"
    for codec, close in ((FP16(), 1e-4), (BF16(), 1e-3), (Int8(), 2e-3)):
        weights, counted = train(codec, None, 6)
        torch.testing.assert_close(weights, exact, rtol=10 * close, atol=close)
        assert same_everywhere(weights)
    assert counted.traffic.payload_bytes < 4 * numbers + 5 * 1.1 * numbers, "one dense step, then a byte per number"
    for codec in (TopK(0.05), RandomK(0.05)):
        weights, counted = train(codec, EF(), 6)
        assert same_everywhere(weights), "ranks went apart"
        assert counted.traffic.payload_bytes < 4 * numbers + 5 * 0.5 * numbers
        assert len(counted.state) > 1
    # one bucket and everything sent is dense averaging
    weights, _ = train(TopK(1.0), EF(), 6, bucket_mb=100)
    torch.testing.assert_close(weights, exact, rtol=1e-5, atol=1e-6)
    sys.stdout.write("fine\n")
    dist.destroy_process_group()


main()
