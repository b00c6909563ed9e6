"""How curved the loss of a batch is: extreme Hessian eigenvalues by Lanczos, and how they fall with the batch size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.part import check_range


def lanczos(
    closure: Callable[[], Tensor], parameters: Iterable[Tensor], iterations: int = 20, seed: int = 0
) -> tuple[float, float]:
    """Return estimates of the smallest and the largest eigenvalue of the Hessian of a loss.

    Lanczos iteration with full re-orthogonalisation (each new vector twice), from a random start. Both estimates lie
    between the true extremes; with as many iterations as parameters they are exact. Memory: one vector of all
    parameters per iteration; time: about two gradients per iteration.

    Args:
        closure: returns the loss of one batch, with its graph; called once. Dropout and batch normalisation in training
            mode make another Hessian of it.
        parameters: what to differentiate by.
        iterations: number of Hessian-vector products, at least 1, default 20.
        seed: of the start vector.

    Raises:
        SoonerError: no parameters, or a loss or curvature that is not finite.
    """
    check_range("lanczos", "iterations", iterations, 1, math.inf, whole=True)
    chosen = [p for p in parameters if p.requires_grad]
    if not chosen:
        raise SoonerError("lanczos: there are no parameters that require gradients; pass model.parameters()")
    with torch.enable_grad():
        slopes = torch.autograd.grad(closure(), chosen, create_graph=True, materialize_grads=True)
    curved = [s for s in slopes if s.requires_grad]
    if not curved:
        return 0.0, 0.0  # the loss is linear in every parameter
    home = curved[0].device
    dtype = torch.float32 if home.type == "mps" else torch.float64
    count = sum(p.numel() for p in chosen)
    start = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis = [(start / torch.linalg.vector_norm(start)).to(home, dtype)]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(iterations, count)):
        image = _product(slopes, chosen, basis[-1])
        diagonal.append(float(image @ basis[-1]))
        for _ in range(2):
            for vector in basis:
                image = image - (image @ vector) * vector
        length = float(torch.linalg.vector_norm(image))
        if not (math.isfinite(length) and math.isfinite(diagonal[-1])):
            raise SoonerError("lanczos: the curvature is not finite; probe a model whose loss and gradients are finite")
        if length <= 1e-10 * max(map(abs, diagonal)):
            break  # the start vector's part of the space is exhausted: the estimates are exact in it
        beside.append(length)
        basis.append(image / length)
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for i, value in enumerate(beside[: len(diagonal) - 1]):
        tridiagonal[i, i + 1] = tridiagonal[i + 1, i] = value
    values = torch.linalg.eigvalsh(tridiagonal)
    return float(values[0]), float(values[-1])


def _product(slopes: Sequence[Tensor], parameters: Sequence[Tensor], vector: Tensor) -> Tensor:
    """Return the Hessian times ``vector [P]``, in the vector's dtype."""
    parts = torch.split(vector, [p.numel() for p in parameters])
    pairs = [(s, v.view_as(s).to(s.dtype)) for s, v in zip(slopes, parts, strict=True) if s.requires_grad]
    outputs, weights = zip(*pairs, strict=True)
    found = torch.autograd.grad(outputs, parameters, weights, retain_graph=True, materialize_grads=True)
    return torch.cat([f.detach().reshape(-1).to(vector.dtype) for f in found])


@dataclass(frozen=True)
class Curvature:
    """The largest Hessian eigenvalue of a batch of size B, modelled as ``full + noise / B``.

    Attributes:
        full: the eigenvalue for all data, at least 0.
        noise: the part that batches add, times their size, at least 0.
        r_squared: share of the measured variation that the model explains, at most 1.
    """

    full: float
    noise: float
    r_squared: float

    def at(self, batch: int) -> float:
        """Return the eigenvalue for batches of this size."""
        return self.full + self.noise / batch

    @property
    def saturation(self) -> float:
        """The batch size at which noise and data contribute equally; beyond it larger batches gain little."""
        return self.noise / self.full if self.full > 0 else math.inf

    def limit(self, batch: int, momentum: float = 0.0, safety: float = 0.5) -> float:
        """Return the largest stable learning rate of gradient descent, ``safety * 2 * (1 + momentum) / eigenvalue``."""
        check_range("curvature", "momentum", momentum, 0.0, 1.0, open_high=True)
        check_range("curvature", "safety", safety, 0.0, 1.0)
        curvature = self.at(batch)
        return safety * 2 * (1 + momentum) / curvature if curvature > 0 else math.inf


def fit_curvature(batches: Sequence[int], eigenvalues: Sequence[float]) -> Curvature:
    """Fit ``full + noise / B`` to measured largest eigenvalues by least squares, both terms kept at 0 or above.

    Args:
        batches: batch sizes, at least two different ones.
        eigenvalues: the largest eigenvalue of the Hessian at each.

    Raises:
        SoonerError: fewer than two different batch sizes, or an eigenvalue that is not finite.
    """
    if len(batches) != len(eigenvalues) or len(set(batches)) < 2:
        raise SoonerError(
            f"a curvature fit got batches {list(batches)} and {len(eigenvalues)} eigenvalues; "
            "measure one at each of at least two different batch sizes"
        )
    for batch, value in zip(batches, eigenvalues, strict=True):
        check_range("curvature fit", "batch", batch, 1, math.inf, whole=True)
        if not math.isfinite(value):
            raise SoonerError(f"a curvature fit got the eigenvalue {value!r} at batch {batch}; probe a finite model")
    count, inverse = len(batches), [1 / b for b in batches]
    mean_inverse, mean = math.fsum(inverse) / count, math.fsum(eigenvalues) / count
    spread = math.fsum((x - mean_inverse) ** 2 for x in inverse)
    noise = math.fsum((x - mean_inverse) * (y - mean) for x, y in zip(inverse, eigenvalues, strict=True)) / spread
    full = mean - noise * mean_inverse
    if noise < 0:
        full, noise = max(0.0, mean), 0.0
    elif full < 0:
        squares = math.fsum(x * x for x in inverse)
        full, noise = 0.0, max(0.0, math.fsum(x * y for x, y in zip(inverse, eigenvalues, strict=True)) / squares)
    left = math.fsum((y - full - noise * x) ** 2 for x, y in zip(inverse, eigenvalues, strict=True))
    total = math.fsum((y - mean) ** 2 for y in eigenvalues)
    return Curvature(full, noise, 1.0 - left / total if total > 0 else 1.0)


def measure_curvature(
    loss: Callable[[int], Tensor],
    parameters: Iterable[Tensor],
    batches: Sequence[int],
    iterations: int = 20,
    seed: int = 0,
) -> Curvature:
    """Measure the largest eigenvalue at several batch sizes and fit its dependence on the size.

    Args:
        loss: ``loss(batch)`` returns the mean loss of a batch of that size, with its graph.
        parameters: what to differentiate by.
        batches: batch sizes to measure at; list one several times to average over batches.
        iterations: Hessian-vector products per batch, default 20.
        seed: of the start vectors.

    Raises:
        SoonerError: as `lanczos` and `fit_curvature` do.
    """
    chosen = list(parameters)
    largest = [lanczos(lambda size=size: loss(size), chosen, iterations, seed)[1] for size in batches]  # type: ignore[misc]
    return fit_curvature(batches, largest)
