"""How much memory the optimizers keep for GPT-2 small, in all and on the matrices that they project.

    python benchmarks/state_bytes.py [--recipes "adamw; apollo"]

Counted after one step. A matrix is projected when its state has dimensions but is smaller than the matrix; the column
"to AdamW" is the state on those matrices over what AdamW keeps there (8 bytes per parameter in float32). Nothing is
timed.
"""

from __future__ import annotations

import gc

import cyclopts
import torch
from _candidates import ours
from _lists import count, make
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner import part
from sooner.error import SoonerError

LARGEST_MINI = 0.02
"""Target for APOLLO-mini, relative to AdamW on the same matrices."""

LOW_BITS = ("adamw(state_bits=8)", "adamw(state_bits=4)", "muon(state_bits=8)")
"""Recipes whose state rests in few bits, beside the parts as they are."""


def bytes_of(tensors: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def projected(optimizer: Optimizer) -> list[tuple[Tensor, list[Tensor]]]:
    """Return every matrix whose state is more than a number but smaller than itself, with that state."""
    kept = [
        (p, [t for name, t in state.items() if name != "step" and isinstance(t, Tensor)])
        for p, state in optimizer.state.items()
        if p.ndim >= 2
    ]
    full = [(p, state) for p, state in kept if not any(t.dtype == torch.uint8 for t in state)]
    return [(p, state) for p, state in full if 1 < max((t.numel() for t in state), default=0) < p.numel()]


def report(text: str, model: nn.Module) -> None:
    """Print the row of one recipe."""
    stepper = ours(text, "eager").build(model)
    stepper.step()
    small = [both for optimizer in stepper.optimizers for both in projected(optimizer)]
    number = sum(p.numel() for p, _ in small)
    ratio = f"{sum(bytes_of(state) for _, state in small) / (8 * number):.4f}" if number else ""
    aim = f"<= {LARGEST_MINI}" if ratio and text.startswith("apollo") and ("mini" in text or "rank=1" in text) else ""
    total = stepper.state_bytes()
    print(
        f"  {text:36} {total / 2**20:8.0f} {total / count(model):8.2f} {number / 1e6:12.1f} {ratio:>10} {aim:>8}",
        flush=True,
    )


def main(*, recipes: str = "") -> None:
    methods = [name for name, station in part.names().items() if station == "update"]
    texts = recipes.split(";") if recipes else [*methods, *LOW_BITS]
    model = make("gpt2")
    print(f"GPT-2 small, {count(model) / 1e6:.1f} million parameters, float32")
    print(f"  {'':36} {'MiB':>8} {'B/param':>8} {'M projected':>12} {'to AdamW':>10} {'target':>8}")
    for text in texts:
        try:
            report(text.strip(), model)
        except SoonerError as error:
            print(f"  left out: {text.strip()}: {error}")
        gc.collect()


if __name__ == "__main__":
    cyclopts.run(main)
