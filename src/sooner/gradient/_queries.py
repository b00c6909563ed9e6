"""Evaluating one loss at many points near the present parameters, many at a time where the model allows it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from sooner.foundation import snapshots
from sooner.foundation.intercept import CrossEntropy
from sooner.gradient._source import frozen_statistics
from sooner.objective import Objective, mean


class Queries:
    """The loss of one step as a function of the parameters, without any graph.

    All queries see the same micro-batches and the same random numbers (dropout masks), and only the first one updates
    running statistics. Cross-entropy is computed, and micro-batches are averaged, in float64 where the device has it.

    Args:
        objective: the step's loss.
        together: whether to try that at all.

    Attributes:
        count: queries so far.
        together: whether queries still run many at a time; False from the first time that the model does not allow it.
    """

    def __init__(self, objective: Objective, together: bool) -> None:
        self.objective = objective
        self.together = together
        self.count = 0
        self.names: dict[Tensor, str] = {p: name for name, p in objective.model.named_parameters() if p.requires_grad}
        self._evaluated = _Evaluated(self._loss, objective.model)
        self._devices = sorted({p.device.index for p in self.names if p.device.type == "cuda"})
        self._random = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices)]

    @torch.no_grad()
    def _loss(self) -> Tensor:
        with CrossEntropy(_exact_cross_entropy):
            losses = [self.objective.of(batch) for batch in self.objective.batches]
        return self._together([loss.to(exact(loss.device)) for loss in losses])

    def _together(self, losses: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack(list(losses))
        return (stacked * stacked.new_tensor(self.objective.shares())).sum()

    @contextlib.contextmanager
    def _alike(self) -> Iterator[None]:
        """Inside, every evaluation sees the same random numbers and leaves running statistics alone."""
        with frozen_statistics(self.objective.model), torch.random.fork_rng(self._devices):
            torch.set_rng_state(self._random[0])
            for device, state in zip(self._devices, self._random[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            yield

    def base(self) -> Tensor:
        """Return the loss at the present parameters, 0-d; call it once, before the others."""
        self.count += 1
        with CrossEntropy(_exact_cross_entropy), torch.no_grad():
            found = [self.objective.measured(batch) for batch in self.objective.batches]
        means = [mean(*one).to(exact(one[0].device)) for one in found]
        self.objective.settle(means, [count for _, count in found])
        return self._together(means)

    def at(self, points: Mapping[Tensor, Tensor]) -> Tensor:
        """Return the losses ``[n]`` where some parameters are replaced by stacks ``[n, *shape]``."""
        many = len(next(iter(points.values())))
        self.count += many
        if self.together:
            try:
                with self._alike():
                    return self._stacked({f"model.{self.names[p]}": stack for p, stack in points.items()})
            except (RuntimeError, NotImplementedError, ValueError, TypeError):  # what torch.func can't batch
                self.together = False
        return torch.stack([self._one({p: stack[i] for p, stack in points.items()}) for i in range(many)])

    def check(self, points: Mapping[Tensor, Tensor], base: Tensor) -> None:
        """Go on one at a time unless both ways give the same loss at `points`, stacks ``[1, *shape]``.

        A module that keeps references to its parameters elsewhere would not notice that they are replaced.

        Args:
            points: perturbed parameters.
            base: the loss at the present ones.
        """
        batched = self.at(points)
        single = self._one({p: stack[0] for p, stack in points.items()})
        self.count += 1
        allowed = 1e-3 * (single - base).abs() + 1e-6 * base.abs()
        self.together = self.together and bool((batched - single).abs() <= allowed)

    @torch.no_grad()
    def _stacked(self, stacks: dict[str, Tensor]) -> Tensor:
        def one(replaced: dict[str, Tensor]) -> Tensor:
            return functional_call(self._evaluated, replaced, ())  # type: ignore[no-any-return]

        found: Tensor = vmap(one, randomness="same")(stacks)
        return found

    @torch.no_grad()
    def _one(self, replaced: Mapping[Tensor, Tensor]) -> Tensor:
        """Return the loss with other values in the parameters themselves, which are restored by copy."""
        kept = {p: p.detach().clone() for p in replaced}
        snapshots.settle()
        try:
            with self._alike():
                for p, value in replaced.items():
                    p.copy_(value)
                return self._loss()
        finally:
            for p, value in kept.items():
                p.copy_(value)


class _Evaluated(nn.Module):
    """A model whose forward pass is the loss, so that `functional_call` can replace the parameters of the model."""

    def __init__(self, loss: Any, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self) -> Tensor:
        """Return the loss."""
        return self._loss()  # type: ignore[no-any-return]


def exact(device: torch.device) -> torch.dtype:
    """Return the dtype in which losses are compared: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _exact_cross_entropy(logits: Tensor, targets: Tensor, options: dict[str, Any]) -> Tensor:
    dtype = exact(logits.device)
    given = {k: v.to(dtype) if k == "weight" and v is not None else v for k, v in options.items()}
    soft = targets.to(dtype) if targets.is_floating_point() else targets
    return functional.cross_entropy(logits.to(dtype), soft, **given)
