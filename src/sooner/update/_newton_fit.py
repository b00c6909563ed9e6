"""Coefficients of the Newton-Schulz iteration, fitted to the singular values that matrices of one shape have.

    minimise over (a, b, c)  mean over s of (p(p(...p(s))) - 1)^2,   p(s) = a s + b s^3 + c s^5

s runs over the singular values of random Gaussian matrices of the shape, divided by their norm. These need no matrix:
they have the law of a bidiagonal matrix with chi-distributed entries, whose squares come from a tridiagonal eigenvalue
problem (Dumitriu and Edelman, 2002, math-ph/0206043). A fit takes about a twentieth of a second.

Coefficients by shape: He et al., 2025, arXiv 2511.20626. How to fit them is ours: only four sets were published.
"""

from __future__ import annotations

import functools

import numpy as np

from sooner.update._orthogonal import COEFFICIENTS

Coefficients = tuple[float, float, float]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]

PUBLISHED: dict[tuple[int, int], Coefficients] = {
    (2048, 2048): (3.4916, -4.8224, 2.1095),
    (2048, 3072): (3.4509, -4.5790, 1.9325),
    (2048, 8192): (2.9794, -3.6674, 1.6207),
    (2048, 16384): (3.1943, -3.8221, 1.5322),
}
"""The authors' coefficients for five iterations, by (shorter, longer) side."""

STARTS: tuple[Coefficients, ...] = (COEFFICIENTS, PUBLISHED[2048, 8192], (1.875, -1.25, 0.375))
"""Where the search starts: Muon's quintic, a published one for long matrices, and the one that is flat at 1."""

SAMPLES = 512
HIGHEST = 1.25


@functools.cache
def coefficients(short: int, long: int, iterations: int = 5) -> Coefficients:
    """Return the coefficients for matrices with these sides: published ones, else fitted once per process.

    The fit is the same in every process. Gradients are no Gaussian matrices, and what fits these might send a singular
    value of 1 (a matrix of rank one) to infinity: coefficients that lead out of [0, 1.25] from anywhere in [0, 1] are
    penalised.

    Args:
        short, long: the sides, in any order.
        iterations: how often the polynomial is applied.
    """
    short, long = sorted((short, long))
    if iterations == 5 and (short, long) in PUBLISHED:
        return PUBLISHED[short, long]
    from scipy.optimize import minimize  # here, because importing it takes longer than most of sooner

    values = gaussian_singular_values(short, long)
    everywhere = np.linspace(0.0, 1.0, 201)
    points = np.concatenate([values, everywhere])

    def error(candidate: Vector) -> float:
        after = _iterated(points, candidate, iterations)
        outside = after[len(values) :]
        penalty = np.maximum(outside - HIGHEST, 0) ** 2 + np.maximum(-outside, 0) ** 2
        return float(np.mean((after[: len(values)] - 1) ** 2) + 10 * np.mean(penalty))

    fits = [
        minimize(error, start, method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-6, "fatol": 1e-10})
        for start in STARTS
    ]
    a, b, c = (round(float(number), 4) for number in min(fits, key=lambda fit: float(fit.fun)).x)
    return a, b, c


def gaussian_singular_values(short: int, long: int) -> Vector:
    """Return at most 512 singular values, ascending, of Gaussian matrices of a shape, divided by the matrix's norm.

    Small matrices are drawn until there are 512 values, of large ones every so many is taken; the seed is fixed.
    """
    generator = np.random.default_rng(0)
    found = np.concatenate([_singular_values(short, long, generator) for _ in range(-(-SAMPLES // short))])
    places = np.linspace(0, len(found) - 1, min(SAMPLES, len(found))).round().astype(int)
    values: Vector = np.sort(found)[places]
    return values


def _singular_values(short: int, long: int, generator: np.random.Generator) -> Vector:
    from scipy.linalg import eigvalsh_tridiagonal

    diagonal = generator.chisquare(long - np.arange(short))  # squares of the lower bidiagonal matrix B
    below = generator.chisquare(np.arange(short - 1, 0, -1)) if short > 1 else np.zeros(0)
    product = diagonal + np.append(0.0, below)  # diagonal of B B^T
    squares = eigvalsh_tridiagonal(product, np.sqrt(diagonal[:-1] * below)) if short > 1 else product
    values: Vector = np.sqrt(np.maximum(squares, 0.0) / product.sum())
    return values


def _iterated(s: Vector, candidate: Vector, iterations: int) -> Vector:
    a, b, c = candidate
    for _ in range(iterations):
        square = s * s
        s = np.clip(s * (a + square * (b + square * c)), -10.0, 10.0)
    return s
