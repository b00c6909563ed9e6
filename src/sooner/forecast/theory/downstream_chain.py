"""Where predictability is lost between the probability of the right answer and accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from sooner.error import SoonerError
from sooner.forecast.table import FloatArray

STAGES = ("log p(correct)", "p(correct)", "p(choices)", "Brier", "accuracy")


@dataclass(frozen=True)
class Chain:
    """Scores of every stage, and how well each follows the scale.

    Args:
        scores: by stage, (models, items); higher is better.
        correlation: by stage, (items,) rank correlation of score and compute over models; NaN where it never moves.
        predictable: by stage, the share of items whose correlation exceeds one half.
        wrong_mass: (models,) mean probability on wrong choices, relative to that on all choices.
        follow: slope of the log probability of the wrong choices on that of the right one, over models and items.
    """

    scores: dict[str, FloatArray]
    correlation: dict[str, FloatArray]
    predictable: dict[str, float]
    wrong_mass: FloatArray
    follow: float

    @property
    def lost_at(self) -> str:
        """The stage before which most predictable items are lost."""
        shares = [self.predictable[stage] for stage in STAGES]
        drops = [shares[k] - shares[k + 1] for k in range(len(shares) - 1)]
        return STAGES[int(np.argmax(drops)) + 1]


def chain(
    log_probabilities: FloatArray, correct: np.ndarray[tuple[int], np.dtype[np.intp]], compute: FloatArray
) -> Chain:
    """Return the chain of scores for several models on multiple-choice items.

    Schaeffer et al., 2024, arXiv 2406.04391: log p of the right choice, p, p renormalised over the choices offered,
    Brier score and accuracy; each step compares with more wrong choices, and loses correlation with compute.

    Args:
        log_probabilities: (models, items, choices) of each choice's text, NaN for choices that an item lacks.
        correct: (items,) index of the right choice.
        compute: (models,) training FLOP, or any scale.

    Raises:
        SoonerError: shapes that don't agree, fewer than three models, or a positive log probability.
    """
    models, items, choices = log_probabilities.shape
    if models < 3 or len(compute) != models or len(correct) != items:
        raise SoonerError(
            f"{models} models with {len(compute)} scales, and {items} items with {len(correct)} answers: give three or "
            "more models, a scale for each, and an answer for each item"
        )
    if np.nanmax(log_probabilities) > 1e-9:
        raise SoonerError(f"a log probability is {np.nanmax(log_probabilities):g}; they must not be positive")
    if correct.min() < 0 or correct.max() >= choices:
        raise SoonerError(f"an answer is choice {correct.max()} of {choices}; count from 0")
    index = np.broadcast_to(correct[None, :, None], (models, items, 1))
    right = np.take_along_axis(log_probabilities, index, axis=2)[..., 0]
    filled = np.where(np.isnan(log_probabilities), -np.inf, log_probabilities)
    top = filled.max(axis=2, keepdims=True)
    weights = np.exp(filled - top)
    shares = weights / weights.sum(axis=2, keepdims=True)
    own = np.take_along_axis(shares, index, axis=2)[..., 0]
    brier = ((shares - (np.arange(choices) == correct[None, :, None])) ** 2).sum(axis=2)
    scores = dict(
        zip(STAGES, (right, np.exp(right), own, -brier, (filled.argmax(axis=2) == correct).astype(float)), strict=True)
    )
    correlation = {stage: _follows(score, np.asarray(compute, dtype=np.float64)) for stage, score in scores.items()}
    shares_of = {stage: float(np.mean(np.nan_to_num(one) > 0.5)) for stage, one in correlation.items()}
    wrong = np.where(np.arange(choices) == correct[None, :, None], -np.inf, filled)
    best_wrong = wrong.max(axis=2)
    log_wrong = best_wrong + np.log(np.exp(wrong - best_wrong[..., None]).sum(axis=2))
    x, y = right - right.mean(axis=0), log_wrong - log_wrong.mean(axis=0)
    power = float((x * x).sum())
    return Chain(scores, correlation, shares_of, (1 - own).mean(axis=1), float((x * y).sum() / power) if power else 0.0)


def _follows(score: FloatArray, scale: FloatArray) -> FloatArray:
    """Return (items,) rank correlations over models, NaN for items whose score never moves."""
    ranks = rankdata(score, axis=0)
    order = rankdata(scale)
    a, b = ranks - ranks.mean(axis=0), order - order.mean()
    power = np.sqrt((a**2).sum(axis=0) * (b**2).sum())
    made: FloatArray = np.where(power > 0, a.T @ b / np.where(power > 0, power, 1.0), np.nan)
    return made
