"""Whether bands hold and what they cost: coverage and interval score by how far the forecast reaches.

Every set is forecast from rolling origins: what lies beyond the origin is held out, and the factor is how many times
the origin it lies away. The interval score of a band [l, u] at level 1 - a is u - l plus 2 / a times the distance by
which the truth y lies outside (Gneiting and Raftery, 2007, Journal of the American Statistical Association 102, eq.
43); here relative to the truth, in per cent, lower is better.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _forecast_curves import ISOFLOP, PEAK, STEP_HINTS, WARMUP
from _forecast_rows import LEAST, LEVEL, MOST, opened

from sooner.error import SoonerError
from sooner.forecast.consensus import Consensus
from sooner.forecast.curve import forecast_curve
from sooner.forecast.fit import fit
from sooner.forecast.law import Law
from sooner.forecast.laws.chinchilla import Chinchilla
from sooner.forecast.laws.overtraining import Overtraining
from sooner.forecast.read import read
from sooner.forecast.schedules import Schedule, parse
from sooner.forecast.table import Table, table

FACTORS = (2.0, 10.0, 100.0)
EDGES = (1.3, 4.5, 32.0, 320.0)
"""Rows count for the factor between whose edges they lie."""
DRAWS = 60
SHORTEST = 8
"""Rows that must be known of a curve."""
CUTS = 3
"""Origins of a set of final losses, evenly in the logarithm of compute."""
MPL = {
    "constant_24000": "constant:peak=3e-4,warmup=2160,total=24000",
    "constant_72000": "constant:peak=3e-4,warmup=2160,total=72000",
    "cosine_24000": "cosine:peak=3e-4,warmup=2160,total=24000,end=3e-5",
    "cosine_72000": "cosine:peak=3e-4,warmup=2160,total=72000,end=3e-5",
    "wsd_20000_24000": "wsd:peak=3e-4,warmup=2160,total=24000,decay=4000,end=3e-5,shape=exponential",
    "wsdld_20000_24000": "wsd:peak=3e-4,warmup=2160,total=24000,decay=4000,end=3e-5,shape=linear",
    "wsdcon_3": "step:peak=3e-4,warmup=2160,total=16000,at=8000,end=3e-5",
    "wsdcon_9": "step:peak=3e-4,warmup=2160,total=16000,at=8000,end=9e-5",
    "wsdcon_18": "step:peak=3e-4,warmup=2160,total=16000,at=8000,end=1.8e-4",
}
"""The schedules of the curves in mpl_lr_schedules, as its SOURCE.md says them."""


@dataclass(frozen=True)
class Held:
    """One held-out loss, its forecast, and the last loss known."""

    factor: float
    truth: float
    value: float
    low: float
    high: float
    last: float

    @property
    def inside(self) -> bool:
        """Whether the band holds the loss."""
        return self.low <= self.truth <= self.high

    @property
    def score(self) -> float:
        """The interval score, relative to the truth."""
        outside = max(self.low - self.truth, self.truth - self.high, 0.0)
        return (self.high - self.low + 2 / (1 - LEVEL) * outside) / self.truth


def report(folder: Path, every: int) -> Iterator[tuple[str, ...]]:
    """Yield rows: set, factor, losses held out, coverage, interval score, mean width, error, and the last value's.

    Args:
        folder: holds the public curves; what is absent is left out.
        every: take every so-manyth curve of the large sets.
    """
    reached = total = 0
    for name, (needed, make) in SETS.items():
        if not (folder / needed).exists():
            continue
        held = list(make(folder, every))
        for k, factor in enumerate(FACTORS):
            own = [one for one in held if EDGES[k] <= one.factor < EDGES[k + 1]]
            if not own:
                continue
            share = 100 * float(np.mean([one.inside for one in own]))
            good = LEAST <= share <= MOST
            reached, total = reached + good, total + 1
            yield (
                name,
                f"{factor:g}",
                str(len(own)),
                f"{share:.0f} %",
                "yes" if good else "no",
                *(
                    f"{100 * float(np.mean(values)):.2f} %"
                    for values in (
                        [one.score for one in own],
                        [(one.high - one.low) / one.truth for one in own],
                        [abs(one.value / one.truth - 1) for one in own],
                        [abs(one.last / one.truth - 1) for one in own],
                    )
                ),
            )
    yield ("all", "", str(total), f"{reached} in range", "", "", "", "", "")


def _scale(law: Law, rows: Table) -> Iterator[Held]:
    """Yield what a law of final losses says beyond several amounts of compute."""
    rows = rows.require("compute", *law.needs)
    compute = rows["compute"]
    for cut in np.geomspace(compute.min(), compute.max(), CUTS + 2)[1:-1]:
        known, far = rows.where(compute <= cut), rows.where(compute > cut)
        if len(known) < len(law.parameters) + 1:
            continue
        try:
            made = fit(law, known, draws=DRAWS).predict(far, LEVEL)
        except SoonerError:
            continue
        last = float(known["loss"][int(np.argmax(known["compute"]))])
        reach = far["compute"] / float(known["compute"].max())
        for parts in zip(reach, far["loss"], made.value, made.low, made.high, strict=True):
            yield Held(*(float(part) for part in parts), last)


def _curve(step: np.ndarray, loss: np.ndarray, schedule: Schedule | None, factor: float) -> Iterator[Held]:
    """Yield what is said of the end of a curve known up to its length over the factor."""
    good = np.isfinite(loss) & (step > 0)
    step, loss = step[good], loss[good]
    known = step <= step[-1] / factor
    if known.sum() < SHORTEST:
        return
    rates = {} if schedule is None else {"lr": schedule.lr(step[known])}
    rows = table("a", step=step[known], loss=loss[known], **rates)
    made = forecast_curve(rows, schedule=schedule, total=float(step[-1]), draws=DRAWS)
    yield Held(factor, float(loss[-1]), *made.final, float(loss[known][-1]))


def _chinchilla(folder: Path, every: int) -> Iterator[Held]:
    rows = read([folder / "chinchilla_fig4/svg_extracted_data.csv"])
    yield from _scale(Chinchilla(), rows.require("tokens").where(np.argsort(rows["loss"], kind="stable")[:-5]))


def _gadre(folder: Path, every: int) -> Iterator[Held]:
    rows = list(opened(folder / "gadre_testbed/testbed.csv"))
    for data in ("c4_original", "rpj", "rw_original"):
        own = [row for row in rows if row["train_set"] == data]
        if not own:
            continue
        made = {"parameters": "N", "tokens": "D", "loss": "loss_c4_val"}
        yield from _scale(Overtraining(), table(**{k: [float(row[v]) for row in own] for k, v in made.items()}))


def _olmo(folder: Path, every: int) -> Iterator[Held]:
    settings = json.loads((folder / "olmo_ladder/final.json").read_text())
    sizes = {Path(path).stem.split("-")[0]: one["n"] for one in settings.values() for path in one["paths"]}
    ends: dict[str, dict[str, str]] = {}
    for row in opened(folder / "olmo_ladder/ladder_runs.csv.gz"):
        if row["run"].split("-")[0] in sizes and row["run"].endswith("xC"):
            ends[row["run"]] = row
    for column in ("c4_en-validation_ce", "pile-validation_ce", "bpb:hellaswag_val_rc_5shot_bpb"):
        kept = [row for row in ends.values() if row[column]]
        yield from _scale(
            Chinchilla(),
            table(
                parameters=[sizes[row["run"].split("-")[0]] for row in kept],
                tokens=[float(row["throughput/total_tokens"]) for row in kept],
                loss=[float(row[column]) for row in kept],
            ),
        )


def _porian(folder: Path, every: int) -> Iterator[Held]:
    rows = list(opened(folder / "porian_isoflop/isoflop_points.csv.gz"))
    for *setting, _ in ISOFLOP:
        own = [row for row in rows if [row[k] for k in ("hparams", "warmup", "decay", "param_count")] == setting]
        for data in sorted({row["dataset"] for row in own}):
            kept = [row for row in own if row["dataset"] == data]
            columns = {"parameters": "N", "tokens": "tokens", "compute": "flops", "loss": "loss"}
            yield from _scale(Chinchilla(), table(**{k: [float(row[v]) for row in kept] for k, v in columns.items()}))


def _extrapolation(folder: Path, every: int) -> Iterator[Held]:
    curves: dict[tuple[str, ...], set[tuple[float, float]]] = {}
    for path in sorted((folder / "extrapolation_benchmark").glob("benchmark.*.csv")):
        for row in opened(path):
            point = (float(row["Seen Examples"]), float(row["Loss"]))
            curves.setdefault((row["Domain"], row["Task"], row["Model"]), set()).add(point)
    for points in list(curves.values())[::every]:
        x, y = np.array(sorted(points)).T
        for factor in FACTORS:
            known = x <= x[-1] / factor
            if known.sum() >= 5:
                done = fit(Consensus(), table(tokens=x[known], loss=y[known]), draws=DRAWS)
                made = done.predict(table(tokens=x[-1]), LEVEL)
                band = (float(part[0]) for part in (made.value, made.low, made.high))
                yield Held(factor, float(y[-1]), *band, float(y[known][-1]))


def _algoperf(known: bool) -> Callable[[Path, int], Iterator[Held]]:
    def make(folder: Path, every: int) -> Iterator[Held]:
        runs: dict[tuple[str, str], set[tuple[float, float]]] = {}
        for row in opened(folder / "algoperf_baselines/eval_curves.csv.gz"):
            if row["ruleset"] == "self_tuning" and row["val_loss"]:
                key = (row["workload"], f"{row['study']}/{row['trial']}")
                runs.setdefault(key, set()).add((float(row["step"]), float(row["val_loss"])))
        for (workload, _), points in sorted(runs.items())[::every]:
            steps = STEP_HINTS.get(workload)
            if steps is None:
                continue
            schedule = parse(f"cosine:peak={PEAK},warmup={WARMUP * steps},total={steps}") if known else None
            for factor in FACTORS:
                yield from _curve(*np.array(sorted(points)).T, schedule, factor)

    return make


def _nanogpt(folder: Path, every: int) -> Iterator[Held]:
    runs: dict[str, set[tuple[float, float]]] = {}
    for row in opened(folder / "modded_nanogpt/track12_curves.csv.gz"):
        if row["kind"] == "val":
            runs.setdefault(row["run"], set()).add((float(row["step"]), float(row["loss"])))
    once = {frozenset(points): name for name, points in runs.items()}
    for points in list(once)[::every]:
        for factor in FACTORS:
            yield from _curve(*np.array(sorted(points)).T, None, factor)


def _mpl(known: bool) -> Callable[[Path, int], Iterator[Held]]:
    def make(folder: Path, every: int) -> Iterator[Held]:
        for size in (25, 100, 400):
            for name, text in MPL.items():
                path = folder / f"mpl_lr_schedules/csv_{size}/{name}.csv"
                if path.exists():
                    rows = read([path])
                    for factor in (1.5, 2.0, 4.0, 10.0):
                        yield from _curve(rows["step"], rows["loss"], parse(text) if known else None, factor)

    return make


def _transfer(folder: Path, every: int) -> Iterator[Held]:
    """Yield what the first half of the steps of three schedules says of the ends of all others."""
    for size in (25, 100, 400):
        files = {name: folder / f"mpl_lr_schedules/csv_{size}/{name}.csv" for name in MPL}
        if not all(path.exists() for path in files.values()):
            continue
        curves = {name: read([path]) for name, path in files.items()}
        from sooner.forecast.table import join

        known = join([curves[name] for name in ("cosine_24000", "constant_24000", "wsdcon_9")])
        for name in ("constant_72000", "cosine_72000"):
            made = forecast_curve(known, schedule=parse(MPL[name]), draws=DRAWS)
            yield Held(3.0, float(curves[name]["loss"][-1]), *made.final, float(known["loss"][-1]))


SETS: dict[str, tuple[str, Callable[[Path, int], Iterator[Held]]]] = {
    "Chinchilla, sizes": ("chinchilla_fig4", _chinchilla),
    "Gadre, sizes": ("gadre_testbed", _gadre),
    "OLMo, sizes": ("olmo_ladder", _olmo),
    "Porian, iso-FLOP": ("porian_isoflop", _porian),
    "extrapolation, curves": ("extrapolation_benchmark", _extrapolation),
    "AlgoPerf, lr known": ("algoperf_baselines", _algoperf(known=True)),
    "AlgoPerf, lr not given": ("algoperf_baselines", _algoperf(known=False)),
    "modded-nanogpt, lr not given": ("modded_nanogpt", _nanogpt),
    "schedules, begun, lr known": ("mpl_lr_schedules", _mpl(known=True)),
    "schedules, begun, lr not given": ("mpl_lr_schedules", _mpl(known=False)),
    "schedules, three to longer": ("mpl_lr_schedules", _transfer),
}
