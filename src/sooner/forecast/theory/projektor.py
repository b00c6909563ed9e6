"""The performance of a mixture of data sources, from small pilots and the transport distance to the validation data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import LinearConstraint, linear_sum_assignment, minimize
from scipy.special import logsumexp

from sooner.error import SoonerError
from sooner.forecast.table import FloatArray


def transport_distance(
    first: FloatArray, second: FloatArray, *, regularisation: float = 0.0, rounds: int = 500
) -> float:
    """Return the optimal-transport cost between two samples, of squared distances between their features.

    Exact by assignment where the samples are of one size and no regularisation is asked for, else by Sinkhorn's
    iteration in logarithms.

    Args:
        first: (n, d) features; append a scaled one-hot label for a distance that minds classes.
        second: (m, d) features.
        regularisation: of the entropy, relative to the mean cost; 0 for exact, 0.02 where the sizes differ.
        rounds: of Sinkhorn's iteration, at most.

    Raises:
        SoonerError: features that differ in number, or an empty sample.
    """
    if not (len(first) and len(second)) or first.shape[1] != second.shape[1]:
        raise SoonerError(f"the samples are {first.shape} and {second.shape}; give both rows, and the same features")
    cost = np.maximum((first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T, 0.0)
    if regularisation == 0 and len(first) == len(second):
        rows, columns = linear_sum_assignment(cost)
        return float(cost[rows, columns].mean())
    strength = (regularisation or 0.02) * max(float(cost.mean()), 1e-300)
    kernel = -cost / strength
    left, right = np.zeros(len(first)), np.zeros(len(second))
    log_n, log_m = np.log(len(first)), np.log(len(second))
    for _ in range(rounds):
        before = left
        left = -log_n - logsumexp(kernel + right[None], axis=1)
        right = -log_m - logsumexp(kernel + left[:, None], axis=0)
        if np.abs(left - before).max() < 1e-9:
            break
    plan = np.exp(kernel + left[:, None] + right[None])
    return float((plan * cost).sum())


@dataclass(frozen=True)
class Projektor:
    """Performance over mixtures at two pilot sizes, and between and beyond them by a line in the logarithm of the size.

    Args:
        sizes: (N0, N1) examples of the pilots.
        weights: (2, 4 m + 2) coefficients at each size.
        sources: m.
    """

    sizes: tuple[float, float]
    weights: FloatArray
    sources: int

    def at(self, mixtures: FloatArray, distances: FloatArray, size: float) -> FloatArray:
        """Return (n,) performances of mixtures (n, m) with transport distances (n,) at a size."""
        low, high = (_design(mixtures, distances) @ self.weights.T).T
        first, second = (np.log(one) for one in self.sizes)
        place = (np.log(size) - first) / (second - first)
        made: FloatArray = low + place * (high - low)
        return made


def fit_projektor(
    sizes: tuple[float, float],
    mixtures: tuple[FloatArray, FloatArray],
    distances: tuple[FloatArray, FloatArray],
    performance: tuple[FloatArray, FloatArray],
    *,
    ridge: float = 1e-6,
) -> Projektor:
    """Fit the performance of pilots at two sizes: pseudo-quadratic in the mixture, with and without the distance.

    Kang et al., 2023, arXiv 2307.02460, eqs. 4 and 6: perf = sum_i (b2 p_i^2 + b1 p_i + b0) OT + sum_i (c2 p_i^2 +
    c1 p_i + c0), and a line through both sizes in log N.

    Args:
        sizes: (N0, N1), rising.
        mixtures: per size, (n, m) shares of the sources.
        distances: per size, (n,) transport distances to the validation data.
        performance: per size, (n,) measured.
        ridge: of the least squares, relative; there are often fewer pilots than coefficients.

    Raises:
        SoonerError: sizes that do not rise, mixtures that do not sum to one, or no pilots.
    """
    if not 0 < sizes[0] < sizes[1]:
        raise SoonerError(f"the pilot sizes are {sizes[0]:g} and {sizes[1]:g}; the second must be the larger one")
    weights = []
    for mixture, distance, measured in zip(mixtures, distances, performance, strict=True):
        if not len(mixture) or not np.allclose(mixture.sum(axis=1), 1.0, atol=1e-6) or (mixture < 0).any():
            raise SoonerError("mixtures are rows of shares that are not negative and sum to one; normalise them")
        design = _design(mixture, distance)
        scale = np.maximum(np.abs(design).max(axis=0), 1e-300)
        scaled = design / scale
        normal = scaled.T @ scaled + ridge * np.eye(scaled.shape[1])
        weights.append(np.linalg.solve(normal, scaled.T @ measured) / scale)
    return Projektor(sizes, np.stack(weights), mixtures[0].shape[1])


def best_mixture(
    fitted: Projektor, sources: list[FloatArray], target: FloatArray, size: float
) -> tuple[FloatArray, float]:
    """Return the mixture (m,) with the highest predicted performance at a size, and that performance.

    The distance of a mixture is taken as the mixture of the sources' distances, an upper bound that is linear in it.

    Args:
        fitted: from pilots.
        sources: m samples of features (n_i, d).
        target: (n, d) features of the validation data.
        size: examples to train on.

    Raises:
        SoonerError: another number of sources than was fitted.
    """
    if len(sources) != fitted.sources:
        raise SoonerError(f"{len(sources)} sources are given and {fitted.sources} were fitted; give the same")
    apart = np.array([transport_distance(one, target, regularisation=0.02) for one in sources])

    def loss(shares: FloatArray) -> float:
        return -float(fitted.at(shares[None], np.array([float(shares @ apart)]), size)[0])

    starts = [np.full(len(sources), 1 / len(sources)), *np.eye(len(sources))]
    limits = LinearConstraint(np.ones((1, len(sources))), 1.0, 1.0)
    box = [(0.0, 1.0)] * len(sources)
    found = [minimize(loss, start, method="SLSQP", bounds=box, constraints=[limits]) for start in starts]
    best = min(found, key=lambda one: float(one.fun))
    shares = np.clip(best.x, 0, 1)
    return shares / shares.sum(), -float(best.fun)


def _design(mixtures: FloatArray, distances: FloatArray) -> FloatArray:
    columns = np.concatenate([mixtures**2, mixtures, np.ones((len(mixtures), 1))], axis=1)
    return np.concatenate([columns * np.asarray(distances)[:, None], columns], axis=1)
