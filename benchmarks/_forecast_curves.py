"""The tasks of forecast_accuracy.py on single curves, known up to some point, and on sets of equal compute."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from _forecast_rows import Row, at_most, coverage, covered, opened

from sooner.error import SoonerError
from sooner.forecast.consensus import Consensus
from sooner.forecast.curve import forecast_curve
from sooner.forecast.decide.gain_of_decay import Waiting, gain_of_decay
from sooner.forecast.decide.isoflop import isoflop, parabola_bias
from sooner.forecast.early import without_early
from sooner.forecast.fit import fit
from sooner.forecast.laws.broken_power import BrokenPower
from sooner.forecast.laws.chinchilla import Chinchilla
from sooner.forecast.laws.m4 import M4
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.schedules import Schedule, parse
from sooner.forecast.table import FloatArray, table

STEP_HINTS = {
    "criteo1tb_jax": 10_666,
    "fastmri_jax": 36_189,
    "imagenet_resnet_jax": 186_666,
    "imagenet_vit_jax": 186_666,
    "ogbg_jax": 80_000,
    "wmt_jax": 133_333,
}
"""Steps of each workload's schedule: `step_hint` in its workload.py in github.com/mlcommons/algorithmic-efficiency.

The self-tuning baseline (jax_nadamw_full_budget.py in prize_qualification_baselines/self_tuning there) warms up over
2 % of them and decays to zero along a cosine; runs that miss their target train on at learning rate zero.
"""
PEAK, WARMUP = 0.0017486387539278373, 0.02
"""Its learning rate, and its warm-up as a share of the schedule."""
STANDS = ("no longer moves", "safer forecast", "follows another course", "as under a decaying learning rate")
"""Words of the warnings that say why a forecast may be no better than the last value."""
FEWEST = 8
"""Rows that the first half of a curve must have."""
ISOFLOP = (
    ("base", "long", "kaplan", "kaplan", 0.834),
    ("base", "long", "kaplan", "standard", 0.701),
    ("base", "short", "kaplan", "standard", 0.604),
    ("base", "short", "chinchilla", "standard", 0.571),
    ("tuned", "short", "const", "standard", 0.497),
)
"""Hyper-parameters, warm-up, decay, way to count, and exponent published, of Porian et al., 2024, on RefinedWeb."""


def extrapolation(folder: Path) -> Iterator[Row]:
    """Yield rows on curves whose far end is held out: the consensus beside the laws that it is made of."""
    curves: dict[tuple[str, ...], set[tuple[float, float, int]]] = {}
    for path in sorted((folder / "extrapolation_benchmark").glob("benchmark.*.csv")):
        for row in opened(path):
            point = (float(row["Seen Examples"]), float(row["Loss"]), int(row["Training"]))
            curves.setdefault((row["Domain"], row["Task"], row["Model"]), set()).add(point)
    errors: dict[str, list[dict[str, float]]] = {}
    inside: list[float] = []
    for (domain, *_), points in curves.items():
        x, y, kind = np.array(sorted(points)).T
        known, far = table(tokens=x[kind == 1], loss=y[kind == 1]), table("far", tokens=x[kind == 0], loss=y[kind == 0])
        done = fit(Consensus(), known)
        inside.append(float(covered(done, far).mean()))
        made = {"consensus": done.at(far), "last value": np.full(len(far), known["loss"][-1])}
        for name, law in (("M2", PowerFloor()), ("M4", M4()), ("broken power", BrokenPower())):
            try:
                made[name] = fit(law, known, draws=2).at(far)
            except SoonerError:
                continue
        one = {name: float(np.sqrt(np.mean((np.log(p) - np.log(far["loss"])) ** 2))) for name, p in made.items()}
        errors.setdefault(domain, []).append(one)
    for domain, many in sorted(errors.items()):
        means = {name: float(np.mean([one[name] for one in many if name in one])) for name in many[0]}
        ours = means.pop("consensus")
        rival = min(means, key=means.__getitem__)
        what = f"extrapolation, {domain}, {len(many)} curves, RMSLE of the consensus"
        yield what, f"{ours:.6f}", f"<= {means[rival]:.6f} ({rival})", bool(ours <= means[rival])
    yield coverage(f"extrapolation, {len(inside)} curves", np.array(inside))


def algoperf(folder: Path) -> Iterator[Row]:
    """Yield rows on the self-tuning runs of AlgoPerf, with the learning rates of their source code and without."""
    runs: dict[tuple[str, str], set[tuple[float, float]]] = {}
    for row in opened(folder / "algoperf_baselines/eval_curves.csv.gz"):
        if row["ruleset"] == "self_tuning" and row["val_loss"]:
            key = (row["workload"], f"{row['study']}/{row['trial']}")
            runs.setdefault(key, set()).add((float(row["step"]), float(row["val_loss"])))
    for workload in sorted({workload for workload, _ in runs}):
        curves = {name: points for (own, name), points in runs.items() if own == workload}
        what = f"AlgoPerf, {workload}, first half to final"
        steps = STEP_HINTS.get(workload)
        if steps is not None:
            schedule = parse(f"cosine:peak={PEAK},warmup={WARMUP * steps},total={steps}")
            yield from _halves(f"{what}, lr known", curves.items(), schedule)
        yield from _halves(f"{what}, lr not given", curves.items(), None)


def modded_nanogpt(folder: Path) -> Iterator[Row]:
    """Yield a row on the validation losses of speed runs, whose learning rates are not in the files."""
    runs: dict[str, set[tuple[float, float]]] = {}
    for row in opened(folder / "modded_nanogpt/track12_curves.csv.gz"):
        if row["kind"] == "val":
            runs.setdefault(row["run"], set()).add((float(row["step"]), float(row["loss"])))
    once = {frozenset(points): name for name, points in runs.items()}  # some logs are filed twice
    curves = [(name, set(points)) for points, name in once.items()]
    yield from _halves("modded-nanogpt, first half to final, lr not given", curves, None)


def _halves(
    what: str, curves: Iterable[tuple[str, set[tuple[float, float]]]], schedule: Schedule | None
) -> Iterator[Row]:
    """Yield a row: the median error at the end of curves known up to half their steps, beside the last value's."""
    found: list[tuple[float, float, bool]] = []
    for name, points in curves:
        step, loss = np.array(sorted(points)).T
        good = np.isfinite(loss) & (step > 0)
        step, loss = step[good], loss[good]
        half = step <= step[-1] / 2
        if half.sum() < FEWEST:
            continue
        rates: dict[str, FloatArray] = {} if schedule is None else {"lr": schedule.lr(step[half])}
        known = table(name, step=step[half], loss=loss[half], **rates)
        made = forecast_curve(known, schedule=schedule, total=float(step[-1]), draws=20)
        told = any(words in one for one in made.warnings for words in STANDS)
        found.append((abs(made.final[0] / loss[-1] - 1), abs(known["loss"][-1] / loss[-1] - 1), told))
    if not found:
        return
    ours, last = (100 * float(np.median([one[k] for one in found])) for k in (0, 1))
    worse = [told for own, other, told in found if own >= other]
    shown = f"{ours:.3f} %; {len(found) - len(worse)} of {len(found)} better"
    shown += f", {sum(worse)} of the other {len(worse)} warned" if worse else ""
    yield what, shown, f"< {last:.3f} % (last value), or warned", ours < last or all(worse)


