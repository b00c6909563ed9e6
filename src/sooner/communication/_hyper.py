"""What the parts of FedHyper share: the inner product that moves a rate."""

from __future__ import annotations

from torch import Tensor


def agreement(a: Tensor, b: Tensor, cosine: bool) -> Tensor:
    """Return (..., 1): the inner products of ``a`` and ``b`` (..., d), or a tenth of their cosines."""
    product: Tensor = (a * b).sum(-1, keepdim=True)
    if cosine:
        lengths: Tensor = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
        product = 0.1 * product / lengths.clamp(min=1e-30)
    return product
