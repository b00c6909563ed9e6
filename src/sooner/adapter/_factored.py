"""Row norms of a weight and a low-rank product, without the product."""

from __future__ import annotations

import torch
from torch import Tensor

SHARE = 16
"""Temporary memory is at most this part of the weight's, or that of one row."""


@torch.no_grad()
def factored_norm(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return ``||W + scale B A||`` of every row, without a gradient, in float32 at least.

        ||w_i + s b_i A||^2 = ||w_i||^2 + 2 s b_i . (A w_i) + s^2 b_i (A A^T) b_i^T,   0 at least

    Args:
        weight: ``W`` ``[out, in]``.
        a: ``A`` ``[rank, in]``.
        b: ``B`` ``[out, rank]``.
        scale: ``s``.

    Returns:
        ``[out]``; of weights of half precision in float32.
    """
    exact = torch.promote_types(torch.promote_types(weight.dtype, b.dtype), torch.float32)
    with torch.autocast(weight.device.type, enabled=False):
        a, b = a.to(exact), b.to(exact)
        gram = a @ a.T  # [rank, rank]
        cast = weight.dtype != exact
        row = (len(a) + (weight.shape[1] if cast else 0)) * exact.itemsize
        rows = max(1, weight.numel() * weight.element_size() // SHARE // max(row, 1))
        found = []
        for w, factor in zip(weight.split(rows), b.split(rows), strict=True):  # type: ignore[no-untyped-call]
            w = w.to(exact)
            inner = torch.addmm(w @ a.T, factor, gram, alpha=scale / 2)  # [rows, rank]
            found.append(torch.linalg.vector_norm(w, dim=1).square() + 2 * scale * (inner * factor).sum(1))
        return torch.cat(found).clamp(min=0).sqrt()
