"""The expected error of kernel and random-feature regression from the kernel's spectrum, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from sooner.error import SoonerError
from sooner.forecast.table import FloatArray

_LOW, _HIGH = -700.0, 700.0


@dataclass(frozen=True)
class Risk:
    """Expected squared errors.

    Args:
        test: on new inputs, the noise included.
        train: on the training inputs.
        learned: (m,) share of each mode that is learned.
        kappa: the effective ridge; 0 where fewer features than samples fit without one.
    """

    test: float
    train: float
    learned: FloatArray
    kappa: float


def kernel_risk(
    eigenvalues: FloatArray,
    coefficients: FloatArray,
    samples: float,
    *,
    features: float = np.inf,
    ridge: float = 0.0,
    noise: float = 0.0,
) -> Risk:
    """Return the errors of ridge regression on a kernel, or on random features drawn from it.

    Simon et al., 2023, arXiv 2311.14646, eqs. 4 to 7. With L_i = lambda_i / (lambda_i + gamma), z = sum L_i and
    q = sum L_i^2: kappa = gamma (k - z) / k and n = z + ridge / kappa for k features; kappa = gamma for the kernel.
    Test error: [sum (gamma / (lambda_i + gamma) - kappa lambda_i / (lambda_i + gamma)^2 k / (k - q)) v_i^2 + noise]
    / [1 - (q (k - 2 z) + z^2) / (n (k - q))]. Training error: (ridge / (n kappa))^2 of it.

    Args:
        eigenvalues: (m,) of the kernel, falling.
        coefficients: (m,) of the target in the eigenfunctions.
        samples: n.
        features: k; infinite for the kernel itself.
        ridge: of the sum of squares.
        noise: variance of the labels' noise.

    Raises:
        SoonerError: negative numbers, lengths that differ, or no ridge with as many samples as modes or features.
    """
    if eigenvalues.shape != coefficients.shape:
        raise SoonerError(f"{eigenvalues.shape} eigenvalues and {coefficients.shape} coefficients; give one for each")
    if not (samples > 0 and features > 0 and ridge >= 0 and noise >= 0 and (eigenvalues > 0).all()):
        raise SoonerError(
            f"samples {samples:g}, features {features:g}, ridge {ridge:g}, noise {noise:g}: samples, features and all "
            "eigenvalues must be positive, ridge and noise not negative"
        )
    if ridge == 0 and min(samples, features) >= len(eigenvalues):
        raise SoonerError(
            f"without a ridge, {samples:g} samples and {features:g} features determine all {len(eigenvalues)} modes: "
            "give more modes, or a ridge"
        )
    gamma = _gamma(eigenvalues, samples, features, ridge)
    learned = eigenvalues / (eigenvalues + gamma)
    z, q = float(learned.sum()), float((learned**2).sum())
    spread = learned / (eigenvalues + gamma)
    if np.isinf(features):
        kappa, share = gamma, q
        missed = 1 - learned - gamma * spread
    else:
        kappa = gamma * max(features - z, 0.0) / features
        share = (q * (features - 2 * z) + z**2) / (features - q)
        missed = 1 - learned - kappa * spread * features / (features - q)
    test = (float(missed @ coefficients**2) + noise) / (1 - share / samples)
    return Risk(test, (1 - z / samples) ** 2 * test, learned, kappa)


def best_ridge(
    eigenvalues: FloatArray, coefficients: FloatArray, samples: float, *, features: float = np.inf, noise: float = 0.0
) -> tuple[float, Risk]:
    """Return the ridge with the lowest test error, searched over its logarithm, and the errors there."""
    top = float(np.log(eigenvalues.sum()))

    def error(log_ridge: float) -> float:
        return kernel_risk(
            eigenvalues, coefficients, samples, features=features, ridge=float(np.exp(log_ridge)), noise=noise
        ).test

    grid = np.linspace(top - 30, top + 10, 41)
    start = int(np.argmin([error(one) for one in grid]))
    ends = (grid[max(start - 1, 0)], grid[min(start + 1, len(grid) - 1)])
    found = minimize_scalar(error, bounds=ends, method="bounded", options={"xatol": 1e-4})
    ridge = float(np.exp(found.x))
    return ridge, kernel_risk(eigenvalues, coefficients, samples, features=features, ridge=ridge, noise=noise)


def _gamma(eigenvalues: FloatArray, samples: float, features: float, ridge: float) -> float:
    def gap(log_gamma: float) -> float:
        gamma = float(np.exp(log_gamma))
        z = float((eigenvalues / (eigenvalues + gamma)).sum())
        if ridge == 0:
            return min(samples, features) - z
        if z >= min(samples, features):
            return -1.0
        kappa = gamma if np.isinf(features) else gamma * (features - z) / features
        return samples - z - ridge / kappa

    return float(np.exp(brentq(gap, _LOW, _HIGH, xtol=1e-13)))
