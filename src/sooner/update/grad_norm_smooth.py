"""Gradient-normalized smoothness: a damped Newton step on all data whose damping adapts by one number.

    trial = theta - (H + lambda I)^-1 g,   lambda = ||g|| / (gamma + 1e-8)
    accepted where  f(theta) - f(trial) >= ||g(trial)||^2 / (8 lambda):  gamma <- max(2 gamma, 1e-9)
    otherwise gamma <- gamma / 2 and another trial with the same H and g, at most 40 of them

H may be any approximation of the Hessian; where all trials fail the weights stay. For losses without noise: the whole
data set or one fixed batch, no dropout.

Use it when a convex problem or a last layer is to be solved exactly on all data.

Leave it when gradients come from mini-batches: the test for a step takes noise for progress.

It costs a matrix of curvatures, or products with it, per step, and a loss and gradient per trial; no state to speak
of; nothing on the wire.

Semenov, Jaggi and Doikov, 2025, arXiv 2506.13710, algorithm 1.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError, nearest
from sooner.execute.shards import is_sharded
from sooner.objective import Objective
from sooner.part import Part, check_range
from sooner.space import Knob, Log
from sooner.update._closure import Evaluation, Loss, NoLossError, RandomNumbers, aside, number_of_workers, unnoticed
from sooner.update._curvature import Local, conjugate_gradient, gauss_newton, hessian, value_and_gradient
from sooner.update._graphs import outside_graphs
from sooner.update._observing import Observing, nonzero
from sooner.update._parameters import check_parameters

TRIALS = 40
CURVATURES = {"gauss_newton": gauss_newton, "hessian": hessian}


class GradNormSmooth(Observing, Part, Optimizer):
    """Second-order steps with an adaptive trust region. A step waits for the device at every trial.

    It evaluates the closure itself, for its value, gradient and curvature; what is in ``.grad`` is neither read nor
    changed. All evaluations of a step see the same random numbers, and only the first counts in running statistics.
    Near the optimum it needs float64.

    Args:
        params: a model, its parameters or parameter groups (they share one region).
        gamma: first radius, above 0, default 1; the present one is kept in the groups under this name.
        lr: factor of every trial step, for schedules; default 1, the published method.
        curvature: "gauss_newton" (default; for losses made of cross-entropies, over classes or binary, exact where
            logits are linear in the parameters) or "hessian" (any loss; a trial where it is not positive fails).
        dense_limit: up to so many parameters the matrix is formed and factorised, default 2000; beyond it conjugate
            gradients solve with products.
        iterations: most products of one solve, default 250.
        tolerance: relative residual at which a solve ends, default 1e-6.

    Attributes:
        stuck: whether all trials of the last step failed, so that it moved nothing.

    Raises:
        SoonerError: a hyper-parameter outside its range, or parameters that no optimizer takes.
    """

    station: ClassVar[str] = "update"
    needs = frozenset({"closure"})
    tells_gradients: ClassVar[bool] = False  # it makes its own, one after the other
    owns = frozenset({"step"})
    space: ClassVar[Mapping[str, Knob]] = {"gamma": Log(1e-3, 1e3)}
    stuck: bool = False

    def __init__(
        self,
        params: Any,
        gamma: float = 1.0,
        lr: float = 1.0,
        curvature: str = "gauss_newton",
        dense_limit: int = 2000,
        iterations: int = 250,
        tolerance: float = 1e-6,
    ) -> None:
        if curvature not in CURVATURES:
            known = ", ".join(CURVATURES)
            raise SoonerError(
                f"{self.name()}: curvature={curvature!r}{nearest(str(curvature), CURVATURES)} is not one of {known}; "
                "choose one of them"
            )
        check_range(self.name(), "gamma", gamma, 1e-9, math.inf)
        check_range(self.name(), "lr", lr, 0.0, math.inf)
        check_range(self.name(), "dense_limit", dense_limit, 0, math.inf, whole=True)
        check_range(self.name(), "iterations", iterations, 1, math.inf, whole=True)
        check_range(self.name(), "tolerance", tolerance, 0.0, 1.0, open_high=True)
        listed = list(params.parameters() if isinstance(params, torch.nn.Module) else params)
        groups = listed if listed and isinstance(listed[0], dict) else [{"params": listed}]
        if check_parameters(self.name(), groups) == 0:
            raise SoonerError(f"{self.name()}: the parameter list is empty; pass model.parameters() anew")
        solving = {"dense_limit": dense_limit, "iterations": iterations, "tolerance": tolerance}
        super().__init__(groups, {"lr": lr, "gamma": gamma, "curvature": curvature, **solving})

    @outside_graphs
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Tensor | None:  # type: ignore[override]
        """Search one step and take it.

        Args:
            closure: an `Objective`, or any function that returns the loss, always the same; where it calls backward,
                that is held back. None where the loss is given by `observe`.

        Returns:
            The loss before the step, 0-d; None where the closure gives none (it returned None, to skip the batch).

        Raises:
            SoonerError: neither a closure nor anything observed, a loss without cross-entropies where the curvature is
                Gauss-Newton, or parameters that are frozen, sharded or have sparse gradients.
        """
        if self._sets_up(closure):
            return None
        if closure is not None and self._observed is not None and not isinstance(closure, Objective):
            with unnoticed(self.name(), self._parameters()), torch.enable_grad(), contextlib.suppress(NoLossError):
                Loss(self.name(), closure)()  # it may observe
            closure = None
        evaluate = self._evaluation(closure)
        parameters = [p for p in self._parameters() if p.requires_grad]
        if not parameters:
            raise SoonerError(f"{self.name()}: no parameter requires a gradient; unfreeze one")
        if any(is_sharded(p) for p in parameters):
            raise SoonerError(
                f"{self.name()} solves for all weights at once and takes no sharded ones; use another part"
            )
        present = [(p, p.grad) for p in parameters if p.grad is not None]
        try:
            with aside(self.name(), self._parameters()):
                return self._search(evaluate, parameters, present)
        except NoLossError:
            if self._observed is not None or present:
                raise
            return None

    def _search(
        self, evaluate: Objective | Loss, parameters: list[Tensor], present: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        start = RandomNumbers(parameters)
        local = self._local(evaluate, parameters)
        if isinstance(evaluate, Loss) and evaluate.adds:
            self._refuse_accumulation(nonzero(present))
        if number_of_workers() > 1:
            raise SoonerError(
                f"{self.name()} solves for the loss of one worker, so that workers who share a model would go apart; "
                "evaluate all data on one worker"
            )
        with unnoticed(self.name(), parameters):
            return self._trials(evaluate, parameters, local, start)

    def _trials(self, evaluate: Evaluation, parameters: list[Tensor], local: Local, start: RandomNumbers) -> Tensor:
        settings = self.param_groups[0]
        matrix = local.matrix() if len(local.gradient) <= settings["dense_limit"] else None
        before, loss, size = [p.detach().clone() for p in parameters], local.loss, float(local.gradient.norm())
        gamma = settings["gamma"]
        self.stuck = size != 0
        for _ in range(TRIALS if self.stuck else 0):
            damping = size / (gamma + 1e-8)
            way = self._solve(local, matrix, damping)
            if way is not None:
                self._move(parameters, before, way)
                start.rewind()
                now, slope = value_and_gradient(self.name(), evaluate, parameters)
                if float(loss) - float(now) >= float(slope.norm()) ** 2 / (8 * damping):
                    self.stuck = False
                    for group in self.param_groups:
                        group["gamma"] = max(2 * gamma, 1e-9)
                    break
                torch._foreach_copy_(parameters, before)
                if matrix is None:  # its graphs ended with the move
                    start.rewind()
                    local = self._local(evaluate, parameters)
            gamma /= 2
        return loss

    def _local(self, evaluate: Evaluation, parameters: list[Tensor]) -> Local:
        return CURVATURES[self.param_groups[0]["curvature"]](self.name(), evaluate, parameters)

    def _solve(self, local: Local, matrix: Tensor | None, damping: float) -> Tensor | None:
        """Return ``(H + damping I)^-1 g [D]``; None where that matrix is not positive definite."""
        if matrix is None:
            settings = self.param_groups[0]
            return conjugate_gradient(
                lambda v: local.product(v, False) + damping * v,
                local.gradient,
                settings["iterations"],
                settings["tolerance"],
            )
        damped = matrix.clone()
        damped.diagonal().add_(damping)
        factor, failed = torch.linalg.cholesky_ex(damped)
        return None if bool(failed) else torch.cholesky_solve(local.gradient.unsqueeze(1), factor).squeeze(1)

    def _move(self, parameters: list[Tensor], before: list[Tensor], way: Tensor) -> None:
        rates = [group["lr"] for group in self.param_groups for p in group["params"] if p.requires_grad]
        pieces = torch.split(way, [p.numel() for p in parameters])
        moved = [
            (b - rate * piece.view_as(b)).to(b.dtype) for b, rate, piece in zip(before, rates, pieces, strict=True)
        ]
        torch._foreach_copy_(parameters, moved)
