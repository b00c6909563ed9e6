"""How well the forecasts predict public runs that they did not see, beside the figures that others published.

python benchmarks/forecast_accuracy.py [FOLDER]

FOLDER holds the public curves (default ../shared/data/curves); what is absent is skipped. Every row says what was
fitted, what was predicted, the figure here, and the figure to reach. Nothing is chosen by looking at what is predicted.
"""

import csv
import gzip
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as Grid

from sooner.error import SoonerError
from sooner.forecast.automatic import of_curves
from sooner.forecast.blend import blend
from sooner.forecast.consensus import consensus
from sooner.forecast.curve import forecast_curve
from sooner.forecast.fit import Fit, best, fit
from sooner.forecast.laws import find
from sooner.forecast.laws.broken_power import BrokenPower
from sooner.forecast.laws.chinchilla import Chinchilla
from sooner.forecast.laws.m4 import M4
from sooner.forecast.laws.overtraining import Overtraining
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.read import read
from sooner.forecast.table import FloatArray, Table, join, table

Row = tuple[str, str, str, bool | None]
"""What, the figure here, the figure to reach, and whether it was reached (None where there is none to reach)."""

FITTED = ("d=96_l=8_h=4", "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8")
SCHEDULES = ("cosine_24000", "constant_24000", "wsdcon_9")


def at_most(what: str, value: float, goal: float, unit: str = "", digits: int = 4) -> Row:
    places = len(f"{goal:.10g}".partition(".")[2])  # goals are printed figures: compare at their precision
    return what, f"{value:.{digits}g}{unit}", f"<= {goal:g}{unit}", round(value, places) <= goal


