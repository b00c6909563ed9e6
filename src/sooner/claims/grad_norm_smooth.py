"""Newton steps damped by gradient-normalized smoothness converge linearly with an approximate Hessian."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.claims._claim import Claim, Criterion, Measurement, Regime
from sooner.update.grad_norm_smooth import GradNormSmooth

PRECISION = 1e-8
LONGEST = 20_000
ARMS = ("gauss_newton", "hessian", "descent", "lbfgs")
PROBLEMS = ("digits", "cancer")


def problem(name: str) -> tuple[Tensor, Tensor, nn.Parameter]:
    """Return standardised features with a constant (float64), labels, and weights [features, classes or 1] at 0."""
    from sklearn.datasets import load_breast_cancer, load_digits

    x, y = (load_digits if name == "digits" else load_breast_cancer)(return_X_y=True)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-12)
    features = torch.from_numpy(np.c_[x, np.ones(len(x))])
    outputs = 10 if name == "digits" else 1
    return features, torch.from_numpy(y), nn.Parameter(torch.zeros(features.shape[1], outputs, dtype=torch.float64))


def solve(arm: str, name: str, longest: int) -> dict[str, Any]:
    """Minimise a regularised cross-entropy; return the excess loss after every iteration until it is below 1e-8.

    The regularisation of 1e-3 makes the minimum unique; it is found first, by the method itself to 1e-15.
    """
    x, y, theta = problem(name)

    def loss() -> Tensor:
        logits = x @ theta
        data = (
            F.cross_entropy(logits, y)
            if name == "digits"
            else F.binary_cross_entropy_with_logits(logits[:, 0], y.double())
        )
        return data + 5e-4 * theta.square().sum()

    least = _minimum(theta, loss)
    step = _stepper(arm, theta, loss)
    values = []
    for iteration in range(1, longest + 1):
        step()
        values.append(float(loss().detach()) - least)
        if values[-1] <= PRECISION:
            logs = np.log(np.maximum(values, 1e-16))
            fit = np.corrcoef(np.arange(len(logs)), logs)[0, 1] ** 2 if len(logs) > 2 else 1.0
            return {"iterations": iteration, "linear fit": float(fit)}
    return {"iterations": None, "linear fit": None}


def _minimum(theta: nn.Parameter, loss: Any) -> float:
    optimizer = GradNormSmooth([theta])
    least = float(loss().detach())
    for _ in range(100):
        optimizer.step(loss)
        before, least = least, min(least, float(loss().detach()))
        if before - least < 1e-15:
            break
    with torch.no_grad():
        theta.zero_()
    return least


def _stepper(arm: str, theta: nn.Parameter, loss: Any) -> Any:
    if arm in ("gauss_newton", "hessian"):
        newton = GradNormSmooth([theta], curvature=arm)
        return lambda: newton.step(loss)
    if arm == "lbfgs":
        quasi = torch.optim.LBFGS(
            [theta], max_iter=1, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0
        )

        def closure() -> Tensor:
            quasi.zero_grad()
            value: Tensor = loss()
            torch.autograd.backward(value)
            return value

        return lambda: quasi.step(closure)  # type: ignore[no-untyped-call]
    return _Descent(theta, loss)


class _Descent:
    """Gradient descent with backtracking to sufficient decrease, the baseline of the authors' code."""

    def __init__(self, theta: nn.Parameter, loss: Any) -> None:
        self.theta, self.loss, self.length = theta, loss, 1.0

    def __call__(self) -> None:
        (gradient,) = torch.autograd.grad(value := self.loss(), [self.theta])
        start, self.length = self.theta.detach().clone(), 2 * self.length
        with torch.no_grad():
            while True:
                self.theta.copy_(start - self.length * gradient)
                if float(value - self.loss()) >= self.length / 2 * float(gradient.square().sum()):
                    return
                self.length /= 2
                if self.length < 1e-12:
                    return


CASES = [{"arm": arm, "name": name, "longest": LONGEST} for name in PROBLEMS for arm in ARMS]
SMALL = [{"arm": arm, "name": "cancer", "longest": 14} for arm in ("gauss_newton", "descent")]

CLAIM = Claim(
    part="grad_norm_smooth",
    paper="grad-norm-smooth",
    headline="Global linear rates for logistic and softmax problems with approximate Hessians.",
    source="Semenov et al., 2025, arXiv 2506.13710, abstract",
    experiment=(
        "Softmax regression on digits and logistic regression on the breast-cancer data, full batch in float64 from "
        "0: iterations until the loss is within 1e-8 of its minimum, with the Gauss-Newton matrix, the exact Hessian, "
        "gradient descent with backtracking, and L-BFGS."
    ),
    baseline="Gradient descent with backtracking, L-BFGS (torch, strong Wolfe), and the method with the exact Hessian.",
    experiments={"convex": Measurement(solve, CASES, SMALL)},
    criteria=[
        Criterion(
            "with the approximate Hessian at most 3x of the iterations with the exact one",
            lambda f: f.paired_ratio("convex", "iterations", {"arm": "gauss_newton"}, {"arm": "hessian"}),
            at_most=3.0,
        ),
        Criterion(
            "at most 0.05x of the iterations of gradient descent",
            lambda f: f.paired_ratio("convex", "iterations", {"arm": "gauss_newton"}, {"arm": "descent"}),
            at_most=0.05,
        ),
        Criterion(
            "the logarithm of the excess falls along a line: R squared at least 0.95 (logistic regression)",
            lambda f: f.mean("convex", "linear fit", arm="gauss_newton", name="cancer"),
            at_least=0.95,
        ),
        Criterion(
            "iterations tell methods apart: L-BFGS takes at most 0.5x of those of gradient descent",
            lambda f: f.paired_ratio("convex", "iterations", {"arm": "lbfgs"}, {"arm": "descent"}),
            at_most=0.5,
            positive=True,
        ),
    ],
    trend={
        "iterations over those of L-BFGS": lambda f: f.paired_ratio(
            "convex", "iterations", {"arm": "gauss_newton"}, {"arm": "lbfgs"}
        )
    },
    regime=Regime(
        "logistic and softmax regression, exact gradients in double precision",
        "a second-order method",
        "none: the step follows from the gradient",
        "none",
        "the same kind of problem",
        start="zero",
    ),
    minutes=3,
    limits="Two small convex problems with a little regularisation; an iteration factorises a matrix.",
    extra="sklearn",
)
