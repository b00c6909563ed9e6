"""The gradient noise scale, the critical batch size, and the learning rate that goes with a batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fitted import LEVEL
from sooner.forecast.table import FloatArray


@dataclass(frozen=True)
class NoiseScale:
    """B_simple = tr(Sigma) / |G|^2, in examples.

    Args:
        value: ratio of the means over steps.
        low: lower end of its band.
        high: upper end; infinite where |G|^2 is not surely above zero.
        gradient: |G|^2.
        noise: tr(Sigma) of one example.
    """

    value: float
    low: float
    high: float
    gradient: float
    noise: float


def noise_scale(
    small: FloatArray,
    large: FloatArray,
    small_batch: float,
    large_batch: float,
    *,
    level: float = LEVEL,
    draws: int = 1000,
    seed: int = 0,
) -> NoiseScale:
    """Return the gradient noise scale from squared gradient norms at two batch sizes.

    McCandlish et al., 2018, arXiv 1812.06162, appendix A.1: |G|^2 = (B_b |G_b|^2 - B_s |G_s|^2) / (B_b - B_s),
    tr Sigma = (|G_s|^2 - |G_b|^2) / (1 / B_s - 1 / B_b). Both are unbiased and noisy, so they are averaged over steps
    before the ratio is taken.

    Args:
        small: (steps,) squared gradient norms of the small batch, such as of one worker.
        large: (steps,) of the large batch, such as after the mean over workers.
        small_batch: examples in it.
        large_batch: examples in it.
        level: of the band, by a bootstrap over steps.
        draws: resamples.
        seed: of the resampling.

    Raises:
        SoonerError: batch sizes in the wrong order, or no steps.
    """
    if not 0 < small_batch < large_batch:
        raise SoonerError(f"the batches are {small_batch:g} and {large_batch:g}; the second must be the larger one")
    if len(small) != len(large) or not len(small):
        raise SoonerError(f"there are {len(small)} and {len(large)} norms; give one of each per step")
    gradient = (large_batch * large - small_batch * small) / (large_batch - small_batch)
    noise = (small - large) / (1 / small_batch - 1 / large_batch)
    picks = np.random.default_rng(seed).integers(len(small), size=(draws, len(small)))
    below, above = gradient[picks].mean(axis=1), noise[picks].mean(axis=1)
    ratios = np.where(below > 0, np.maximum(above, 0.0) / np.where(below > 0, below, 1.0), np.inf)
    # infinite ratios are ordered last; interpolating between two of them would give no number
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    mean = float(gradient.mean())
    value = max(float(noise.mean()), 0.0) / mean if mean > 0 else float("inf")
    return NoiseScale(value, float(low), float(high), mean, float(noise.mean()))


@dataclass(frozen=True)
class CriticalBatch:
    """(S / S_min - 1) (E / E_min - 1) = 1.

    Args:
        batch: B_crit = E_min / S_min, in examples.
        fewest_steps: S_min.
        fewest_examples: E_min.
    """

    batch: float
    fewest_steps: float
    fewest_examples: float

    def steps(self, batch: FloatArray) -> FloatArray:
        """Return (n,) steps at batch sizes (n,)."""
        return self.fewest_steps * (1 + self.batch / np.asarray(batch, dtype=np.float64))

    def examples(self, batch: FloatArray) -> FloatArray:
        """Return (n,) examples at batch sizes (n,)."""
        return self.fewest_examples * (1 + np.asarray(batch, dtype=np.float64) / self.batch)


def critical_batch(batch: FloatArray, steps: FloatArray) -> CriticalBatch:
    """Fit S = S_min (1 + B_crit / B) to the steps to one target at several batch sizes, learning rates tuned.

    McCandlish et al., 2018, arXiv 1812.06162, eq. 2.11. S is linear in 1 / B; relative errors are weighed alike.

    Args:
        batch: (n,) examples per step.
        steps: (n,) steps to the target.

    Raises:
        SoonerError: fewer than two batch sizes, or steps that do not fall with the batch.
    """
    from scipy.optimize import nnls

    if len(np.unique(batch)) < 2:
        raise SoonerError("a critical batch size needs two or more batch sizes; run another one to the same target")
    design = np.stack([np.ones_like(batch), 1 / batch], 1) / steps[:, None]
    fewest, slope = nnls(design, np.ones(len(batch)))[0]
    if not (fewest > 0 and slope > 0):
        raise SoonerError(
            "the steps do not fall towards a limit as the batch grows, so there is no critical batch size in this "
            "range; add smaller and larger batches"
        )
    return CriticalBatch(float(slope / fewest), float(fewest), float(slope))


def learning_rate(
    batch: FloatArray, noise: float, largest: float, optimizer: Literal["sgd", "adam"] = "adam"
) -> FloatArray:
    """Return (n,) best learning rates at batch sizes (n,).

    SGD: eps_max / (1 + B_noise / B) (McCandlish et al., 2018, arXiv 1812.06162, eq. 2.6). Adam: eps_max /
    ((sqrt(B / B_noise) + sqrt(B_noise / B)) / 2), which rises, peaks at B_noise and falls (Li et al., 2024, arXiv
    2405.14578).

    Args:
        batch: (n,) examples per step.
        noise: gradient noise scale, in examples.
        largest: the largest of these learning rates.
        optimizer: "sgd" or "adam" and its kin that use signs.

    Raises:
        SoonerError: an unknown optimizer, or numbers that are not positive.
    """
    batch = np.asarray(batch, dtype=np.float64)
    if optimizer not in ("sgd", "adam"):
        raise SoonerError(f"there is no rule for {optimizer!r}; use 'sgd' or 'adam'")
    if not (noise > 0 and largest > 0 and (batch > 0).all()):
        raise SoonerError(f"noise scale {noise:g}, learning rate {largest:g} and all batch sizes must be positive")
    if optimizer == "sgd":
        return largest / (1 + noise / batch)
    made: FloatArray = largest / (0.5 * (np.sqrt(batch / noise) + np.sqrt(noise / batch)))
    return made
