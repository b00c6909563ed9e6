"""How a gain goes on with size and length: laws for its logarithm, averaged by how well they explain what was measured.

Two laws of the logarithm of the speed-up, y, in x, the logarithm of the size: straight, y = a + b x, which holds what
stays, vanishes or grows; and fading, y = a exp(-c x), a gain that shrinks as a power of the size and never turns into a
loss. Both have a slope in the logarithm of the length where lengths differ. Sizes deviate from any smooth law, since
each is tuned with a few points only; how much is learnt from the sizes themselves. Everything unknown that enters
linearly is integrated out (Bayesian linear regression; Gelman et al., 2013, Bayesian Data Analysis, 14.8), the rest
(which law, c, the deviation, the scale of the noise) lies on a grid whose points weigh what they explain, so that two
sizes or laws that can't be told apart end in a wide interval and not in a choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sooner.forecast.table import FloatArray

DRAWS = 4000
LEVELS = 1.0
"""Standard deviation of the logarithm of a speed-up before anything is measured."""
SLOPES = (0.15, 0.4)
"""Standard deviations, any of which the slope per e-fold of the size may have before anything is measured."""
FADING = (0.05, 0.1, 0.2, 0.4, 0.8)
"""The c of fading gains."""
SLOPE_OF_LENGTH = 0.15
DEVIATIONS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16)
DEVIATION = 0.08
"""Deviations of a size from the law come from a half-normal of this scale: what a learning rate of a few costs."""
_SCALES = 5
_JITTER = 1e-6


@dataclass(frozen=True)
class Cells:
    """Measured gains.

    Args:
        gain: (n,) logarithms of speed-ups.
        covariance: (n, n) of their errors.
        size: (n,) parameters.
        length: (n,) steps.
        family: (n,) cells with one number share their deviation from the law: they come from the same runs.
        freedom: degrees of freedom of the covariance, by which it may be off as a whole.
    """

    gain: FloatArray
    covariance: FloatArray
    size: FloatArray
    length: FloatArray
    family: npt.NDArray[np.intp]
    freedom: float


@dataclass(frozen=True)
class Trend:
    """Draws of the laws that are left possible.

    Args:
        level: (k,) a.
        slope: (k,) b; 0 for fading gains.
        fading: (k,) c; 0 for straight ones.
        slope_of_length: (k,) per e-fold of the length.
        deviation: (k,) of a size from the law.
        shares: of the laws.
        size: the size at which x is 0.
        length: the length at which nothing is added.
    """

    level: FloatArray
    slope: FloatArray
    fading: FloatArray
    slope_of_length: FloatArray
    deviation: FloatArray
    shares: dict[str, float]
    size: float
    length: float

    def at(self, size: float, length: float, *, seed: int | None = None) -> FloatArray:
        """Return (k,) draws of the logarithm of the speed-up, with a single size's deviation if a seed is given."""
        x, z = np.log(size / self.size), np.log(length / self.length)
        made: FloatArray = self.level * np.exp(-self.fading * x) + self.slope * x + self.slope_of_length * z
        if seed is not None:
            made = made + self.deviation * np.random.default_rng(seed).standard_normal(len(made))
        return made


def trend(cells: Cells, *, draws: int = DRAWS, seed: int = 0) -> Trend:
    """Return what the cells leave possible.

    Args:
        cells: one or more.
        draws: of the laws.
        seed: of the draws.
    """
    from scipy import stats  # here, because importing it takes longer than all of the forecast

    smallest, longest = float(cells.size.min()), float(cells.length.max())
    x, z = np.log(cells.size / smallest), np.log(cells.length / longest)
    middle = float(np.unique(x).mean())
    lengths = [np.zeros((len(z), 0))] if np.ptp(z) == 0 else [z[:, None]]
    same = (cells.family[:, None] == cells.family[None]).astype(np.float64)
    # by how much all errors may be larger than they were measured, at equal steps of probability
    scales = cells.freedom / stats.chi2.ppf((np.arange(_SCALES) + 0.5) / _SCALES, cells.freedom)
    noises = [
        scale * cells.covariance + deviation**2 * same + _JITTER * np.eye(len(z))
        for deviation in DEVIATIONS
        for scale in scales
    ]
    believed = np.repeat(np.log(_share_of_deviations()), len(scales))
    deviations = np.repeat(DEVIATIONS, len(scales))
    forms = [(0.0, np.column_stack([np.ones_like(x), x - middle, *lengths]), spread) for spread in SLOPES]
    forms += [(c, np.column_stack([np.exp(-c * x), np.zeros_like(x), *lengths]), 0.0) for c in FADING]
    before = np.repeat([-np.log(2 * len(SLOPES)), -np.log(2 * len(FADING))], [len(SLOPES), len(FADING)])
    evidence, means, covariances = [], [], []
    for _, design, spread in forms:
        prior = np.array([LEVELS, spread, *[SLOPE_OF_LENGTH] * lengths[0].shape[1]]) ** 2
        whole = np.stack(noises) + (design * prior) @ design.T
        solved = np.linalg.solve(whole, np.column_stack([cells.gain, design * prior])[None])
        evidence.append(-0.5 * (np.linalg.slogdet(whole)[1] + solved[:, :, 0] @ cells.gain))
        means.append(prior * (solved[:, :, 0] @ design))
        covariances.append(np.diag(prior) - (prior[:, None] * design.T) @ solved[:, :, 1:])
    weight = (np.stack(evidence) + before[:, None] + believed).ravel()
    share = np.exp(weight - weight.max())
    share /= share.sum()
    random = np.random.default_rng(seed)
    taken = random.choice(len(share), size=draws, p=share)
    form, where = np.divmod(taken, len(noises))
    mean, covariance = np.concatenate(means), np.concatenate(covariances)
    roots, axes = np.linalg.eigh((covariance + covariance.transpose(0, 2, 1)) / 2)
    factor = axes * np.sqrt(np.maximum(roots, 0.0))[:, None, :]
    made = mean[taken] + np.einsum("kpq,kq->kp", factor[taken], random.standard_normal((draws, mean.shape[1])))
    slope = made[:, 1]  # 0 where the law fades
    fading = np.array([c for c, *_ in forms])[form]
    along = made[:, 2] if made.shape[1] > 2 else np.zeros(draws)
    straight = float(share.reshape(len(forms), -1)[: len(SLOPES)].sum())
    shares = {"straight": straight, "fading": 1 - straight}
    level = made[:, 0] - slope * middle
    return Trend(level, slope, fading, along, deviations[where], shares, smallest, longest)


def _share_of_deviations() -> FloatArray:
    """Return how much of the half-normal each deviation of the grid stands for."""
    from scipy import stats  # here, because importing it takes longer than all of the forecast

    edges = np.array([0.0, *(np.array(DEVIATIONS[1:]) + np.array(DEVIATIONS[:-1])) / 2, np.inf])
    made: FloatArray = np.diff(stats.halfnorm.cdf(edges, scale=DEVIATION))
    return made
