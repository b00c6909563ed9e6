"""Polar factors: for every matrix ``U S V^T`` of a stack its ``U V^T``, by Newton-Schulz iterations or exactly.

    Newton-Schulz:  x <- d / ||d||,   then some times  x <- a x + (b A + c A^2) x  with  A = x x^T
    exactly:        d d^T = Q diag(l) Q^T,   U V^T = Q diag(1 / sqrt(l)) Q^T d

The iteration applies the polynomial a s + b s^3 + c s^5 to every singular value s. Jordan et al., 2024,
https://kellerjordan.github.io/posts/muon/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sooner.part import check_choice, check_range

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Muon's quintic: steep at zero, so small singular values rise fast, at the price of ending in [0.7, 1.2]."""

CHUNK = 2**21
"""Elements that are worked on at a time: 8 MiB in float32, enough to keep a CPU or a GPU busy."""

SAFE_ON_GRAM = 5
"""Iterations on the Gram matrix alone: rounding grows twelvefold in each, and would reach 1 after a few more."""


PRECISIONS = ("float32", "bfloat16", "auto")
"""How to iterate: in the dtype of the state, in bfloat16, or in bfloat16 where the hardware has it."""


def check_iteration(part: str, group: Mapping[str, Any]) -> None:
    """Refuse an iteration that can't be: of a group its ``iterations``, 1 to 100, and ``precision``.

    Raises:
        SoonerError: naming the part and the value.
    """
    check_range(part, "iterations", group["iterations"], 1, 100, whole=True)
    check_choice(part, "precision", group["precision"], PRECISIONS)


def newton_schulz(
    matrices: Tensor,
    iterations: int = 5,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Push the singular values of every matrix towards 1 by a quintic Newton-Schulz iteration.

    Args:
        matrices: stack ``[n, rows, columns]``, floating point.
        iterations: number of iterations, default 5; with Muon's coefficients singular values then lie in [0.7, 1.2],
            except those that started below about 0.002 of the matrix's norm.
        coefficients: (a, b, c) of the polynomial; default Muon's.
        dtype: in which to iterate; default None means that of the matrices.

    Returns:
        A stack of the same shape and dtype.
    """

    def factors(some: Tensor) -> Tensor:
        given, tall = _wide(some)  # [m, short, long]
        norm = torch.linalg.matrix_norm(given, keepdim=True) + 1e-7
        short, long = given.shape[1:]
        # Measured on a CPU: half the time where long = 4 short, a quarter more for squares. The Gram matrix rounds
        # small singular values more coarsely: the factor is up to 5e-4 off in float32, less than the 1e-2 of bfloat16.
        exact = (dtype or given.dtype) in (torch.float32, torch.float64) and dtype in (None, given.dtype)
        if exact and long >= 2 * short and iterations <= SAFE_ON_GRAM:
            x = _iterate_on_gram(given, norm, iterations, coefficients)
        else:
            x = _iterate((given / norm).to(dtype or given.dtype), iterations, coefficients)
        return x.mT if tall else x

    return in_chunks(factors, matrices)


def in_chunks(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """Return what a function makes of a stack ``[n, rows, columns]``, asked for a few matrices at a time.

    What it needs meanwhile is then a few matrices large, not a few copies of the stack.
    """
    length = max(1, CHUNK // max(1, matrices[:1].numel()))
    if length >= len(matrices):
        return function(matrices).to(matrices.dtype)
    done = torch.empty_like(matrices)
    for some, into in zip(torch.split(matrices, length), torch.split(done, length), strict=True):
        into.copy_(function(some))
    return done


def _iterate(x: Tensor, iterations: int, coefficients: tuple[float, float, float]) -> Tensor:
    """Iterate on the matrices, in three buffers: fresh memory at every product costs up to a third of the time."""
    a, b, c = coefficients
    x = x.contiguous()  # a transposed `out` takes a thousand times as long in bfloat16 on a CPU
    spare = torch.empty_like(x)
    gram, polynomial = (x.new_empty(len(x), x.shape[1], x.shape[1]) for _ in range(2))
    for _ in range(iterations):
        torch.bmm(x, x.mT, out=gram)
        torch.baddbmm(gram, gram, gram, beta=b, alpha=c, out=polynomial)
        torch.baddbmm(x, polynomial, x, beta=a, out=spare)
        x, spare = spare, x
    return x


def _iterate_on_gram(given: Tensor, norm: Tensor, iterations: int, coefficients: tuple[float, float, float]) -> Tensor:
    """Iterate on ``A`` and on the product ``q`` of what x is multiplied with, and multiply the long matrix only once.

    With ``p = a + b A + c A^2`` one iteration is  q <- p q,  A <- p A p;  all of these commute and are symmetric. Of
    ``x = given / norm`` no copy is kept meanwhile.
    """
    a, b, c = coefficients
    gram = _gram(given / norm)  # [n, short, short]
    polynomial, spare, q = (torch.empty_like(gram) for _ in range(3))
    q.copy_(torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device))
    for k in range(iterations):
        torch.baddbmm(gram, gram, gram, beta=b, alpha=c, out=polynomial)  # p without its multiple of the identity
        torch.baddbmm(q, polynomial, q, beta=a, out=spare)
        q, spare = spare, q
        if k + 1 < iterations:
            torch.baddbmm(gram, polynomial, gram, beta=a, out=spare)
            torch.baddbmm(spare, spare, polynomial, beta=a, out=gram)
    del gram, polynomial, spare
    return torch.bmm(q, given).div_(norm)


def _gram(x: Tensor) -> Tensor:
    return torch.bmm(x, x.mT)


def polar_factor(matrices: Tensor) -> Tensor:
    """Return the exact polar factor of every matrix, through the eigenvectors of its smaller Gram matrix.

    The Gram matrix squares the condition number, so that of float32 matrices is taken in float64: measured against
    the truth, the result is then as good as that of a singular value decomposition (with a float32 Gram matrix it is
    11 % off on a Gaussian matrix [768, 768] and 57 % where singular values span three decades).

    Args:
        matrices: stack ``[n, rows, columns]``, floating point.

    Returns:
        A stack of the same shape and dtype. Directions in which a matrix is zero up to rounding (singular values below
        eps * longer side of the largest; in float64 below about 1e-7 of it) stay zero; a matrix that holds NaN or
        infinity becomes NaN.
    """
    return in_chunks(_polar, matrices)


def _polar(matrices: Tensor) -> Tensor:
    x, tall = _wide(matrices)
    exact = x if x.device.type == "mps" else x.double()  # MPS has no float64
    gram = torch.bmm(exact, exact.mT)
    finite = gram.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    values, vectors = torch.linalg.eigh(torch.where(finite, gram, 0.0))  # ascending
    short, long = x.shape[1:]
    rounding = max((long * torch.finfo(x.dtype).eps) ** 2, short * torch.finfo(gram.dtype).eps)
    kept = values > rounding * values[..., -1:]
    roots = torch.where(kept, values, 1.0).rsqrt() * kept
    x = torch.where(finite, torch.bmm(vectors * roots[:, None, :], torch.bmm(vectors.mT, exact)), torch.nan)
    return x.mT if tall else x


def _wide(matrices: Tensor) -> tuple[Tensor, bool]:
    """Return the stack with the shorter side first, and whether that took a transposition."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    return (matrices.mT if tall else matrices), tall


def iteration_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype in which to iterate for a `precision`; None means that of the state."""
    half = precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))
    return torch.bfloat16 if half else None


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices in hardware, as far as PyTorch tells."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
