"""Normalized logistic gradient descent: divides the gradient of a cross-entropy by the mean probability of being wrong.

    theta <- theta - lr * beta * g,   beta = 1 / max( mean_i (1 - p_i(right class)), eps )

The gradient of a cross-entropy fades with that mean, so plain steps crawl once most answers are right; with it divided
out, a large learning rate acts as on a perceptron, and the number of steps to separate the data does not grow with
their number. Watch the error: the loss may rise while it falls.

Use it when a linear or last layer is fitted on classes of very different size with full or large batches.

Leave it when loss, not error, is what counts: the loss may rise.

It costs no state; one more forward pass per step for the probabilities; nothing on the wire.

Tyurin, 2024, arXiv 2412.08424, section 6; for several classes and mini-batches our extension of it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, State, Transform, chain
from sooner.update._answers import answers
from sooner.update._closure import Evaluation, NoLossError, averaged, evaluations, unnoticed
from sooner.update._graphs import outside_graphs
from sooner.update._observing import Observing
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options


@dataclass(frozen=True, eq=False)
class Scale(Transform):
    """Multiplies by a number that may still be on its way on the device."""

    factor: float | Tensor

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """``factor * u``."""
        return u * self.factor, state


class NormalizedLogisticGD(Observing, ChainOptimizer):
    """Gradient descent on the normalized logistic loss.

    A step needs the probabilities that the loss is made of. They are read from its calls of cross-entropy, over classes
    or binary, in one more forward pass over the step's batch, where the mean is taken with the loss's own weights. For
    losses written in other ways this method has no meaning and refuses them.

    Args:
        params: a model, its parameters or parameter groups (they share beta).
        lr: step size, default 0.1, for networks; a linear model of data that can be separated wants 10 or 100.
        eps: least mean probability to divide by, default 1e-8.
        **options: see `sooner.update._options.Options`.

    Attributes:
        beta: factor of the last step, 0-d; 1 before the first.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    needs = frozenset({"closure"})
    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-4, 1e2)}
    beta: float | Tensor = 1.0

    def __init__(self, params: Any, lr: float | Tensor = 0.1, eps: float = 1e-8, **options: Unpack[Options]) -> None:
        super().__init__(params, {"lr": lr, "eps": eps}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range("normalized_logistic_gd", "eps", group["eps"], 0.0, math.inf)

    @outside_graphs
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move by the gradients, times beta of the weights before the step.

        Args:
            closure: an `Objective`, or any function that returns the loss of the batch. Where it calls backward it is
                run once for the gradients, as PyTorch has it; where it does not, those in ``.grad`` count, and where
                there are none, those of the loss. None where the loss is given by `observe`.

        Returns:
            What the closure returned, None where it was not run for the gradients.

        Raises:
            SoonerError: neither a closure nor anything observed, no cross-entropy in the loss, or what
                `ChainOptimizer.step` raises.
        """
        if self._sets_up(closure):
            return self._take_step()
        with self._with_gradients(closure) as (evaluate, result):
            if self.non_finite == "pass" or self._all_finite():
                if evaluate is not None:
                    self._measure(evaluate)
                self._take_step()
        return result

    def _measure(self, evaluate: Evaluation) -> None:
        """Set beta; that of the step before stays where the closure skips this batch."""
        with contextlib.suppress(NoLossError), unnoticed(self.name(), self._parameters()):
            self.beta = 1 / self._wrong(evaluate).clamp(min=self.param_groups[0]["eps"])

    def _try(self, evaluate: Evaluation, parameters: list[Tensor]) -> None:
        self._wrong(evaluate)

    def _wrong(self, closure: Evaluation) -> Tensor:
        """Return the mean probability of a wrong answer, 0-d, over all workers who share the model."""
        total: Any = 0.0
        for share, evaluate in evaluations(closure):
            for one in answers(self.name(), evaluate)[1]:
                total = total + share * (one.weights.abs() * one.wrong).sum()
        return averaged([total])[0]

    def rule(self, group: dict[str, Any]) -> Chain:
        """``scale | descend``."""
        return chain(Scale(self.beta), Descend())
