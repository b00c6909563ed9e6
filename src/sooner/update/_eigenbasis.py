"""Eigenvectors of the second moments of a gradient's rows or columns, kept up to date by power iteration.

    first:       G G^T = Q diag(l) Q^T,  largest l first
    from then:   Q <- QR(L Q),  after the columns of Q were sorted by  diag(Q^T L Q),  largest first

L is a running mean of G G^T. Vyas et al., 2024, arXiv 2409.11321, algorithm 4.
"""

from __future__ import annotations

import torch
from torch import Tensor


def first_basis(matrices: Tensor) -> Tensor:
    """Return an orthonormal basis of the rows of every matrix, the eigenvectors of ``G G^T``, largest first.

    Where a matrix has fewer columns than rows, or no full rank, eigenvectors of eigenvalue zero can be chosen at will,
    and a library's choice depends on rounding, hence on the machine and on what else is computed beside. They are
    made of unit vectors here, those least covered by the other eigenvectors first: so much of the weight's own
    coordinates stays, and a run repeats elsewhere up to rounding.

    Args:
        matrices: ``[m, rows, columns]``.

    Returns:
        ``[m, rows, rows]``; NaN for a matrix that holds NaN or infinity.
    """
    exact = matrices if matrices.device.type == "mps" else matrices.double()  # MPS has no float64
    rows, columns = exact.shape[1:]
    gram = exact.mT @ exact if columns < rows else exact @ exact.mT  # the smaller one has all that is not zero
    finite = gram.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    values, vectors = torch.linalg.eigh(torch.where(finite, gram, 0.0))
    values, vectors = values.flip(-1), vectors.flip(-1)  # [m, short], [m, short, short]
    reached = values > rows * torch.finfo(gram.dtype).eps * values[..., :1]  # true up to the rank
    if columns < rows:
        vectors = exact @ (vectors * torch.where(reached, values, 1.0).rsqrt()[:, None, :])
        spare = rows - columns
        vectors, reached = torch.nn.functional.pad(vectors, (0, spare)), torch.nn.functional.pad(reached, (0, spare))
    least_covered = (vectors.square() * reached[:, None, :]).sum(-1).argsort(dim=-1, stable=True)
    place = torch.arange(rows, device=gram.device) - reached.sum(-1, keepdim=True)
    unit = torch.nn.functional.one_hot(least_covered.gather(-1, place.clamp(min=0)), rows).mT.to(gram.dtype)
    basis = torch.linalg.qr(torch.where(reached[:, None, :], vectors, unit).to(matrices.dtype)).Q
    return torch.where(finite, basis, torch.nan)


def refreshed_basis(moment: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return a basis after one power iteration, and which of the old columns became each of the new ones.

    Args:
        moment: ``[m, side, side]``, symmetric.
        basis: ``[m, side, side]``, orthonormal columns.

    Returns:
        The new basis, and ``[m, side]`` numbers of old columns.
    """
    order = (basis * (moment @ basis)).sum(-2).argsort(dim=-1, descending=True, stable=True)
    return power_iteration(moment, basis.gather(-1, order[:, None, :].expand_as(basis))), order


def power_iteration(moment: Tensor, basis: Tensor) -> Tensor:
    """Return ``QR(moment basis)``, both ``[m, side, side]``; the columns keep their places."""
    new: Tensor = torch.linalg.qr(moment @ basis).Q
    return new


def into_basis(matrices: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``Q_L^T G Q_R`` of matrices ``[m, rows, columns]``; an empty basis leaves its side as it is."""
    left = rows.mT @ matrices if rows.numel() else matrices
    return left @ columns if columns.numel() else left


def out_of_basis(matrices: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``Q_L G Q_R^T`` of matrices ``[m, rows, columns]``; an empty basis leaves its side as it is."""
    left = rows @ matrices if rows.numel() else matrices
    return left @ columns.mT if columns.numel() else left
