"""What one step of every update part costs with the present executor, as a ratio to torch.optim.AdamW(fused=True).

    python benchmarks/update_step.py [--recipes "adamw; muon"] [--rounds 7] [--lists small] [--lists large]

All candidates step the same parameters with the same constant gradients, in turn, on one thread, in one process. The
ratio is per round. "limit" is the ratio that would be left if the memory's bandwidth were the only cost: the bytes that
the method must move (gradient in, parameter and state in and out) over the bandwidth of an in-place multiplication of
as much memory, timed in the same rounds. Muon is bound by arithmetic, so its limit is no aim.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import cyclopts
import torch
from _interleaved import interleave, spread
from torch import nn

from sooner.recipe import Recipe

REFERENCE = "torch.optim.AdamW(lr=1e-3, fused=True)"
PARTS = "sgd; adamw; adabelief; muon; normalized_gd"
TORCH = "torch.optim.AdamW(lr=1e-3); torch.optim.SGD(lr=0.1, momentum=0.9)"
BLOCK_SECONDS = 0.1


def small() -> nn.Module:
    """150 tensors with about 1 million parameters: 37 square layers with biases, and normalisation between them."""
    layers = [layer for _ in range(37) for layer in (nn.LayerNorm(160), nn.Linear(160, 160))]
    return nn.Sequential(*layers, nn.LayerNorm(160))


def large() -> nn.Module:
    """60 tensors with about 32 million parameters, too many for any cache."""
    return nn.Sequential(*(nn.Linear(*((256, 4096) if i % 2 else (4096, 256))) for i in range(30)))


LISTS: dict[str, Callable[[], nn.Module]] = {"small": small, "large": large}


def measure(model: nn.Module, recipes: list[str], rounds: int) -> None:
    """Print the table of one list of parameters."""
    parameters = list(model.parameters())
    count = sum(p.numel() for p in parameters)
    for p in parameters:
        p.grad = torch.full_like(p, 1e-3)
    trainings = {text: Recipe(text).build(model, steps=1000) for text in [REFERENCE, *recipes]}
    memory = torch.ones(4 * count)  # what AdamW touches: parameters, gradients and two moments
    candidates: dict[str, Callable[[], object]] = {text: training.step for text, training in trainings.items()}
    candidates["memory"] = lambda: memory.mul_(1.0)
    calls = {name: _calls(candidate) for name, candidate in candidates.items()}
    print(f"{len(parameters)} tensors, {count / 1e6:.2f} million parameters, float32")
    timed = interleave(candidates, rounds, calls)
    seconds = {name: statistics.median(r.wall[name] for r in timed) for name in candidates}
    bandwidth = 8 * memory.numel() / seconds["memory"]
    print(f"  bandwidth {bandwidth / 1e9:.1f} GB/s (in-place multiplication of {4 * memory.numel() / 2**20:.0f} MiB)")
    print(f"  {'':44} {'ms':>8} {'ratio to fused AdamW':>24} {'limit':>6} {'state B/param':>13}")
    for name, training in trainings.items():
        ratio = spread([r.wall[name] / r.wall[REFERENCE] for r in timed])
        state = training.state_bytes() / count
        limit = (12 + 2 * state) * count / bandwidth / seconds[REFERENCE]
        print(f"  {name:44} {1e3 * seconds[name]:8.2f} {ratio:>24} {limit:6.2f} {state:13.1f}")


def _calls(candidate: Callable[[], object]) -> int:
    candidate()  # the first call makes the state
    started = time.perf_counter()
    candidate()
    return max(1, round(BLOCK_SECONDS / (time.perf_counter() - started)))


def main(*, recipes: str = f"{PARTS}; {TORCH}", rounds: int = 7, lists: tuple[str, ...] = ("small", "large")) -> None:
    torch.set_num_threads(1)
    for name in lists:
        torch.manual_seed(0)
        measure(LISTS[name](), [text.strip() for text in recipes.split(";")], rounds)
        gc.collect()  # the large list's state is gigabytes


if __name__ == "__main__":
    cyclopts.run(main)
