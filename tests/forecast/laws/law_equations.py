"""One case per law: rows, true parameters, and the paper's equation written out, one row at a time in plain Python."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sooner.forecast.law import Law
from sooner.forecast.laws import classes
from sooner.forecast.table import Table, table

Row = dict[str, float]


@dataclass(frozen=True)
class Case:
    """A law with parameters to recover.

    Args:
        law: the law.
        truth: its parameters.
        equation: from parameters and a row to the target.
        columns: the rows to fit.
        far: the rows to predict, at four times the range.
    """

    law: Law
    truth: tuple[float, ...]
    equation: Callable[..., float]
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    far: dict[str, np.ndarray] = field(default_factory=dict)

    def rows(self, noise: float = 0.0, seed: int = 0) -> Table:
        made = self._table(self.columns)
        shock = noise * np.random.default_rng(seed).standard_normal(len(made))
        clean = made[self.law.target]
        scale = clean if self.law.link == "log" else np.ptp(clean)
        return made.plus(**{self.law.target: clean + scale * shock})

    def targets(self) -> Table:
        return self._table(self.far)

    def _table(self, columns: dict[str, np.ndarray]) -> Table:
        names = list(columns)
        rows = [dict(zip(names, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]
        target = [self.equation(*self.truth, **row) for row in rows]
        return table(**columns, **{self.law.target: target})


def cross(**columns) -> dict[str, np.ndarray]:
    """Return every combination of the values of the columns."""
    made = np.meshgrid(*map(np.asarray, columns.values()), indexing="ij")
    return {name: one.ravel().astype(float) for name, one in zip(columns, made, strict=True)}


def along(low: float, high: float, count: int = 30, column: str = "tokens") -> dict[str, dict[str, np.ndarray]]:
    return {"columns": {column: np.geomspace(low, high, count)}, "far": {column: np.array([2 * high, 4 * high])}}


def bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising function is zero."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return 0.5 * (low + high)


def chinchilla(e, a, b, alpha, beta, *, parameters, tokens):
    return e + a / parameters**alpha + b / tokens**beta


def power_floor(e, a, alpha, *, tokens):
    return e + a * tokens**-alpha


def kaplan(n_c, d_c, alpha_n, alpha_d, *, parameters, tokens):
    return ((n_c / parameters) ** (alpha_n / alpha_d) + d_c / tokens) ** alpha_d


def unraveled(n_c, alpha_n, s_c, alpha_s, b_star, alpha_b, *, parameters, step, batch):
    def gap(loss):
        b_crit = b_star / loss ** (1 / alpha_b)
        s_min = step / (1 + b_crit / batch)
        return loss - (n_c / parameters) ** alpha_n - (s_c / s_min) ** alpha_s

    return bisect(gap, 1e-3, 1e4)


def hestness(alpha, beta_g, gamma, *, tokens):
    return alpha * tokens**beta_g + gamma


def generative(l_inf, x0, alpha, *, tokens):
    return l_inf + (x0 / tokens) ** alpha


def overtraining(alpha, beta, b, e, *, parameters, tokens):
    m = tokens / parameters
    return alpha * parameters**b + beta * 6 ** (b / 2) * (m * parameters) ** b + e


def loss_to_error(epsilon, k, gamma, *, loss):
    return epsilon - k * math.exp(-gamma * loss)


def loss_to_accuracy(a, k, x0, b, *, loss):
    return a / (1 + math.exp(-k * (loss - x0))) + b


def data_constrained(e, a, b, alpha, beta, r_d, r_n, *, parameters, tokens, unique_tokens):
    unique = min(unique_tokens, tokens)
    g = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    compute = 6 * (unique * g) ** ((alpha + beta) / alpha)  # of the optimal run that sees the unique tokens once
    assert math.isclose(unique, (compute / 6) ** (alpha / (alpha + beta)) / g, rel_tol=1e-9)
    u_n = min(g * (compute / 6) ** (beta / (alpha + beta)), parameters)
    excess, repeats = parameters / u_n - 1, tokens / unique - 1
    model = u_n + u_n * r_n * (1 - math.exp(-excess / r_n))
    data = unique + unique * r_d * (1 - math.exp(-repeats / r_d))
    return e + a / model**alpha + b / data**beta


def mixture_of_experts(a, b, c, d, e_start, e_max, *, parameters, experts):
    hat = 1 / (1 / (experts - 1 + (1 / e_start - 1 / e_max) ** -1) + 1 / e_max)
    n, g = math.log10(parameters), math.log10(hat)
    return 10 ** (a * n + b * g + c * n * g + d)


def mixture_of_experts_floor(floor, a, b, c, d, e_start, e_max, *, parameters, experts):
    hat = 1 / (1 / (experts - 1 + (1 / e_start - 1 / e_max) ** -1) + 1 / e_max)
    return floor + 10**d * parameters**a * hat ** (b + c * math.log10(parameters))


def broken_power(a, b, c0, c1, d1, f1, *, tokens):
    return a + b * tokens**-c0 * (1 + (tokens / d1) ** (1 / f1)) ** (-c1 * f1)


def m1(beta, c, *, tokens):
    return beta * tokens**-c


def m3(beta, gamma, c, *, tokens):
    return beta * (tokens**-1 + gamma) ** c


def m4(l_inf, l_0, alpha, beta, c, *, tokens):
    return bisect(lambda y: (y - l_inf) / (l_0 - y) ** alpha - beta * tokens**-c, l_inf, l_0 * (1 - 1e-15))


def saturating(a, b, c, d, *, compute):
    return a * (compute + b) ** c + d


SIZES, TOKENS = np.geomspace(1e7, 1e9, 6), np.geomspace(1e9, 1e11, 6)
GRID = {
    "columns": cross(parameters=SIZES, tokens=TOKENS),
    "far": cross(parameters=[2e9, 4e9], tokens=[2e11, 4e11]),
}
TRAJECTORIES = {
    "columns": cross(parameters=[1e6, 4e6, 1.6e7], step=np.geomspace(300, 30000, 8), batch=[1e4, 8e4, 6.4e5]),
    "far": cross(parameters=[6.4e7], step=[6e4, 1.2e5], batch=[2e4, 2e6]),
}
REPEATED = {
    "columns": cross(
        parameters=[1e8, 4e8, 1.6e9], tokens=[2e9, 8e9, 3.2e10, 1.28e11], unique_tokens=[5e8, 2e9, 1.6e10]
    ),
    "far": cross(parameters=[3.2e9, 6.4e9], tokens=[2.56e11, 5.12e11], unique_tokens=[6.4e10]),
}
ROUTED = {
    "columns": cross(parameters=[2e7, 6e7, 1.5e8, 4e8], experts=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512]),
    "far": cross(parameters=[8e8, 1.6e9], experts=[1024, 2048]),
}
LOSSES = {"columns": {"loss": np.linspace(2.2, 4.5, 25)}, "far": {"loss": np.array([1.9, 2.0])}}
MIDDLE = {"columns": {"loss": np.linspace(0.5, 1.6, 25)}, "far": {"loss": np.array([0.35, 0.45])}}
COMPUTE = along(1e14, 1e20, column="compute")

_GIVEN: dict[str, tuple] = {
    "chinchilla": ((1.8, 480.0, 2100.0, 0.35, 0.37), chinchilla, GRID),
    "power_floor": ((1.7, 40.0, 0.2), power_floor, along(1e5, 1e9)),
    "kaplan": ((8.8e13, 5.4e13, 0.076, 0.095), kaplan, GRID),
    "unraveled": ((8.8e13, 0.076, 2100.0, 0.76, 2e8, 0.21), unraveled, TRAJECTORIES),
    "hestness": ((9.0, -0.25, 0.4), hestness, along(1e3, 1e6)),
    "generative": ((1.5, 2e4, 0.25), generative, along(1e5, 1e9)),
    "overtraining": ((166.0, 366.0, -0.27, 1.84), overtraining, GRID),
    "loss_to_error": ((0.86, 2.2, 0.71), loss_to_error, LOSSES),
    "loss_to_accuracy": ((-0.7, 4.0, 0.9, 0.98), loss_to_accuracy, MIDDLE),
    "data_constrained": ((1.87, 521.0, 1488.0, 0.353, 0.353, 15.4, 5.3), data_constrained, REPEATED),
    "mixture_of_experts": ((-0.082, -0.108, 0.009, 1.104, 1.85, 314.0), mixture_of_experts, ROUTED),
    "mixture_of_experts_floor": ((1.4, -0.16, -0.2, 0.015, 1.5, 2.0, 300.0), mixture_of_experts_floor, ROUTED),
    "broken_power": ((0.3, 4.0, 0.1, 0.4, 1e5, 0.5), broken_power, along(1e3, 1e8, 40)),
    "m1": ((40.0, 0.2), m1, along(1e5, 1e9)),
    "m3": ((9.0, 1e-6, 0.3), m3, along(1e3, 1e8)),
    "m4": ((0.1, 1.0, 0.8, 30.0, 0.4), m4, along(1e2, 1e7, 40)),
    "saturating": ((30.0, 1e15, -0.12, 0.1), saturating, COMPUTE),
}
CASES = {name: Case(classes()[name](), truth, equation, **places) for name, (truth, equation, places) in _GIVEN.items()}
# without a loss this law's own accuracy is below 1, and the ideal point has to say so for the law to be recovered
CASES["loss_to_accuracy"].law.ideal = loss_to_accuracy(*_GIVEN["loss_to_accuracy"][0], loss=1e-6)
