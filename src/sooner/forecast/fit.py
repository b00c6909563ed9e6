"""Fitting a law: many starts at once, then draws of the parameters, so that every prediction has a band."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sooner.error import SoonerError
from sooner.forecast.diagnose import fit_warnings
from sooner.forecast.fitted import Fit, link
from sooner.forecast.formula import Formula
from sooner.forecast.solve import Solution, solve
from sooner.forecast.table import FloatArray, Table

PRIOR_NOISE = 0.01
"""How far a law that fits well is off in practice, relative: the papers' own held-out errors are 0.3 to 3 %."""
PRIOR_ROWS = 3.0
"""How many rows that prior belief counts for; it matters only where a law is fitted on a handful of runs."""
SEED_NOISE = 0.001
"""Relative spread of the final loss over seeds, where the table does not show it; published: 0.0003 to 0.001."""
_STARTS = 400
_FEW_STARTS = 24
_LOOSE = 1e-5
"""Tolerance of the refits: far below what noise moves the objective by, and flat valleys are left sooner."""
_RUNS_PER_PARAMETER = 3
_PRIOR_STEP = 1e-4
"""A prior's distance in deviations is scaled by this, so that Huber's loss of it stays a square."""
_PRIOR_AGAINST = 10.0
"""How many independent rows the rows of curves are worth against a prior: they follow their law together."""


@dataclass
class _Coordinates:
    """The parameters as they are fitted: positive ones by their logarithm."""

    law: Formula
    logarithmic: npt.NDArray[np.bool_] = field(init=False)
    lower: FloatArray = field(init=False)
    upper: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.logarithmic = np.array([p.scale == "log" for p in self.law.parameters])
        self.lower = self.inside(np.array([[p.low for p in self.law.parameters]]))[0]
        self.upper = self.inside(np.array([[p.high for p in self.law.parameters]]))[0]

    def inside(self, values: FloatArray) -> FloatArray:
        safe = np.where(self.logarithmic, np.maximum(values, 1e-300), 1.0)
        return np.where(self.logarithmic, np.log(safe), values)

    def outside(self, inner: FloatArray) -> FloatArray:
        return np.where(self.logarithmic, np.exp(np.where(self.logarithmic, inner, 0.0)), inner)


def fit(law: Formula, table: Table, *, draws: int = 200, seed: int = 0) -> Fit:
    """Fit a law from all its starts, then refit it on `draws` resampled tables for the bands.

    Args:
        law: the law.
        table: measurements; columns that the law needs are derived where possible.
        draws: refits, 2 or more.
        seed: of the resampling.

    Raises:
        SoonerError: missing columns, values that can't be, or fewer rows than parameters.
    """
    made: Fit = law.fit(table, draws=draws, seed=seed)
    return made


def at_best(law: Formula, known: Table, at: Table) -> FloatArray:
    """Return (n,) what the law says at some rows, fitted to others from its few best starts: quick, without a band.

    Args:
        law: the law.
        known: rows that it is fitted to.
        at: rows that it is asked at.

    Raises:
        SoonerError: as for `fit`.
    """
    found = best(law, law.table(known), most=_FEW_STARTS)
    values = _Coordinates(law).outside(found.values[found.best])
    made: FloatArray = law.predict(values[None], law.prepare(law.table(at, target=False)))[0]
    return made


def fit_one(law: Formula, table: Table, *, draws: int, seed: int) -> Fit:
    """Fit a single law; see `fit`."""
    table = law.table(table)
    count = int((law.weights(table) > 0).sum())
    if count < len(law.parameters):
        raise SoonerError(
            f"{law.name} has {len(law.parameters)} parameters and the table {count} "
            f"row{'s' * (count != 1)}; add runs, or choose a law with fewer parameters"
        )
    found = best(law, table, seed=seed)
    coordinates = _Coordinates(law)
    values = coordinates.outside(found.values[found.best])
    made, noise, how = _resample(law, table, found.values[found.best], draws, seed)
    done = Fit(
        law,
        table,
        values,
        float(found.objective[found.best]),
        found.objective,
        coordinates.outside(found.values),
        made,
        noise,
        how,
        (),
        seed,
    )
    return replace(done, warnings=fit_warnings(done))


