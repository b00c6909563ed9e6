"""Learning rate and weight decay of a wide model from a narrow one, and the check that their matrices match."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.table import FloatArray

TOLERANCE = 0.1


@dataclass(frozen=True)
class Transferred:
    """Settings at another width.

    Args:
        matrix_lr: learning rate of matrices whose two sides both grow.
        matrix_weight_decay: their weight decay, in AdamW's convention of w <- (1 - lr decay) w.
        vector_lr: learning rate of embeddings, norms and biases.
        vector_weight_decay: 0.
        init_std: factor on the standard deviation of hidden matrices at the start.
        output_multiplier: factor on the output of the last layer.
    """

    matrix_lr: float
    matrix_weight_decay: float
    vector_lr: float
    vector_weight_decay: float
    init_std: float
    output_multiplier: float


def transfer(lr: float, weight_decay: float, *, width: float, to: float) -> Transferred:
    """Return AdamW's settings at width `to` from those tuned at `width`.

    muP (Yang et al., 2022, arXiv 2203.03466) with the weight decay of Fan et al., 2025, arXiv 2510.15262: with
    m = to / width, matrices take lr / m and decay times the SQUARE ROOT of m (listings of the abstract lost the root).
    The top singular value then stays as it is: sqrt(lr / decay) d^0.75.

    Args:
        lr: learning rate at `width`.
        weight_decay: at `width`.
        width: of the tuned model.
        to: of the other one.

    Raises:
        SoonerError: a width or learning rate that is not positive, or a negative decay.
    """
    if not (width > 0 and to > 0 and lr > 0 and weight_decay >= 0):
        raise SoonerError(
            f"widths {width:g} and {to:g} and the learning rate {lr:g} must be positive, and the decay "
            f"{weight_decay:g} not negative"
        )
    m = to / width
    return Transferred(lr / m, weight_decay * float(np.sqrt(m)), lr, 0.0, float(m**-0.5), 1 / m)


def expected_top_singular_value(lr: float, weight_decay: float, width: float) -> float:
    """Return sqrt(lr / decay) width^0.75, to which the top singular value is proportional in the long run.

    Raises:
        SoonerError: a number that is not positive.
    """
    if not (lr > 0 and weight_decay > 0 and width > 0):
        raise SoonerError(f"learning rate {lr:g}, weight decay {weight_decay:g} and width {width:g} must be positive")
    return float(np.sqrt(lr / weight_decay) * width**0.75)


def forgotten_after(lr: float, weight_decay: float) -> float:
    """Return 3 / (lr decay): the steps after which matrices are as the optimizer made them, and can be compared."""
    return 3 / (lr * weight_decay) if lr * weight_decay > 0 else float("inf")


@dataclass(frozen=True)
class Match:
    """Top singular values over widths.

    Args:
        names: of the matrices.
        ratio: (n,) largest over smallest across widths.
        matched: (n,) whether the ratio stays within the tolerance.
        exponent: (n,) power of the width that the value goes with; 0 where it is matched.
    """

    names: list[str]
    ratio: FloatArray
    matched: np.ndarray[tuple[int], np.dtype[np.bool_]]
    exponent: FloatArray


def match_top_singular_values(widths: FloatArray, values: dict[str, FloatArray], tolerance: float = TOLERANCE) -> Match:
    """Compare the top singular values of corresponding matrices across widths.

    Args:
        widths: (w,) widths, two or more.
        values: by name of the matrix, (w,) top singular values or (w,) matrices as a list.
        tolerance: relative difference that still counts as matched.

    Raises:
        SoonerError: fewer than two widths, or a matrix without a value for each of them.
    """
    if len(np.unique(widths)) < 2:
        raise SoonerError("a comparison needs two or more widths")
    ratio, exponent = [], []
    for name, given in values.items():
        if len(given) != len(widths):
            raise SoonerError(f"{name} has {len(given)} values for {len(widths)} widths; give one for each")
        top = np.array([np.linalg.norm(one, 2) if np.ndim(one) == 2 else float(one) for one in given])
        ratio.append(top.max() / top.min())
        exponent.append(np.polyfit(np.log(widths), np.log(top), 1)[0])
    ratios = np.array(ratio)
    return Match(list(values), ratios, ratios <= 1 + tolerance, np.array(exponent))
