"""How to split a compute budget between model size and training tokens, under a fitted law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fitted import FAR, LEVEL, Fit
from sooner.forecast.laws.chinchilla import Chinchilla
from sooner.forecast.table import FLOP_PER_PARAMETER_AND_TOKEN, FloatArray
from sooner.forecast.table import table as make

_FINE = 401
_SPAN = 1e4
"""The sizes searched reach this factor to either side of the square root of the budget."""


@dataclass(frozen=True)
class Range:
    """A value with the ends of its band."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Allocation:
    """The best split of a budget.

    Args:
        compute: training FLOP.
        parameters: model size.
        tokens: training tokens.
        loss: predicted there.
        level: of the bands.
        inference_tokens: tokens to be served, whose cost 2 N per token was part of the budget.
        warnings: why to doubt it.
    """

    compute: float
    parameters: Range
    tokens: Range
    loss: Range
    level: float
    inference_tokens: float
    warnings: tuple[str, ...]

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens per parameter at the best split."""
        return self.tokens.value / self.parameters.value


def split(values: FloatArray, compute: float) -> tuple[FloatArray, FloatArray]:
    """Return (k,) best N and D of a Chinchilla law for a training budget, in closed form.

    Hoffmann et al., 2022, arXiv 2203.15556, eq. 4: N = G (C/6)^(beta/(alpha+beta)), D = (C/6) / N, with
    G = (alpha A / (beta B))^(1/(alpha+beta)).

    Args:
        values: (k, 5) parameters E, A, B, alpha, beta.
        compute: training FLOP.
    """
    _, a, b, alpha, beta = values.T
    product = compute / FLOP_PER_PARAMETER_AND_TOKEN
    log_g = (np.log(alpha) + np.log(a) - np.log(beta) - np.log(b)) / (alpha + beta)
    size = np.exp(log_g + beta / (alpha + beta) * np.log(product))
    return size, product / size


def allocate(fit: Fit, compute: float, *, inference_tokens: float = 0.0, level: float = LEVEL) -> Allocation:
    """Return the model size and tokens with the lowest predicted loss for a budget.

    Args:
        fit: of a law in parameters and tokens.
        compute: budget in FLOP: 6 N D for training plus 2 N per token served.
        inference_tokens: tokens to be served over the model's life; 0 counts training alone.
        level: of the bands.

    Raises:
        SoonerError: the law reads other columns, or the budget is no positive number.
    """
    if not (np.isfinite(compute) and compute > 0):
        raise SoonerError(f"the budget is {compute:g} FLOP; give a positive number, such as 1e21")
    if not (np.isfinite(inference_tokens) and inference_tokens >= 0):
        raise SoonerError(f"the tokens to be served are {inference_tokens:g}; give zero or more")
    if set(fit.law.needs) != {"parameters", "tokens"}:
        raise SoonerError(
            f"{fit.law.name} reads {', '.join(fit.law.needs)}; a budget is split under a law in parameters and tokens, "
            "such as chinchilla"
        )
    every = np.concatenate([fit.values[None], fit.draws])
    if isinstance(fit.law, Chinchilla) and inference_tokens == 0:
        sizes, tokens = split(every, compute)
    else:
        sizes, tokens = _search(fit, every, compute, inference_tokens)
    where = make(parameters=sizes[0], tokens=tokens[0])
    made = fit.predict(where, level)
    warnings = list(made.warnings)
    spent = fit.table.require("compute")["compute"].max()
    if compute > FAR * spent and not any("compute" in warning for warning in warnings):
        warnings.append(
            f"the budget {compute:.3g} is {compute / spent:.0f} times the largest fitted ({spent:.3g}); beyond "
            f"{FAR:.0f} times, bands are a guess"
        )
    return Allocation(
        float(compute),
        _range(sizes, level),
        _range(tokens, level),
        Range(float(made.value[0]), float(made.low[0]), float(made.high[0])),
        level,
        float(inference_tokens),
        tuple(warnings),
    )


def compute_for(fit: Fit, loss: float, *, inference_tokens: float = 0.0) -> float:
    """Return the smallest budget in FLOP that reaches a loss, by bisection of its logarithm.

    Raises:
        SoonerError: no budget up to 1e40 FLOP does.
    """

    def reached(compute: float) -> float:
        return allocate(fit, compute, inference_tokens=inference_tokens).loss.value

    low, high = 0.0, 40.0
    if reached(10**high) > loss:
        floor = f" (the floor is {fit[fit.law.floor]:.4g})" if fit.law.floor else ""
        raise SoonerError(f"no budget reaches the loss {loss:g} under {fit.law.name}{floor}; give a higher target")
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(10**middle) > loss else (low, middle)
    return float(10**high)


def _range(values: FloatArray, level: float) -> Range:
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    value = float(values[0])
    return Range(value, min(float(low), value), max(float(high), value))


def _search(fit: Fit, values: FloatArray, compute: float, served: float) -> tuple[FloatArray, FloatArray]:
    """Return the best split on a fine grid of sizes, refined by a parabola through the three best."""
    centre = np.sqrt(compute / FLOP_PER_PARAMETER_AND_TOKEN)
    logs = np.linspace(np.log(centre / _SPAN), np.log(centre * _SPAN), _FINE)
    sizes = np.exp(logs)
    tokens = (compute - 2 * sizes * served) / (FLOP_PER_PARAMETER_AND_TOKEN * sizes)
    possible = tokens > 1
    if possible.sum() < 3:
        raise SoonerError(
            f"serving {served:.3g} tokens alone costs more than the budget of {compute:.3g} FLOP; raise the budget"
        )
    logs, sizes, tokens = logs[possible], sizes[possible], tokens[possible]
    at = fit.law.table(make(parameters=sizes, tokens=tokens), target=False)
    losses = fit.law.predict(values, fit.law.prepare(at))
    best = np.clip(np.argmin(losses, axis=1), 1, len(logs) - 2)
    rows = np.arange(len(values))
    left, middle, right = (losses[rows, best + k] for k in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend > 0, np.clip((left - right) / (2 * np.where(bend > 0, bend, 1.0)), -1, 1), 0.0)
    chosen = np.exp(logs[best] + shift * (logs[1] - logs[0]))
    return chosen, (compute - 2 * chosen * served) / (FLOP_PER_PARAMETER_AND_TOKEN * chosen)
