"""What averaging gradients at the optimizer costs, beside DistributedDataParallel, where no slow link hides it.

    python benchmarks/attachment_overhead.py [--pairs 21] [--steps 6] [--codec fp16] [--layers 6]

Two processes on gloo and loopback, a thread each, train the same model of about five million parameters on the same
batches. Blocks of steps alternate between the two ways within the same processes, so that neighbours and drift hit
both. The first part checks that both end with the same weights. On a machine with two cores the processes share them
with gloo's own threads, so single pairs scatter; read the median.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cyclopts
import torch
import torch.distributed as dist
import torch.nn.functional as F
from _interleaved import spread, waited
from torch import Tensor, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from sooner.communication._attached import Communication
from sooner.part import load

WIDTH, VOCABULARY, LENGTH, BATCH = 256, 256, 64, 8
LEARNING_RATE = 1e-3


class Net(nn.Module):
    """A language model over bytes."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.body(self.embedding(x), self.mask, is_causal=True))


class Side:
    """One way to train, with a model and an optimizer of its own."""

    def __init__(self, parts: list[object] | None, layers: int) -> None:
        torch.manual_seed(0)
        self.net: nn.Module = Net(layers)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=LEARNING_RATE, fused=True)
        if parts is None:
            self.net = DistributedDataParallel(self.net)
        else:
            self.communication = Communication(self.net, self.optimizer, parts)
        self.step = 0

    def train(self, steps: int) -> None:
        """Go on for so many steps."""
        for _ in range(steps):
            generator = torch.Generator().manual_seed(1000 * self.step + dist.get_rank())
            x = torch.randint(VOCABULARY, (BATCH, LENGTH + 1), generator=generator)
            made = self.net(x[:, :-1])
            F.cross_entropy(made.flatten(0, 1), x[:, 1:].flatten()).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1

    def weights(self) -> Tensor:
        """Return all of them."""
        return torch.cat([p.detach().flatten() for p in self.net.parameters()])


def timed(train: Callable[[int], None], steps: int) -> tuple[float, float]:
    """Return seconds and processor seconds per step."""
    dist.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    train(steps)
    dist.barrier()
    return (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps


def worker(rank: int, rendezvous: str, pairs: int, steps: int, codec: str, layers: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    sides = {"sooner": Side([load(codec)()] if codec else [], layers), "ddp": Side(None, layers)}
    for side in sides.values():
        side.train(3)  # DDP rebuilds its buckets after the first step
    if rank == 0:
        apart = float((sides["sooner"].weights() - sides["ddp"].weights()).abs().max())
        print(f"{sides['ddp'].weights().numel():,} parameters; weights after 3 steps differ by at most {apart:.1e}")
    found: list[dict[str, tuple[float, float]]] = []
    lost, begun = waited(), time.perf_counter()
    for number in range(pairs):
        order = list(sides)[:: 1 if number % 2 == 0 else -1]
        found.append({name: timed(sides[name].train, steps) for name in order})
    if rank == 0:
        share = (waited() - lost) / (time.perf_counter() - begun)
        print(f"threads of rank 0 waited for a core during {100 * share:.0f} % of the time")
        print(f"a step with DDP takes {1e3 * statistics.median(f['ddp'][0] for f in found):.0f} ms")
        for clock, name in enumerate(("wall", "cpu")):
            ratios = [f["sooner"][clock] / f["ddp"][clock] for f in found]
            print(f"{name:4} time, sooner over DDP, {pairs} pairs of {steps} steps: {spread(ratios)}  (target 1.03)")
    dist.destroy_process_group()


def main(*, pairs: int = 21, steps: int = 6, codec: str = "", layers: int = 6) -> None:
    """Compare.

    Args:
        pairs: blocks of each side.
        steps: per block.
        codec: a codec for sooner's side; none sends the numbers as they are, as DDP does.
        layers: of the model; 6 make it five million parameters.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(worker, (str(Path(folder) / "rendezvous"), pairs, steps, codec, layers), nprocs=2)


if __name__ == "__main__":
    cyclopts.run(main)
