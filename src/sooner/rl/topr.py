"""Tapered off-policy REINFORCE: learn from old answers, right ones fully, wrong ones only while they are still likely.

    rho = pi(y|x) / mu(y|x) of the whole answer, at generation by mu;   A = R - baseline
    w = clip(rho, a+, b+) if A >= 0,  clip(rho, a-, b-) if A < 0;   loss = - mean of sg(w) * A * log pi(y|x) / length

With (a+, b+) = (1, 1) right answers are imitated, however old they are. With (a-, b-) = (0, 1) a wrong answer loses its
weight as the policy leaves it. Without that taper its log-probability is pushed towards minus infinity and takes the
policy with it, which is how plain REINFORCE on old answers collapses. Other limits give other known methods: (1, 1) and
(1, 1) plain REINFORCE, (0, 1) twice truncated importance sampling, (0, inf) twice off-policy REINFORCE, (1, 1) and
(0, 0) imitation of right answers.

Rewards are +1 and -1 in the paper. With rewards of 0 and 1 nothing is negative, and wrong answers teach nothing: give
baseline=0.5. A baseline c moves the effective share of right answers from p to p(1-c) / (1 + c(1-2p)).

Use it when answers are older than the policy: several passes over each generation, slow generators, logged data.

Leave it when every answer is written by the present policy: then the ratio is 1 and it is plain REINFORCE.

It costs one exponential per answer; no reference model, no state, no pass; nothing on the wire.

Le Roux et al., 2025, arXiv 2503.14286, equations 7 and 8, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.part import check_choice, check_range
from sooner.rl._rollouts import PolicyLoss, Rollouts, lengths, sequence_logp
from sooner.space import Knob, Uniform

__all__ = ["TOPR", "effective_positives", "topr"]

NORMALISATIONS = ("sequence", "none")


def topr(
    logp: Tensor,
    rollouts: Rollouts,
    baseline: float = 0.0,
    positive: Sequence[float] = (1.0, 1.0),
    negative: Sequence[float] = (0.0, 1.0),
    normalise: str = "sequence",
) -> Tensor:
    """Return the loss of tapered off-policy REINFORCE.

    Args:
        logp: ``[B, T]`` log-probabilities of the answers' tokens under the policy that is trained, with their graph.
        rollouts: the answers, with log-probabilities noted when they were generated.
        baseline: taken off every reward, default 0. Its sign decides which limits an answer gets.
        positive: least and largest weight of answers whose reward is at least the baseline, default (1, 1).
        negative: the same for the others, default (0, 1). A least weight above 0 lets the loss fall without bound.
        normalise: "sequence" (default) divides by the answer's length, "none" doesn't. The ratio never is.

    Returns:
        0-d, at least float32. An answer of weight 0 has no part in loss and gradient, even where the policy finds it
        impossible.

    Raises:
        SoonerError: shapes that don't belong together, or a setting out of range.
    """
    _check(baseline, positive, negative, normalise)
    now, old = sequence_logp(logp, rollouts), sequence_logp(rollouts.logp, rollouts)
    advantage = rollouts.reward.to(now.dtype) - baseline
    log_ratio = (now - old).detach()
    kept = torch.where(advantage >= 0, _clip(log_ratio, *positive), _clip(log_ratio, *negative))  # [B]
    term = kept * advantage * now.masked_fill(kept == 0, 0.0)  # 0 times minus infinity would be no number
    return -(term / lengths(rollouts) if normalise == "sequence" else term).mean()


def effective_positives(share: float, baseline: float) -> float:
    """Return the share of right answers in the weight of the data, where `share` of them are right, rewards +1 and -1.

    Args:
        share: in [0, 1].
        baseline: in [-1, 1].

    Raises:
        SoonerError: one of them is out of range, or only answers of weight 0 are left.
    """
    check_range("effective_positives", "share", share, 0.0, 1.0)
    check_range("effective_positives", "baseline", baseline, -1.0, 1.0)
    whole = 1 + baseline * (1 - 2 * share)
    if whole == 0:
        raise SoonerError(
            f"effective_positives: with share={share!r} and baseline={baseline!r} every answer has weight 0; "
            "choose a baseline inside (-1, 1)"
        )
    return share * (1 - baseline) / whole


def _clip(log_ratio: Tensor, low: float, high: float) -> Tensor:
    """Return the ratio between two limits; limited before the exponential, which then can't overflow."""
    if high == 0:
        return torch.zeros_like(log_ratio)
    largest = min(math.log(high), math.log(torch.finfo(log_ratio.dtype).max) - 1)
    return log_ratio.clamp(max=largest).exp().clamp(min=low, max=high)


def _check(baseline: float, positive: Sequence[float], negative: Sequence[float], normalise: str) -> None:
    check_range("topr", "baseline", baseline, -1e6, 1e6)
    check_choice("topr", "normalise", normalise, NORMALISATIONS)
    for name, limits in (("positive", positive), ("negative", negative)):
        numbers = isinstance(limits, tuple | list) and all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in limits
        )
        if not numbers or len(limits) != 2 or not 0 <= limits[0] <= limits[1] or math.isinf(limits[0]):
            raise SoonerError(
                f"topr: {name}={limits!r} are no limits of a weight; give (least, largest) with 0 <= least <= largest, "
                "such as (0, 1)"
            )


class TOPR(PolicyLoss):
    """The loss as a part: called with ``(logp, rollouts)``; in a recipe it takes the place of the task's policy loss.

    Args:
        baseline: taken off every reward, default 0.
        positive: least and largest weight of answers whose reward is at least the baseline, default (1, 1).
        negative: the same for the others, default (0, 1).
        normalise: "sequence" (default) divides by the answer's length, "none" doesn't.

    Raises:
        SoonerError: a setting out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"baseline": Uniform(-0.9, 0.9)}

    def __init__(
        self,
        baseline: float = 0.0,
        positive: Sequence[float] = (1.0, 1.0),
        negative: Sequence[float] = (0.0, 1.0),
        normalise: str = "sequence",
    ) -> None:
        _check(baseline, positive, negative, normalise)
        self.baseline, self.positive, self.negative, self.normalise = baseline, positive, negative, normalise

    def __call__(self, logp: Tensor, rollouts: Rollouts) -> Tensor:
        """Return the loss, as `topr`."""
        return topr(logp, rollouts, self.baseline, self.positive, self.negative, self.normalise)
