"""Run by test_exchange_faults.py in two processes: every codec with every memory on gloo, and what Sim makes of it.

python codec_ranks.py RANK STORE
"""

import datetime
import math

import torch
from test_codecs import LAYOUT, vectors
from test_memories import PAIRS
from torch import distributed

from sooner.communication import Exchange, Group, PowerSGD, Sim, TopK

STEPS, SPOILT, PLACE = 5, 2, 100
"""The second worker's vector of step SPOILT holds an infinity."""


def gradients(dtype):
    g = vectors(STEPS, 2, LAYOUT.size, seed=11, dtype=dtype)
    g[SPOILT, 1, PLACE] = math.inf
    return g


def close(one, other):
    """Scales are float32, so that sums in another order differ a little."""
    return torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def compare(codec, memory, rank):
    """Return what went wrong."""
    g, faults = gradients(torch.float64), []
    together, apart = Exchange(LAYOUT, Sim(2), codec, memory), Exchange(LAYOUT, Group(), codec, memory)
    for step in range(STEPS):
        before = {kind: {n: t.clone() for n, t in one.items()} for kind, one in apart.state.items()}
        ours, theirs = apart(g[step, rank]), together(g[step])
        if step == SPOILT:
            if theirs.isfinite().all() or ours.isfinite().all():
                faults.append("the infinity did not arrive")
            same = [torch.equal(t, apart.state[kind][n]) for kind, one in before.items() for n, t in one.items()]
            if not all(same):
                faults.append("the infinity was remembered")
            continue
        if not close(ours, theirs):
            faults.append(f"step {step}: updates differ by {float((ours - theirs).abs().max()):.1e}")
        for name in together.memory.slots:
            if not close(apart.state["memory"][name], together.state["memory"][name][rank]):
                faults.append(f"step {step}: {name} differs")
        for name, value in together.state["codec"].items():
            if not close(apart.state["codec"][name], value):
                faults.append(f"step {step}: {name} of the codec differs")
    if apart.wire.traffic.payload_bytes != together.wire.traffic.payload_bytes:
        faults.append("payload bytes differ")
    everyone = [torch.empty(LAYOUT.size, dtype=torch.float64) for _ in range(2)]
    distributed.all_gather(everyone, ours.contiguous())
    if not torch.equal(*everyone):
        faults.append("the ranks have different updates")
    return faults


def main():
    distributed.init_process_group("gloo", timeout=datetime.timedelta(minutes=10))
    rank = distributed.get_rank()
    for codec, memory in PAIRS:
        for fault in compare(codec, memory, rank):
            print(f"{codec} with {memory}: {fault}")
    tiny = Exchange(LAYOUT.__class__({"v": (1,)}), Group(), TopK(1e-9))
    if float(tiny(torch.full((1,), float(rank)))) != 0.5:
        print("one number did not arrive")
    if not PowerSGD(2).reducible:
        print("PowerSGD's factors do not add up")
    distributed.barrier()
    distributed.destroy_process_group()
    print("done")


if __name__ == "__main__":
    main()
