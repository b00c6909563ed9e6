"""Learn the usual errors of forecasts from the curves of `sweep.py`, by rolling origins.

python -m sooner.forecast.bands.learn [SWEEP [TABLE]]    (minutes on one core; defaults: the package's own)

Curves are cut at their last step over each factor, and the end is forecast: with their learning rates, without, and (at
a constant learning rate) in one quantity. The final losses of a task's sizes and lengths are cut along compute.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sooner.forecast.bands.backtest import of_scale
from sooner.forecast.bands.run import of_run
from sooner.forecast.bands.usual import FILE, LEVELS, Scores
from sooner.forecast.consensus import Consensus
from sooner.forecast.decay import with_prior
from sooner.forecast.law import Law
from sooner.forecast.laws.annealing import Annealing
from sooner.forecast.laws.chinchilla import Chinchilla
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.table import FloatArray, Table, join, table

SWEEP = Path(__file__).with_name("sweep.csv")
FACTORS = (1.25, 1.5, 2.0, 3.0, 4.0, 7.0, 10.0, 20.0, 40.0, 100.0)
NODES = (1.5, 2.0, 4.0, 10.0, 30.0, 100.0)
"""Factors of the table."""
NEAR = float(np.log(2.0))
"""Scores count for a node by a normal kernel of this deviation in the logarithm of the factor."""
LEVEL = 0.9
SHARES = np.geomspace(0.03, 1.0, 12)
"""Shares of a curve at a constant learning rate that count as runs of that length."""


def main() -> None:
    """Read, forecast, write."""
    sweep = Path(sys.argv[1]) if len(sys.argv) > 1 else SWEEP
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else FILE
    curves = read_sweep(sweep)
    kinds = {}
    for kind, found in (("schedule", schedules(curves)), ("blind", blind(curves)), ("scale", scales(curves))):
        kinds[kind] = summary(list(found))
        print(kind, json.dumps(kinds[kind]))
    told = "0.9 quantiles of error over change forecast, by factor, and the spread of scores about them; learn.py"
    target.write_text(json.dumps({"what": told, "kinds": kinds}, indent=1) + "\n", encoding="utf-8")


def read_sweep(path: Path) -> dict[tuple[str, str, str], Table]:
    """Return the curves by task with its peak, size and schedule: step, loss, lr and parameters."""
    rows: dict[tuple[str, str, str], list[list[float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            values = [float(row[name]) for name in ("step", "loss", "lr", "parameters")]
            rows.setdefault((f"{row['task']} {row['peak']}", row["size"], row["schedule"]), []).append(values)
    made = {}
    for key, listed in rows.items():
        step, loss, lr, parameters = np.array(listed).T
        made[key] = table(" ".join(key), step=step, loss=loss, lr=lr, parameters=parameters)
    return made


def schedules(curves: dict[tuple[str, str, str], Table]) -> Iterator[Scores]:
    """Yield scores of runs whose learning rates are known, ahead too."""
    for run in curves.values():
        for factor in FACTORS:
            known = run.where(run["step"] <= run["step"].max() / factor)
            if len(known):
                law, _ = with_prior(Annealing(), known, run)
                yield from _kept(of_run(law, run, run, (factor,)))


def blind(curves: dict[tuple[str, str, str], Table]) -> Iterator[Scores]:
    """Yield scores of runs whose learning rates are not known."""
    for run in curves.values():
        plain = table(run.runs[0], step=run["step"], loss=run["loss"])
        yield from _kept(of_run(PowerFloor("step"), plain, plain, FACTORS))


def scales(curves: dict[tuple[str, str, str], Table]) -> Iterator[Scores]:
    """Yield scores of final losses in one quantity and in size and data; a constant rate's curve holds every length."""
    ends: dict[str, list[Table]] = {}
    for (task, _, schedule), run in curves.items():
        if schedule == "constant":
            asked = np.array([int(np.argmin(np.abs(run["step"] - share * run["step"].max()))) for share in SHARES])
            rows = run.where(np.unique(asked))
            made = table(tokens=rows["step"], parameters=rows["parameters"], loss=rows["loss"])
            ends.setdefault(task, []).append(made)
    for parts in ends.values():
        for one in parts:
            yield from _kept(of_scale(Consensus(), one, FACTORS))
        together = join(parts)
        for size in (together, *(together.where(together["tokens"] == t) for t in np.unique(together["tokens"]))):
            law: Law = Chinchilla() if size is together else PowerFloor("parameters")
            if len(parts) > 2:
                yield from _kept(of_scale(law, size, FACTORS))


def summary(found: list[Scores]) -> dict[str, list[float]]:
    """Return the table of one kind."""
    factor = np.concatenate([one.factor for one in found])
    score = np.concatenate([one.score for one in found])
    weight = np.concatenate([np.full(len(one.score), 1 / len(one.score)) for one in found])
    nodes, width = [node for node in NODES if node <= factor.max() * 1.2], []
    for node in nodes:
        near = weight * np.exp(-0.5 * (np.log(factor / node) / NEAR) ** 2)
        width.append(weighted(score, near, LEVEL))
    logs = np.interp(np.log(factor), np.log(nodes), width)
    spread = [weighted(score / logs, weight, level) for level in LEVELS]
    return {
        "factors": nodes,
        **{k: [round(v, 4) for v in values] for k, values in (("width", width), ("spread", spread))},
    }


def weighted(values: FloatArray, weights: FloatArray, level: float) -> float:
    """Return a weighted quantile."""
    order = np.argsort(values, kind="stable")
    summed = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(level * weights.sum(), summed, values[order]))


def _kept(scores: Scores | None) -> Iterator[Scores]:
    if scores is not None and np.isfinite(scores.score).all():
        yield scores


if __name__ == "__main__":
    main()