def _model(law: Formula, table: Table, coordinates: _Coordinates) -> Callable[[FloatArray], FloatArray]:
    """Return the model of the rows, after which comes the law's prior, if it has one."""
    data = law.prepare(table)
    prior = law.prior
    if prior is None:
        return lambda inner: link(law, law.predict(coordinates.outside(inner), data))
    index = [parameter.name for parameter in law.parameters].index(prior.name)

    def model(inner: FloatArray) -> FloatArray:
        rows = link(law, law.predict(coordinates.outside(inner), data))
        apart = (inner[:, index : index + 1] - np.log(prior.centre)) / prior.deviation
        return np.concatenate([rows, _PRIOR_STEP * apart], axis=1)

    return model


def _rows(law: Formula, target: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return targets (n,) and weights (n,) or (k, n) of the rows, with one more for the law's prior, if it has one."""
    if law.prior is None:
        return target, weights
    # half the squared distance, in deviations, against rows that are worth _PRIOR_AGAINST independent ones
    against = law.prior.noise**2 * float(weights.sum(axis=-1).max()) / _PRIOR_AGAINST
    load = np.full((*weights.shape[:-1], 1), against / _PRIOR_STEP**2)
    return np.append(target, 0.0), np.concatenate([weights, load], axis=-1)


def best(
    law: Formula, table: Table, *, weights: FloatArray | None = None, seed: int = 0, most: int = _STARTS
) -> Solution:
    """Return where all starts, or at most so many, end, in the coordinates of the fit; the most promising are polished.

    Args:
        law: the law.
        table: as the law wants it.
        weights: (n,) of the rows, beside the law's own.
        seed: of the choice among the starts.
        most: starts.
    """
    coordinates = _Coordinates(law)
    starts = coordinates.inside(law.starts(table))
    if len(starts) > most:
        starts = np.random.default_rng(seed).permutation(starts)[:most]
    model = _model(law, table, coordinates)
    bounds = (coordinates.lower, coordinates.upper)
    weights = law.weights(table) * (1.0 if weights is None else weights)
    target, weights = _rows(law, link(law, table[law.target]), weights)
    rough = solve(model, target, starts, *bounds, delta=law.delta, weights=weights, iterations=40, tolerance=1e-4)
    order = np.argsort(rough.objective)
    front = order[: max(8, len(order) // 8)]
    fine = solve(model, target, rough.values[front], *bounds, delta=law.delta, weights=weights, iterations=400)
    rough.values[front], rough.objective[front] = fine.values, fine.objective
    if not np.isfinite(rough.objective).any():
        raise SoonerError(
            f"{law.name} could not be fitted: no start gave finite predictions; check the units of the columns"
        )
    return rough


def _resample(
    law: Formula, table: Table, inner: FloatArray, draws: int, seed: int
) -> tuple[FloatArray, FloatArray, str]:
    """Return (draws, p) parameters of refits, the noise of each draw, and how they were made."""
    random = np.random.default_rng(seed)
    coordinates = _Coordinates(law)
    model = _model(law, table, coordinates)
    target = link(law, table[law.target])
    fitted = model(inner[None])[0][: len(table)]
    residual = target - fitted
    weights = law.weights(table)
    kept = weights > 0
    runs, which = np.unique(table.run, return_inverse=True)
    independent = sum(effective_rows(residual[(which == k) & kept]) for k in range(len(runs)))
    freedom = max(independent - len(law.parameters), 0.0)
    typical = PRIOR_NOISE
    if law.link == "identity":  # of the loss's level, or of the range of an accuracy or error
        typical *= float(np.median(target) if law.target == "loss" else np.ptp(target) or 1.0)
    # along a curve the noise falls with the step, and what lies ahead has that of its end
    late = table["step"] if law.over == "step" and "step" in table else np.ones(len(table))
    spread = float(np.average(residual**2, weights=np.where(kept, np.maximum(late, 1e-9), 0.0))) * independent
    total = PRIOR_ROWS + freedom
    noise = np.sqrt((PRIOR_ROWS * typical**2 + spread) / random.chisquare(total, draws))
    if law.link == "log":
        # how far another seed would be off is not in the residuals of a single run: the fit took its deviation up
        noise = np.hypot(noise, SEED_NOISE) if len(runs) == 1 else np.maximum(noise, SEED_NOISE)
    bounds = (coordinates.lower, coordinates.upper)
    start = np.repeat(inner[None], draws, axis=0)
    many = len(runs) >= _RUNS_PER_PARAMETER * len(law.parameters)
    if many:
        counts = random.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=draws)
        aim, loads = _rows(law, target, weights * counts[:, which])
        found = solve(model, aim, start, *bounds, delta=law.delta, weights=loads, tolerance=_LOOSE)
        how = f"bootstrap over {len(runs)} runs, {draws} refits"
    else:
        shock = random.standard_normal((draws, len(runs)))[:, which] * noise[:, None]
        shaken = fitted + shock + residual * _block_signs(which, residual, draws, random)
        _, loads = _rows(law, target, weights)
        if law.prior is not None:
            shaken = np.concatenate([shaken, _PRIOR_STEP * random.standard_normal((draws, 1))], axis=1)
        found = solve(model, shaken, start, *bounds, delta=np.inf, weights=loads, tolerance=_LOOSE)
        how = (
            f"{draws} refits on the law plus noise, as {len(runs)} run{'s' * (len(runs) > 1)} "
            f"{'are' if len(runs) > 1 else 'is'} too few to resample"
        )
    return coordinates.outside(found.values), noise, how


def refit(fitted: Fit, weights: FloatArray) -> FloatArray:
    """Return (k, p) parameters of refits from the best fit, with weights (k, n) of the rows."""
    coordinates = _Coordinates(fitted.law)
    model = _model(fitted.law, fitted.table, coordinates)
    start = np.repeat(coordinates.inside(fitted.values[None]), len(weights), axis=0)
    bounds = (coordinates.lower, coordinates.upper)
    target = link(fitted.law, fitted.table[fitted.law.target])
    target, loads = _rows(fitted.law, target, weights * fitted.law.weights(fitted.table))
    found = solve(model, target, start, *bounds, delta=fitted.law.delta, weights=loads, tolerance=1e-7)
    return coordinates.outside(found.values)


def effective_rows(residual: FloatArray) -> float:
    """Return how many independent rows a run's residuals are worth, by their lag-1 correlation; 1 for a single row."""
    if len(residual) < 3:
        return float(len(residual) > 0)
    centred = residual - residual.mean()
    power = float(centred @ centred)
    correlation = float(centred[1:] @ centred[:-1]) / power if power > 0 else 0.0
    correlation = min(max(correlation, 0.0), 0.999)
    return max(1.0, len(residual) * (1 - correlation) / (1 + correlation))


def _block_signs(
    which: npt.NDArray[np.intp], residual: FloatArray, draws: int, random: np.random.Generator
) -> FloatArray:
    """Return (draws, n) random signs, the same within blocks of a run: refits keep the runs' own wiggles."""
    signs = np.zeros((draws, len(which)))
    for run in range(which.max() + 1):
        rows = np.flatnonzero(which == run)
        if len(rows) < 3:
            continue
        length = max(1, round(len(rows) / effective_rows(residual[rows])))
        block = np.arange(len(rows)) // length
        signs[:, rows] = random.choice([-1.0, 1.0], size=(draws, block.max() + 1))[:, block]
    return signs
