"""The envelope of data pruning: which share of a data set to keep at which size, and whether it beats the power law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.table import FloatArray

STEEPER = 1.05
"""By this factor the envelope must be steeper than the unpruned runs to count as beating them."""


@dataclass(frozen=True)
class PruningEnvelope:
    """The lowest error at every kept size.

    Args:
        kept: (n,) examples kept, rising.
        error: (n,) lowest error there.
        share: (n,) of the raw data that was kept to get it.
        exponent: (n - 1,) local slopes of -log error against log kept between neighbours.
        unpruned: exponent of the runs that kept everything.
        beats: whether the envelope is steeper at its end than the runs without pruning.
        keep_hard: whether keeping the hard examples won at the largest size; None where it is not known.
    """

    kept: FloatArray
    error: FloatArray
    share: FloatArray
    exponent: FloatArray
    unpruned: float
    beats: bool
    keep_hard: bool | None


def pruning_envelope(
    total: FloatArray, share: FloatArray, error: FloatArray, hard: FloatArray | None = None, *, bins: int = 12
) -> PruningEnvelope:
    """Return the lower envelope over kept shares.

    Sorscher et al., 2022, arXiv 2206.14486: with a good score of difficulty and a share that shrinks as the raw set
    grows, the error falls faster than a power of the kept examples. Keep hard examples of plenty, easy ones of few.

    Args:
        total: (n,) examples before pruning.
        share: (n,) kept of them, 1 for none pruned.
        error: (n,) test error.
        hard: (n,) 1 where the hard ones were kept, 0 for the easy ones.
        bins: of the kept size, evenly in its logarithm.

    Raises:
        SoonerError: shares outside 0 to 1, or fewer than three sizes without pruning.
    """
    total, share, error = (np.asarray(one, dtype=np.float64) for one in (total, share, error))
    if not ((share > 0) & (share <= 1)).all():
        raise SoonerError(
            f"a kept share is {share[~((share > 0) & (share <= 1))][0]:g}; give shares above 0 and up to 1"
        )
    whole = share == 1
    if len(np.unique(total[whole])) < 3:
        raise SoonerError("give runs without pruning (share 1) at three or more sizes, to compare with")
    unpruned = -float(np.polyfit(np.log(total[whole]), np.log(error[whole]), 1)[0])
    kept = total * share
    edges = np.geomspace(kept.min(), kept.max() * (1 + 1e-9), bins + 1)
    which = np.clip(np.digitize(kept, edges) - 1, 0, bins - 1)
    chosen = [
        rows[int(np.argmin(error[rows]))] for rows in (np.flatnonzero(which == k) for k in range(bins)) if rows.size
    ]
    best = [k for place, k in enumerate(chosen) if place == 0 or error[k] < min(error[j] for j in chosen[:place])]
    at = np.array(best)
    slopes = -np.diff(np.log(error[at])) / np.diff(np.log(kept[at])) if len(at) > 1 else np.empty(0)
    tail = slopes[len(slopes) // 2 :]
    beats = bool(tail.size and np.median(tail) > STEEPER * unpruned and (share[at[-max(len(at) // 2, 1) :]] < 1).any())
    largest = np.flatnonzero((total == total.max()) & ~whole)
    known = hard is not None and largest.size > 0
    keep_hard = bool(np.asarray(hard)[largest[int(np.argmin(error[largest]))]] > 0.5) if known else None
    return PruningEnvelope(kept[at], error[at], share[at], slopes, unpruned, beats, keep_hard)
