"""Answers that a policy has written, as every method here takes them, and the place of the loss that learns them."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.foundation.place import Place
from sooner.part import Part


@dataclass(frozen=True)
class Rollouts:
    """A batch of B answers of up to T tokens, with what was known when they were written.

    Attributes:
        logp: ``[B, T]`` log-probability of each token under the policy that wrote it, noted at generation. Computed
            again later by other code, it differs by rounding, and ratios are no longer those of the data.
        mask: ``[B, T]`` bool, or 0 and 1: which tokens are trained on. Those of the prompt, padding and what stands
            behind the end are not.
        reward: ``[B]``.
        group: int64 ``[B]``, the same number for answers to the same prompt; None where each answer stands alone.
        tokens: int64 ``[B, T]``, for whoever evaluates them again; None where only log-probabilities are needed.

    Raises:
        SoonerError: shapes do not belong together, which broadcasting would hide.
    """

    logp: Tensor
    mask: Tensor
    reward: Tensor
    group: Tensor | None = None
    tokens: Tensor | None = None

    def __post_init__(self) -> None:
        if self.logp.ndim != 2:
            raise SoonerError(
                f"rollouts: logp has shape {tuple(self.logp.shape)}; give [answers, tokens], one number per token"
            )
        rows, length = self.logp.shape
        wanted = {"mask": (rows, length), "reward": (rows,), "group": (rows,), "tokens": (rows, length)}
        for name, shape in wanted.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise SoonerError(
                    f"rollouts: {name} has shape {tuple(value.shape)} beside logp of {(rows, length)}; give {shape}"
                )

    def __len__(self) -> int:
        return len(self.reward)

    def __getitem__(self, chosen: Tensor | slice) -> Rollouts:
        """Return some of the answers: by their numbers, by a bool ``[B]``, or a slice."""
        if not isinstance(chosen, slice) and not (isinstance(chosen, Tensor) and chosen.ndim == 1):
            raise SoonerError(f"rollouts: {chosen!r} chooses no answers; give a slice or a tensor of one dimension")
        return self._each(lambda value: value[chosen])

    def to(self, device: torch.device | str) -> Rollouts:
        """Return the same on another device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Rollouts:
        return replace(self, **{f.name: change(v) for f in fields(self) if (v := getattr(self, f.name)) is not None})


def sequence_logp(logp: Tensor, rollouts: Rollouts) -> Tensor:
    """Return the log-probability of each whole answer, ``[B, T] -> [B]``, at least in float32.

    What the mask leaves out counts as 0, also where it is not a number.

    Raises:
        SoonerError: `logp` is not of the rollouts' shape.
    """
    if logp.shape != rollouts.logp.shape:
        raise SoonerError(
            f"the policy's logp has shape {tuple(logp.shape)} beside rollouts of {tuple(rollouts.logp.shape)}; give "
            "one number per token of theirs"
        )
    wide = logp.to(torch.promote_types(logp.dtype, torch.float32))
    return wide.masked_fill(~rollouts.mask.bool(), 0.0).sum(1)


def lengths(rollouts: Rollouts) -> Tensor:
    """Return how many tokens of each answer are trained on, float32 ``[B]``; at least 1, to divide by."""
    return rollouts.mask.bool().sum(1).clamp(min=1).float()


def group_means(values: Tensor, group: Tensor | None) -> Tensor:
    """Return for each answer the mean over its group, ``[B] -> [B]``; over all where there are no groups.

    Groups may have different sizes. Nothing waits for the device.
    """
    if group is None:
        return values.mean().expand_as(values)
    order = group.argsort()
    sorted_groups = group[order]
    number = torch.cat([sorted_groups.new_zeros(1), (sorted_groups.diff() != 0).long()]).cumsum(0)  # from 0 upwards
    sums = values.new_zeros(len(values)).index_add(0, number, values[order])
    counts = torch.zeros_like(sums).index_add(0, number, torch.ones_like(values))
    return torch.empty_like(values).index_copy(0, order, (sums / counts.clamp(min=1))[number])


def reinforce(logp: Tensor, rollouts: Rollouts) -> Tensor:
    """Return the loss of REINFORCE with the group's mean reward as baseline, for answers of the present policy.

    - mean over answers of (reward - mean reward of its group) * log-probability / length.

    Args:
        logp: ``[B, T]`` log-probabilities of the answers' tokens under the policy that is trained, with their graph.
        rollouts: the answers. Their own log-probabilities play no part: old answers need `sooner.rl.topr`.

    Returns:
        0-d.
    """
    reward = rollouts.reward.float()
    advantage = reward - group_means(reward, rollouts.group)
    return -(advantage * sequence_logp(logp, rollouts) / lengths(rollouts)).mean()


class PolicyLoss(Part, ABC):
    """A loss of a policy as a part: subclasses say which with `__call__`."""

    station: ClassVar[str] = "rl"
    needs = frozenset({"rollouts"})
    owns = frozenset({"policy loss"})

    @abstractmethod
    def __call__(self, logp: Tensor, rollouts: Rollouts) -> Tensor:
        """Return the loss, 0-d, of log-probabilities ``[B, T]`` with their graph."""

    @contextlib.contextmanager
    def around_loss(self) -> Iterator[None]:
        """Inside, `policy_loss` is this one.

        Raises:
            SoonerError: at the end, if nothing has asked for a policy loss.
        """
        unasked = (
            f"{self.name()}: this loss never calls sooner.rl.policy_loss, so there is nothing to replace; let it, or "
            f"call sooner.rl.{self.name()}(logp, rollouts) in a loss of your own"
        )
        with _LOSS.filled(self, unasked):
            yield


_LOSS: Place[PolicyLoss] = Place("policy loss")


def policy_loss(logp: Tensor, rollouts: Rollouts) -> Tensor:
    """Return the loss of the part around the training loss, or that of `reinforce` where there is none.

    A loss that calls this lets a recipe choose how the policy learns.
    """
    return (_LOSS.ask() or reinforce)(logp, rollouts)
