"""How well the forecasts predict public runs that they did not see, beside the figures that others published.

python benchmarks/forecast_accuracy.py [FOLDER] [--bands] [--every K]

FOLDER holds the public curves (default ../shared/data/curves); what is absent is skipped. Every row says what was
fitted, what was predicted, the figure here, and the figure to reach. Nothing is chosen by looking at what is predicted.
--bands prints coverage and interval score by how far a forecast reaches instead; --every takes every Kth curve of the
large sets there.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import _gadre_testbed as testbed
import numpy as np
from _forecast_bands import report
from _forecast_curves import algoperf, extrapolation, gemstones, modded_nanogpt, porian
from _forecast_experts import routed
from _forecast_rows import Row, at_most, coverage, covered, opened
from rich.console import Console
from rich.table import Table as Grid

from sooner.forecast.automatic import of_curves
from sooner.forecast.blend import blend
from sooner.forecast.fit import best, fit
from sooner.forecast.laws import find
from sooner.forecast.laws.chinchilla import Chinchilla
from sooner.forecast.laws.overtraining import Overtraining
from sooner.forecast.read import read
from sooner.forecast.table import join, table

BANDS = ("set", "factor", "losses", "coverage", "80 to 97 %", "interval score", "width", "error", "last value")
SCHEDULES = ("cosine_24000", "constant_24000", "wsdcon_9")


def gadre(folder: Path) -> Iterator[Row]:
    ladder = testbed.ladder(folder)
    for run, *exact in ((("open_lm_1b", 32.0), 0.710, 3.64), (("open_lm_7b", 1.0), 0.732, 0.05)):
        one = testbed.runs(folder, "rpj", {run})
        for what, at, goal in (
            ("loss", ladder.first.at(one)[0] / one["loss"][0], exact[0]),
            (f"error in {len(testbed.TASKS)} tasks", ladder.at(one)[0] / one["error"][0], exact[1]),
        ):
            error, places = 100 * abs(float(at) - 1), len(f"{goal:g}".partition(".")[2])
            yield f"Gadre, {run[0]} x{run[1]:g}, {what}", f"{error:.3f} %", f"{goal} %", round(error, places) == goal
    for data, goal in (("rpj", 1.6), ("c4_original", 2.1)):
        held = testbed.runs(folder, data, testbed.FITTED, without=True)
        fitted = fit(Overtraining(), testbed.runs(folder, data, testbed.FITTED))
        error = 100 * float(np.mean(np.abs(fitted.at(held) / held["loss"] - 1)))
        yield at_most(f"Gadre, {data}, {len(held)} held-out runs, mean error", error, goal, " %", 3)
        yield coverage(f"Gadre, {data}", covered(fitted, held))


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
    inside: list[float] = []
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
        inside += covered(done, held).tolist()
    yield coverage(f"OLMo, {len(inside)} held-out losses", np.array(inside))


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
    "modded_nanogpt": modded_nanogpt,
    "porian_isoflop": porian,
    "routed_lm": routed,
    "gemstones": gemstones,
}


def main() -> None:
    warnings.simplefilter("ignore", RuntimeWarning)
    parser = argparse.ArgumentParser(description="Measure the forecasts on public runs.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[2] / "shared/data/curves")
    parser.add_argument("--bands", action="store_true", help="coverage and interval score by how far forecasts reach")
    parser.add_argument("--every", type=int, default=1, help="take every Kth curve of the large sets of --bands")
    given = parser.parse_args()
    folder = given.folder
    console = Console(highlight=False)
    if given.bands:
        held = Grid(*BANDS, box=None, pad_edge=False)
        begun = time.process_time()
        for row in report(folder, given.every):
            held.add_row(*row)
            print(*row, sep="\t", file=sys.stderr, flush=True)  # the table comes at the end, minutes later
        console.print(held)
        console.print(f"{time.process_time() - begun:.0f} s of CPU time")
        return
    grid = Grid("what", "here", "to reach", "reached", box=None, pad_edge=False)
    count = reachable = 0
    for name, task in (*TASKS.items(), ("chinchilla_fig4", report_time)):
        if not (folder / name).exists():
            console.print(f"{name}: not in {folder}, skipped", markup=False)
            continue
        with console.status(name):
            for what, here, goal, reached in task(folder):
                grid.add_row(what, here, goal, "-" if reached is None else "yes" if reached else "no")
                count, reachable = count + bool(reached), reachable + (reached is not None)
    console.print(grid)
    console.print(f"{count} of {reachable} goals reached")


if __name__ == "__main__":
    main()