def opened(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        yield from csv.DictReader(file)


def gadre(folder: Path) -> Iterator[Row]:
    rows = list(opened(folder / "gadre_testbed/testbed.csv"))

    def made(chosen: Callable[[dict[str, str]], bool]) -> Table:
        kept = [row for row in rows if chosen(row)]
        return table(
            [row["name"] for row in kept],
            parameters=[float(row["N"]) for row in kept],
            tokens=[float(row["D"]) for row in kept],
            loss=[float(row["loss_c4_val"]) for row in kept],
        )

    def is_fitted(row: dict[str, str]) -> bool:
        once = row["model"] in FITTED and float(row["chinchilla_mult"]) == 1
        return once or (row["model"] == FITTED[0] and float(row["chinchilla_mult"]) == 16)

    for data, goal in (("rpj", 1.6), ("c4_original", 2.1)):
        known = made(lambda row, data=data: row["train_set"] == data and is_fitted(row))
        held = made(lambda row, data=data: row["train_set"] == data and not is_fitted(row))
        fitted = fit(Overtraining(), known)
        if data == "rpj":
            for model, times, exact in (("open_lm_1b", 32.0, 0.710), ("open_lm_7b", 1.0, 0.732)):
                one = made(
                    lambda row, model=model, times=times: (
                        row["train_set"] == "rpj" and row["model"] == model and float(row["chinchilla_mult"]) == times
                    )
                )
                error = 100 * abs(fitted.at(one)[0] / one["loss"][0] - 1)
                yield f"Gadre, {model} x{times:g}, loss", f"{error:.3f} %", f"{exact:.3f} %", abs(error - exact) < 5e-4
        band = fitted.predict(held, 0.9)
        error = 100 * np.abs(band.value / held["loss"] - 1)
        inside = 100 * np.mean((band.low <= held["loss"]) & (held["loss"] <= band.high))
        yield at_most(f"Gadre, {data}, {len(held)} held-out runs, mean error", float(error.mean()), goal, " %", 3)
        yield f"Gadre, {data}, coverage at 90 %", f"{inside:.0f} %", "80 to 97 %", bool(80 <= inside <= 97)


def chinchilla(folder: Path) -> Iterator[Row]:
    rows = read([folder / "chinchilla_fig4/svg_extracted_data.csv"])
    # the replication (arXiv 2404.10102) leaves out the five largest losses
    kept = rows.require("tokens").where(np.argsort(rows["loss"], kind="stable")[:-5])
    begun = time.perf_counter()
    fitted = fit(Chinchilla(), kept, draws=1000)
    seconds = time.perf_counter() - begun
    published = {"E": (1.817, 1.769, 1.871), "alpha": (0.348, 0.317, 0.373), "beta": (0.366, 0.331, 0.415)}
    found = {one.name: one for one in fitted.estimates(0.95)}
    for name, (value, low, high) in published.items():
        one = found[name]
        near = abs(one.value - value) <= 0.01
        shown = f"{one.value:.4f} [{one.low:.3f}, {one.high:.3f}]"
        yield f"Chinchilla, {name} [95 %]", shown, f"{value:.3f} [{low:.3f}, {high:.3f}]", near
    yield at_most("Chinchilla, fit and 1,000 bootstrap draws", seconds, 20, " s", 2)
    begun = time.perf_counter()
    starts = len(best(Chinchilla(), kept).objective)
    yield at_most(f"Chinchilla, one fit from {starts} starts", time.perf_counter() - begun, 2, " s", 2)


def schedules(folder: Path) -> Iterator[Row]:
    for size, three, cosine in ((25, 0.00376, 0.0097), (100, 0.00435, 0.0066)):
        files = sorted((folder / f"mpl_lr_schedules/csv_{size}").glob("*.csv"))
        curves = {file.stem: read([file]) for file in files}
        held = [name for name in curves if name not in SCHEDULES]
        known = join([curves[name] for name in SCHEDULES])
        law, errors = blend(of_curves(known), known)
        tried = ", ".join(f"{name} {100 * error:.2g} %" for name, error in errors.items())
        single = curves["cosine_24000"]
        alone = of_curves(single)[0]
        for made, fitted, goal, what, why in (
            (law, known, three, "three curves", f"{law.name} (left out: {tried})"),
            *((one, known, three, "three curves", f"{one.name} alone") for one in of_curves(known)),
            (alone, single, cosine, "one cosine curve", alone.name),
        ):
            done = fit(made, fitted)
            error = np.mean([np.abs(done.at(curves[name]) - curves[name]["loss"]).mean() for name in held])
            yield at_most(f"schedules {size}M, {what}, {why}, MAE of {len(held)} others", float(error), goal, "", 3)
            if made in (law, alone):
                inside = 100 * np.concatenate([covered(done, curves[name]) for name in held]).mean()
                shown = f"{inside:.0f} %"
                yield f"schedules {size}M, {what}, coverage at 90 %", shown, "80 to 97 %", bool(80 <= inside <= 97)


def covered(fitted: Fit, rows: Table) -> FloatArray:
    band = fitted.predict(rows, 0.9)
    return np.where((band.low <= rows["loss"]) & (rows["loss"] <= band.high), 1.0, 0.0)


def olmo(folder: Path) -> Iterator[Row]:
    settings = json.loads((folder / "olmo_ladder/final.json").read_text())
    sizes = {"190M": 0.0, "370M": 0.0, "760M": 0.0, "1B": 0.0}
    for one in settings.values():
        for path in one["paths"]:
            for name in sizes:
                if Path(path).stem.startswith(f"{name}-"):
                    sizes[name] = one["n"]
    columns = {
        "C4": ("c4_en-validation_ce", 0.54),
        "Pile": ("pile-validation_ce", 0.44),
        "HellaSwag bits": ("bpb:hellaswag_val_rc_5shot_bpb", 1.1),
    }
    rows = [row for row in opened(folder / "olmo_ladder/ladder_runs.csv.gz") if row["run"].split("-")[0] in sizes]
    for what, (column, goal) in columns.items():
        runs: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            if row[column] and row["run"].split("-", 1)[1] in ("1xC", "2xC", "5xC", "10xC"):
                runs.setdefault(row["run"], []).append(row)
        made = table(
            list(runs),
            parameters=[sizes[name.split("-")[0]] for name in runs],
            tokens=[float(run[-1]["throughput/total_tokens"]) for run in runs.values()],
            loss=[np.mean([float(row[column]) for row in run[-5:]]) for run in runs.values()],
        )
        large = made["parameters"] == sizes["1B"]
        done = fit(Chinchilla(), made.where(~large))
        held = made.where(large)
        error = 100 * np.abs(done.at(held) / held["loss"] - 1).mean()
        yield at_most(
            f"OLMo, {int((~large).sum())} runs to 760M predict {len(held)} of 1.3B, {what}", error, goal, " %", 3
        )


def extrapolation(folder: Path) -> Iterator[Row]:
    curves: dict[tuple[str, ...], set[tuple[float, float, int]]] = {}
    for row in opened(folder / "extrapolation_benchmark/benchmark.lang.csv"):
        point = (float(row["Seen Examples"]), float(row["Loss"]), int(row["Training"]))
        curves.setdefault((row["Domain"], row["Task"], row["Model"]), set()).add(point)
    errors: dict[str, list[dict[str, float]]] = {}
    for (domain, *_), points in curves.items():
        x, y, kind = np.array(sorted(points)).T
        known, truth, far = table(tokens=x[kind == 1], loss=y[kind == 1]), y[kind == 0], x[kind == 0]
        made = {"median": consensus(known, "tokens", far), "last value": np.full(len(far), known["loss"][-1])}
        for name, law in (("M2", PowerFloor()), ("M4", M4()), ("broken power", BrokenPower())):
            try:
                made[name] = fit(law, known, draws=2).at(table(tokens=far))
            except SoonerError:
                continue
        one = {name: float(np.sqrt(np.mean((np.log(p) - np.log(truth)) ** 2))) for name, p in made.items()}
        errors.setdefault(domain, []).append(one)
    for domain, many in sorted(errors.items()):
        means = {name: np.mean([one[name] for one in many if name in one]) for name in many[0]}
        ours = means.pop("median")
        rival = min(means, key=means.get)
        what = f"extrapolation, {domain}, {len(many)} curves, RMSLE of the median of laws"
        yield what, f"{ours:.6f}", f"<= {means[rival]:.6f} ({rival})", bool(ours <= means[rival])


def algoperf(folder: Path) -> Iterator[Row]:
    runs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in opened(folder / "algoperf_baselines/eval_curves.csv.gz"):
        if row["ruleset"] == "self_tuning" and row["val_loss"]:
            key = (row["workload"], f"{row['study']}/{row['trial']}")
            runs.setdefault(key, []).append((float(row["step"]), float(row["val_loss"])))
    found: dict[str, list[tuple[float, float, bool]]] = {}
    for (workload, name), points in runs.items():
        step, loss = np.array(sorted(points)).T
        step, loss = step[np.isfinite(loss) & (step > 0)], loss[np.isfinite(loss) & (step > 0)]
        half = step <= step[-1] / 2
        if half.sum() < 8:
            continue
        known = table(name, step=step[half], loss=loss[half])
        made = forecast_curve(known, total=float(step[-1]), draws=20)
        warned = any("safer forecast" in one or "learning rate" in one for one in made.warnings)
        errors = (abs(made.final[0] / loss[-1] - 1), abs(known["loss"][-1] / loss[-1] - 1))
        found.setdefault(workload, []).append((*errors, warned))
    for workload, many in sorted(found.items()):
        ours, last = (100 * float(np.median([one[k] for one in many])) for k in (0, 1))
        warned = np.mean([one[2] for one in many])
        shown = f"{ours:.3g} %, warned in {warned:.0%} of {len(many)}"
        yield (
            f"AlgoPerf, {workload}, first half to final",
            shown,
            f"< {last:.3g} % (last value)",
            ours < last or warned == 1,
        )


def report_time(folder: Path) -> Iterator[Row]:
    import tempfile

    from sooner.forecast.check import check
    from sooner.report.forecast import build, page

    rows = read([folder / "chinchilla_fig4/svg_extracted_data.csv"])
    begun = time.perf_counter()
    law = find("chinchilla")
    done = fit(law, rows)
    with tempfile.TemporaryDirectory() as place:
        page.write(build.of_fit(done, check(law, rows), {}), Path(place) / "report.html")
    yield at_most("a whole report: fit, check, page", time.perf_counter() - begun, 30, " s", 2)


TASKS = {
    "gadre_testbed": gadre,
    "chinchilla_fig4": chinchilla,
    "mpl_lr_schedules": schedules,
    "olmo_ladder": olmo,
    "extrapolation_benchmark": extrapolation,
    "algoperf_baselines": algoperf,
}


def main() -> None:
    warnings.simplefilter("ignore", RuntimeWarning)
    default = Path(__file__).parents[2] / "shared/data/curves"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    console = Console(highlight=False)
    grid = Grid("what", "here", "to reach", "reached", box=None, pad_edge=False)
    for name, task in (*TASKS.items(), ("chinchilla_fig4", report_time)):
        if not (folder / name).exists():
            console.print(f"{name}: not in {folder}, skipped", markup=False)
            continue
        with console.status(name):
            for what, here, goal, reached in task(folder):
                grid.add_row(what, here, goal, "-" if reached is None else "yes" if reached else "no")
    console.print(grid)


if __name__ == "__main__":
    main()