def gemstones(folder: Path) -> Iterator[Row]:
    """Yield rows on cool-downs: what small models' say of the losses of large ones after theirs.

    gemstones/ holds wandb_df_for_fitting_cool_begin.jsonl, ..._cool_end.jsonl and those of `_joint` of wandb_dfs/ in
    github.com/mcleish7/gemstone-scaling-laws, the models of McLeish et al., 2025, arXiv 2502.06857.
    """
    ends: list[dict[tuple[int, int, int], tuple[float, float]]] = []
    for which, every in (
        ("begin", 1e10),
        ("end", 1.1e10),
    ):  # a cool-down begins every 10 billion tokens, and takes 10 %
        lines = (folder / f"gemstones/wandb_df_for_fitting_cool_{which}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        keys = [(row["width"], row["depth"], round(row["tokens"] / every)) for row in rows]
        values = [(row["params_active_precise"], row["final_loss"]) for row in rows]
        ends.append(dict(zip(keys, values, strict=True)))
    both = [(*ends[0][key], ends[1][key][1]) for key in ends[0] if key in ends[1]]
    size, before, after = np.array(both).T
    every_one = table(parameters=size, before=before, loss=after)
    for border, most, least in (("0.55B", 6e8, 9e8), ("0.12B", 2e8, 4e8)):
        known, far = every_one.where(size < most), every_one.where(size > least)
        ahead = [Waiting(str(k), *row) for k, row in enumerate(zip(far["before"], far["parameters"], strict=True))]
        made = gain_of_decay(known, ahead).ahead
        for name, column, goal in (("share", "value", 0.347), ("nats", "by_nats", None)):
            error = 100 * float(
                np.mean([abs(getattr(one, column) / y - 1) for one, y in zip(made, far["loss"], strict=True)])
            )
            what = f"Gemstones, {len(known)} cool-downs up to {border} predict {len(far)} larger, by {name}, mean error"
            yield (what, f"{error:.3f} %", "-", None) if goal is None else at_most(what, error, goal, " %", 3)
        inside = [float(one.low <= y <= one.high) for one, y in zip(made, far["loss"], strict=True)]
        yield coverage(f"Gemstones, up to {border}, {len(far)} larger", np.array(inside))
    yield from _joint(folder)


def _joint(folder: Path) -> Iterator[Row]:
    """Yield rows on runs at a constant rate, their losses every two billion tokens: small ones predict long large ones.

    wandb_df_for_fitting_hot_100b+_477.jsonl, from the same place.
    """
    lines = (folder / "gemstones/wandb_df_for_fitting_hot_100b+_477.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    names = {"parameters": "params_active_precise", "tokens": "tokens", "loss": "final_loss"}
    every_one = table(**{name: [float(row[key]) for row in rows] for name, key in names.items()})
    size, tokens = every_one["parameters"], every_one["tokens"]
    far = every_one.where((size > 9e8) & (tokens >= 2e11))
    known = every_one.where((size < 6e8) & (tokens <= 1e11))
    for name, kept, goal in (
        ("all rows", known, None),
        ("without early ones", without_early(Chinchilla(), known), 1.1),
    ):
        error = 100 * float(np.mean(np.abs(fit(Chinchilla(), kept, draws=2).at(far) / far["loss"] - 1)))
        what = f"Gemstones, up to 0.6B and 100 billion tokens predict {len(far)} beyond, {name}, mean error"
        yield (what, f"{error:.3f} %", "-", None) if goal is None else at_most(what, error, goal, " %", 3)


def porian(folder: Path) -> Iterator[Row]:
    """Yield rows on the exponent of the best model size in compute, from parabolas at equal compute."""
    rows = list(opened(folder / "porian_isoflop/isoflop_points.csv.gz"))
    for *setting, published in ISOFLOP:
        own = [
            row
            for row in rows
            if row["dataset"] == "rw" and [row[k] for k in ("hparams", "warmup", "decay", "param_count")] == setting
        ]
        if not own:
            continue
        made = table(
            parameters=[float(row["N"]) for row in own],
            tokens=[float(row["tokens"]) for row in own],
            compute=[float(row["flops"]) for row in own],
            loss=[float(row["loss"]) for row in own],
        )
        found = isoflop(made)
        by_law, exact = parabola_bias(fit(Chinchilla(), made, draws=2), made)
        what = f"Porian, {', '.join(setting)}, exponent of N in C [90 %], bias of parabolas"
        shown = f"{found.exponent:.3f} [{found.low:.3f}, {found.high:.3f}], {by_law - exact:+.3f}"
        yield what, shown, f"published {published:.3f}", None  # theirs is from interpolated minima, not from parabolas
