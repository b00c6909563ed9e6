"""EF21-W: EF21 with weighted workers, which for the codecs here is EF21 with a larger step that theory allows.

    w_i = L_i / sum_j L_j,   c_i = C(g_i / (n w_i) - h_i),   h_i <- h_i + c_i,   g = sum_i w_i h_i
    step = 1 / (L + mean_i(L_i) * xi),   xi = (1 + sqrt(1 - alpha)) / alpha - 1,   ||C(v) - v||^2 <= (1 - alpha) ||v||^2

Use it when the smoothness L_i of every worker's loss is known, as for linear and logistic models: `EF21W.step_size`
gives the step, up to sqrt(n) times the one with the quadratic mean of L_i that EF21 was published with.

Leave it when step sizes are tuned: weights change nothing then, since C(c v) = c C(v) for top_k, random_k, sign and
powersgd.

It costs two numbers of state per weight, and nothing on the wire but the first, dense exchange, as EF21 does; no pass.

Richtarik, Gasanov and Burlachenko, 2024, arXiv 2402.10774, algorithms 2 and 3, theorems 1 to 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sooner.communication.ef21 import EF21
from sooner.error import SoonerError
from sooner.part import check_choice, check_range


@dataclass(frozen=True)
class EF21W(EF21):
    """EF21 whose step size is that of the weighted method; the iterates are the same."""

    @staticmethod
    def weights(smoothness: Sequence[float]) -> list[float]:
        """Return the weight of every worker in the published form of the method, adding up to 1.

        Args:
            smoothness: the Lipschitz constant of every worker's gradient.

        Raises:
            SoonerError: there is none, or one is not positive.
        """
        if not smoothness or not all(math.isfinite(one) and one > 0 for one in smoothness):
            raise SoonerError(
                f"ef21_w: smoothness={list(smoothness)!r} is not a positive number for every worker; give those"
            )
        return [one / math.fsum(smoothness) for one in smoothness]

    @staticmethod
    def step_size(
        smoothness: Sequence[float], alpha: float, overall: float | None = None, mean: str = "arithmetic"
    ) -> float:
        """Return the largest step for which theory promises convergence of plain gradient descent behind EF21.

        Args:
            smoothness: the Lipschitz constant of every worker's gradient.
            alpha: of the codec, in (0, 1]: k / d for top-k.
            overall: the Lipschitz constant of the mean gradient, at most the mean of the others, which is the default.
            mean: "arithmetic", or "quadratic" for the step that EF21 was first published with.

        Raises:
            SoonerError: a value out of range.
        """
        EF21W.weights(smoothness)
        check_range("ef21_w", "alpha", alpha, 1e-300, 1.0)
        check_choice("ef21_w", "mean", mean, ("arithmetic", "quadratic"))
        average = math.fsum(smoothness) / len(smoothness)
        quadratic = math.sqrt(math.fsum(one**2 for one in smoothness) / len(smoothness))
        spread = average if mean == "arithmetic" else quadratic
        xi = (1 + math.sqrt(1 - alpha)) / alpha - 1
        return 1 / ((average if overall is None else overall) + spread * xi)
