"""Concurrent adversarial learning: also train on inputs turned against the weights of one step ago.

    xhat_{t+1} = clip( x_{t+1} + eps * range * sign( dL(theta_t; x_{t+1}, y_{t+1}) / dx ) ),  made at step t
    gradient of step t:   dL(theta_t; x_t, y_t) + weight * dL(theta_t; xhat_t, y_t)

Because the attack uses old weights, it does not wait for the step and could run beside it on other devices; here it
runs behind it, with the same result. Adversarial inputs have their own batch-normalisation statistics.

Use it when batches are very large and test accuracy falls.

Leave it when batches are small, or inputs have no gradient, as tokens.

It costs an adversarial copy of every batch: three times the passes of plain training on one device; nothing on the
wire.

Liu et al., 2021, arXiv 2106.00221, algorithm 1 with a delay of one step (the size of the attack is our choice).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.gradient._source import GradientSource, asked, frozen_statistics, normalisations
from sooner.objective import Objective
from sooner.part import LARGEST, check_range
from sooner.space import Knob, Log

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class ConAdv(GradientSource):
    """Training on clean inputs and on adversarial ones of the step before, at the cost of about three plain steps.

    A batch must be a sequence such as ``(inputs, targets)``, or a dict, whose first floating-point tensor is the input.
    The first step, and one whose batch was not announced, is a plain one.

    Args:
        model: the model.
        eps: size of the attack as a share of the input's range, default 4/255.
        weight: weight of the adversarial loss beside the clean one, default 1.
        low: smallest valid input; default None, the smallest of the clean batch (per channel, dimension 1).
        high: largest valid input; default None, likewise.

    Raises:
        SoonerError: a hyper-parameter out of range.
    """

    needs = frozenset({"next batch"})
    space: ClassVar[Mapping[str, Knob]] = {"eps": Log(1 / 255, 0.1)}

    def __init__(
        self,
        model: nn.Module,
        eps: float = 4 / 255,
        weight: float = 1.0,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        check_range("conadv", "eps", eps, 0.0, 1.0)
        check_range("conadv", "weight", weight, 0.0, float("inf"))
        for name, bound in (("low", low), ("high", high)):
            check_range("conadv", name, 0.0 if bound is None else bound, -LARGEST, LARGEST)
        if low is not None and high is not None and not low < high:
            raise SoonerError(f"conadv: low={low!r} is not below high={high!r}; give the range of valid inputs")
        self.model = model
        self.eps, self.weight, self.low, self.high = eps, weight, low, high
        self._prepared: list[Tensor] = []
        self._statistics = {
            f"{name}.{kind}": getattr(m, kind).clone()
            for name, m in normalisations(model).items()
            for kind in STATISTICS
        }

    def backward(self, objective: Objective) -> Tensor:
        """Put the gradients of both losses into ``.grad``, attack the next batch, and return the mean clean loss.

        Raises:
            SoonerError: `objective` is no `Objective`, or does not announce its next batch.
        """
        asked("conadv", objective)
        prepared, self._prepared = self._prepared, []
        total = objective.backward()
        if prepared:
            self._train_on(prepared, objective)
        self._prepared = [self.attack(objective, batch) for batch in _announced(objective)]
        return total

    def _train_on(self, prepared: list[Tensor], objective: Objective) -> None:
        shapes = [_input(batch)[1].shape for batch in objective.batches]
        if [x.shape for x in prepared] != shapes:
            raise SoonerError(
                "conadv: this step's batch is not the one announced as next at the step before; keep order"
            )
        with self.adversarial_statistics():
            for batch, x, share in zip(objective.batches, prepared, objective.shares(), strict=True):
                loss = objective.of(_with_input(batch, x))
                torch.autograd.backward(self.weight * share * loss)

    def attack(self, objective: Objective, batch: Any) -> Tensor:
        """Return the batch's inputs, changed by one signed gradient step against the present weights.

        Nothing else changes: no gradient of a parameter, no running statistics, no random numbers to come.

        Raises:
            SoonerError: the batch holds no floating-point tensor.
        """
        clean = _input(batch)[1].detach()
        x = clean.clone().requires_grad_()
        devices = [clean.device.index or 0] if clean.device.type == "cuda" else []
        with torch.enable_grad(), frozen_statistics(objective.model), torch.random.fork_rng(devices):
            (gradient,) = torch.autograd.grad(objective.of(_with_input(batch, x)), [x])
        apart = [d for d in range(clean.ndim) if d != 1 or clean.ndim == 1]
        low = clean.amin(apart, keepdim=True) if self.low is None else torch.full_like(clean, self.low)
        high = clean.amax(apart, keepdim=True) if self.high is None else torch.full_like(clean, self.high)
        return torch.clamp(clean + self.eps * (high - low) * gradient.sign(), low, high)

    @contextlib.contextmanager
    def adversarial_statistics(self) -> Iterator[None]:
        """Inside, batch normalisation uses and updates the statistics of adversarial inputs (to evaluate on them)."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for key, kept in self._statistics.items():
            name, _, kind = key.rpartition(".")
            present = getattr(self.model.get_submodule(name), kind)
            other = present.clone()
            present.copy_(kept)
            kept.copy_(other)

    def state_dict(self) -> dict[str, Any]:
        """Return the adversarial inputs of the next step and the adversarial statistics."""
        return {"prepared": [x.clone() for x in self._prepared], "statistics": _cloned(self._statistics)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            SoonerError: the state belongs to a model with other batch normalisations.
        """
        if set(state["statistics"]) != set(self._statistics):
            raise SoonerError("conadv: the state is for other batch normalisations; load the state of the same model")
        self._prepared = [x.clone() for x in state["prepared"]]
        for key, kept in self._statistics.items():
            kept.copy_(state["statistics"][key])


def _cloned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in tensors.items()}


def _announced(objective: Objective) -> list[Any]:
    """Return the next step's batches; none where the data end with this step."""
    if objective.next_batches is None:
        raise SoonerError("conadv: this loop does not announce its next batch; pass next_batches= to Objective")
    try:
        return list(objective.next_batches())
    except IndexError:
        return []


def _input(batch: Any) -> tuple[Any, Tensor]:
    """Return where the input stands in a batch, and the input."""
    entries: Any = ()
    if isinstance(batch, Mapping):
        entries = batch.items()
    elif isinstance(batch, tuple | list):
        entries = enumerate(batch)
    for key, value in entries:
        if isinstance(value, Tensor) and value.is_floating_point():
            return key, value
    raise SoonerError(
        f"conadv finds no floating-point input in a batch that is a {type(batch).__name__}; "
        "make batches (inputs, targets) or a dict with the inputs first"
    )


def _with_input(batch: Any, x: Tensor) -> Any:
    """Return the batch with another input."""
    key, _ = _input(batch)
    if isinstance(batch, Mapping):
        return {**batch, key: x}
    entries = [x if i == key else value for i, value in enumerate(batch)]
    return batch._make(entries) if hasattr(batch, "_make") else type(batch)(entries)
