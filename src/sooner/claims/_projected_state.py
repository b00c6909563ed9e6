"""How much state an optimizer keeps for the matrices that it projects to a low rank."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner.workloads import charlm


def projected_state(make: Callable[[nn.Module], Optimizer], width: int) -> dict[str, float]:
    """Take one step on a character GPT of some width and count numbers, not bytes.

    Returns:
        ``state``: numbers kept for the projected matrices over AdamW's two per weight; ``share``: those matrices'
        share of all weights. A matrix is projected where its state has dimensions but is smaller than the matrix.
    """
    model = charlm.GPT(width)
    optimizer = make(model)
    torch.autograd.backward(charlm.loss(model, charlm.batches(0, "train")[0]))
    optimizer.step()
    kept = weights = 0
    for parameter, slots in optimizer.state.items():
        sizes = [t.numel() for name, t in slots.items() if name != "step" and isinstance(t, Tensor)]
        if parameter.ndim == 2 and 1 < max(sizes, default=0) < parameter.numel():
            kept += sum(sizes)
            weights += parameter.numel()
    return {"state": kept / (2 * weights), "share": weights / sum(p.numel() for p in model.parameters())}
