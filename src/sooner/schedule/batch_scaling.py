"""Learning-rate transfer between batch sizes: linear for SGD, square root for Adam, up to a measured limit.

    SGD:   lr = lr_0 * B / B_0                           with saturation S:  lr_0 * (1 + S / B_0) / (1 + S / B)
    Adam:  lr = lr_0 * sqrt(B / B_0)                     with saturation S:  lr_0 * sqrt((1 + S / B_0) / (1 + S / B))
    both at most `limit`, e.g. safety * 2 * (1 + momentum) / lambda(B) with lambda(B) = a + c / B fitted to the largest
    Hessian eigenvalues of batches of a few sizes (`measure_curvature`, by `lanczos`); then S = c / a

The rule holds below the critical batch size only, and B counts what the loss averages over (sequences times tokens in
language models).

Use it when a tuned learning rate moves to another batch size below the critical one.

Leave it when the batch is far above the critical size.

It costs nothing per step; measuring the limit takes some Hessian products once; nothing on the wire.

Granziol et al., 2020, arXiv 2006.09092 (theorem 3 and its corollaries for SGD and Adam).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.part import Part, check_range
from sooner.schedule._curvature import Curvature, fit_curvature, lanczos, measure_curvature
from sooner.schedule._kind import checked, kind_of

__all__ = ["BatchScaling", "Curvature", "fit_curvature", "lanczos", "measure_curvature", "scale_learning_rate"]


def scale_learning_rate(
    lr: float | Tensor,
    batch: int,
    new_batch: int,
    kind: str,
    *,
    saturation: float | None = None,
    limit: float | None = None,
) -> float | Tensor:
    """Return the learning rate for `new_batch` of a method that was tuned to `lr` at `batch`.

    Args:
        lr: the tuned learning rate.
        batch: the batch size it was tuned at.
        new_batch: the batch size it is wanted for.
        kind: "sgd" (linear) or "adam" (square root).
        saturation: batch size around which the growth levels off (`Curvature.saturation`); None for no levelling.
        limit: largest learning rate allowed (`Curvature.limit`); None for none.

    Raises:
        SoonerError: an unknown kind, or a number outside its range.
    """
    rule = checked("batch_scaling", kind)
    for name, value in (("base_batch", batch), ("batch", new_batch)):
        check_range("batch_scaling", name, value, 1, math.inf, whole=True)
    factor = new_batch / batch
    if saturation is not None and saturation != math.inf:
        check_range("batch_scaling", "saturation", saturation, 0.0, math.inf)
        factor = (1 + saturation / batch) / (1 + saturation / new_batch)
    scaled = lr * (factor if rule == "sgd" else math.sqrt(factor))
    if limit is None or limit == math.inf:
        return scaled
    check_range("batch_scaling", "limit", limit, 1e-300, math.inf)
    return scaled.clamp(max=limit) if isinstance(scaled, Tensor) else min(scaled, limit)


class BatchScaling(Part):
    """Scales the learning rates of an optimizer once, when it is made, so that any schedule goes on from there.

    In a recipe: ``batch_scaling(batch=512, base_batch=64) + adamw + cosine``. In a loop of your own make it before the
    schedule.

    Args:
        optimizer: the optimizer whose learning rates were tuned at `base_batch`.
        batch: the batch size of this run, at least 1.
        base_batch: the batch size that the learning rates were tuned at.
        kind: "sgd" (linear) or "adam" (square root); default None is "sgd" for classes named SGD, else "adam".
        saturation: batch size around which the growth levels off; default None for no levelling.
        limit: largest learning rate of any group; default None for none.

    Raises:
        SoonerError: a value outside its range, or a schedule already drives the optimizer.
    """

    station: ClassVar[str] = "schedule"
    owns = frozenset({"scale of the learning rate"})
    order = 10  # before the schedules, which take the learning rates they find as their base

    def __init__(
        self,
        optimizer: Optimizer,
        batch: int,
        base_batch: int,
        kind: str | None = None,
        saturation: float | None = None,
        limit: float | None = None,
    ) -> None:
        if any("initial_lr" in group for group in optimizer.param_groups):
            raise SoonerError(
                "batch_scaling: a schedule already drives this optimizer and would undo the scaling; "
                "make batch_scaling first"
            )
        rule = kind_of("batch_scaling", kind, optimizer)
        rates = [group["lr"] for group in optimizer.param_groups]
        scaled = [
            scale_learning_rate(rate, base_batch, batch, rule, saturation=saturation, limit=limit) for rate in rates
        ]
        for group, rate, new in zip(optimizer.param_groups, rates, scaled, strict=True):
            if isinstance(rate, Tensor):
                rate.copy_(torch.as_tensor(new))  # in place, as PyTorch's schedulers do: a captured graph may read it
            else:
                group["lr"] = new
        self._settings = {
            "batch": batch,
            "base_batch": base_batch,
            "kind": rule,
            "saturation": saturation,
            "limit": limit,
        }

    def step(self) -> None:
        """Do nothing: the scaling is done."""

    def state_dict(self) -> dict[str, Any]:
        """Return how the learning rates were scaled; the rates themselves are in the optimizer's state."""
        return dict(self._settings)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check that a saved run was scaled in the same way: loading the optimizer brings its rates along.

        Raises:
            SoonerError: it was scaled in another way.
        """
        for name, ours in self._settings.items():
            if state.get(name) != ours:
                raise SoonerError(
                    f"batch_scaling: the saved run has {name}={state.get(name)!r} where this one has {ours!r}; "
                    "resume with the same settings"
                )
