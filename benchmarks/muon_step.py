"""What one step of Muon costs beside PyTorch's and other packages', on many small matrices and on GPT-2 small's.

    python benchmarks/muon_step.py [--lists small] [--executors auto] [--threads 2] [--peers] [--rounds 3]

Everything steps the same matrices with five Newton-Schulz iterations and all other parameters with AdamW, in turn, in
one process. "GFLOP/s" counts the products of the iterations only: 5 * (4 m^2 n + 2 m^3) for a matrix with short side m
and long side n. The target is to be ahead of pytorch_optimizer's Muon, which steps same-shaped matrices together.
"""

from __future__ import annotations

import gc
import statistics
from typing import Any

import cyclopts
import torch
from _candidates import REFERENCE, Candidate, Stepper, reference, theirs
from _interleaved import block_length, interleave, spread
from _lists import count, make, matrices_and_rest
from _peers import Peer, installed
from torch import nn
from torch.optim import Optimizer

from sooner.execute import using
from sooner.update import Muon

RIVAL = "p_o Muon"


def ours(list_name: str, executor: str) -> Candidate:
    """Return our Muon under one executor."""

    def build(model: nn.Module) -> Stepper:
        matrices, rest = matrices_and_rest(model, list_name)
        optimizer = Muon([{"params": matrices, "muon": True}, {"params": rest, "muon": False}])

        def step() -> None:
            with using(executor):
                optimizer.step()

        return Stepper(step, [optimizer])

    return Candidate(f"muon [{executor}]", build)


def by_torch(list_name: str) -> Candidate:
    """Return torch.optim.Muon with fused AdamW for the rest."""

    def build(model: nn.Module) -> Stepper:
        matrices, rest = matrices_and_rest(model, list_name)
        both = torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=1e-3, fused=True)
        return Stepper(lambda: [optimizer.step() for optimizer in both], both)

    return Candidate("torch Muon, and fused AdamW", build)


def others(list_name: str) -> list[Peer]:
    """Return the Muon of other packages. heavyball compiles its own for a minute."""

    def grouped(package: Any, model: nn.Module) -> Optimizer:
        matrices, rest = matrices_and_rest(model, list_name)
        groups = [{"params": matrices, "use_muon": True}, {"params": rest, "use_muon": False}]
        made: Optimizer = package.Muon(groups, lr=0.02)
        return made

    def whole(package: Any, model: nn.Module) -> Optimizer:
        made: Optimizer = package.Muon(model.parameters(), lr=0.02)
        return made

    return [
        Peer(RIVAL, "pytorch_optimizer", grouped),
        Peer("timm Muon", "timm", grouped),
        Peer("heavyball Muon (compiled, embeddings too)", "heavyball", whole),
    ]


def operations(model: nn.Module, list_name: str, iterations: int = 5) -> float:
    """Return the floating-point operations of one orthogonalisation of all matrices."""
    sides = [sorted((p.shape[0], p[0].numel())) for p in matrices_and_rest(model, list_name)[0]]
    return float(sum(iterations * (4 * m * m * n + 2 * m**3) for m, n in sides))


def measure(list_name: str, model: nn.Module, candidates: list[Candidate], rounds: int) -> None:
    """Print the table of one list of parameters."""
    work = operations(model, list_name)
    steppers = {c.name: c.build(model) for c in [reference(), *candidates]}
    steps = {name: stepper.step for name, stepper in steppers.items()}
    timed = interleave(steps, rounds, {name: block_length(step) for name, step in steps.items()})
    rival = RIVAL if RIVAL in steps else REFERENCE
    print(f"  {'':44} {'ms':>8} {'ratio to fused AdamW':>26} {'GFLOP/s':>8} {f'ratio to {rival}':>28} {'target':>7}")
    for name in steps:
        seconds = statistics.median(r.wall[name] for r in timed)
        to_reference, to_rival = ([r.wall[name] / r.wall[other] for r in timed] for other in (REFERENCE, rival))
        speed = "" if name == REFERENCE else f"{work / seconds / 1e9:.0f}"
        aim = "< 1.00" if name.startswith("muon ") and rival == RIVAL else ""
        print(
            f"  {name:44} {1e3 * seconds:8.2f} {spread(to_reference):>26} {speed:>8} {spread(to_rival):>28} {aim:>7}",
            flush=True,
        )


def main(
    *,
    lists: tuple[str, ...] = ("small", "gpt2"),
    executors: tuple[str, ...] = ("auto",),
    threads: int | None = None,
    peers: bool = False,
    rounds: int = 3,
) -> None:
    torch.set_num_threads(threads or torch.get_num_threads())
    for name in lists:
        model = make(name)
        matrices, _ = matrices_and_rest(model, name)
        inside, total = (sum(p.numel() for p in matrices) / 1e6, count(model) / 1e6)
        print(
            f"== {name}: {len(matrices)} matrices with {inside:.1f} of {total:.1f} million parameters, "
            f"threads: {torch.get_num_threads()}"
        )
        candidates = [*(ours(name, executor) for executor in executors), by_torch(name)]
        if peers:
            candidates += [theirs(peer) for peer in installed(others(name))]
        measure(name, model, candidates, rounds)
        gc.collect()


if __name__ == "__main__":
    cyclopts.run(main)
