"""What a DoRA layer costs with norms from its factors, beside peft's own: memory of a forward, time of it and backward.

    python benchmarks/dora_layer.py [--width 2048] [--rank 256] [--tokens 128] [--rounds 9]

Both are modules of peft (pip install sooner[peft]), one of them after `sooner.adapter.factored_dora`, on one thread in
float32. They take turns; ratios are of the same round, in processor time. Memory is the most that is allocated at one
time during a forward, as PyTorch's profiler counts it.
"""

from __future__ import annotations

import statistics

import cyclopts
import torch
from _interleaved import block_length, interleave
from torch import nn

from sooner.claims.dora import layers, transient


def main(*, width: int = 2048, rank: int = 256, tokens: int = 128, rounds: int = 9) -> None:
    """Print the ratios, peft over factored.

    Args:
        width: of the layer, in and out.
        rank: of the adapter.
        tokens: examples that a forward sees.
        rounds: how often every candidate has its turn.
    """
    torch.set_num_threads(1)
    theirs, ours = layers(width, rank, 0)
    x = torch.randn(tokens, width, generator=torch.Generator().manual_seed(0))

    def both(model: nn.Module) -> None:
        torch.autograd.backward(model(x).square().mean())

    mebibytes = [transient(lambda model=model: model(x)) / 2**20 for model in (theirs, ours)]
    outputs = [model(x).detach() for model in (theirs, ours)]
    print(f"width {width}, rank {rank}, {tokens} tokens, peft over factored")
    print(f"memory: {mebibytes[0] / mebibytes[1]:.1f}x ({mebibytes[0]:.1f} and {mebibytes[1]:.1f} MiB)")
    for name, act in (("forward", lambda model: model(x)), ("forward and backward", both)):
        candidates = {"peft": lambda act=act: act(theirs), "factored": lambda act=act: act(ours)}
        calls = {key: block_length(candidate) for key, candidate in candidates.items()}
        found = interleave(candidates, rounds, calls)
        ratios = sorted(one.cpu["peft"] / one.cpu["factored"] for one in found)
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f} in {rounds} rounds"
        print(f"{name}: {statistics.median(ratios):.2f}x ({spread})")
    print(f"outputs differ by {float((outputs[0] - outputs[1]).norm() / outputs[0].norm()):.1e} of their norm")


if __name__ == "__main__":
    cyclopts.run(main)
