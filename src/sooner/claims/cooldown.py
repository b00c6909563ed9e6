"""Drawing rare domains often at first and in proportion later, beside static temperatures and weighted losses."""

import statistics as standard
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sooner
from sooner.claims._claim import Claim, Criterion, Measured, Measurement, Regime
from sooner.claims._findings import Findings
from sooner.claims.tasks import languages_unrelated
from sooner.data._mixture import Temperature, probabilities, upweight
from sooner.data.cooldown import Cooldown
from sooner.task import Examples, derived_seed
from sooner.workloads import languages

SETTINGS = {"related": languages, "unrelated": languages_unrelated}
STATIC = {"tau 1": 1.0, "tau 2": 2.0, "tau 5": 5.0, "tau 100": 100.0}
RATES = (3e-3, 1e-2)
TUNED = 50_000
"""The seed that chooses learning rates; the reported seeds are others."""
EVERY = 50
"""Steps between evaluations."""
OVER_FITS = 1.01
"""From which ratio of its last loss to its lowest on a language counts as over-fitted."""
VARIANCE = "variance"
TRAINING = "training"


def variance(seed: int, draws: int) -> dict[str, Any]:
    """Return the variance of a single example's gradient, weighted over sampled at tau 5, and that over the formula.

    The formula is of the difference: ``sum_j (q_j^2 / p_j - q_j) E ||g_j||^2``.
    """
    task = SETTINGS["unrelated"]
    model = task.model(derived_seed(seed, "init"))
    examples = task.examples("train")
    domains = np.asarray(examples.domains)
    weights = upweight(domains, 5.0)
    drawn = {tau: np.array(Temperature(domains, draws, tau=tau, seed=seed)[0]) for tau in (1.0, 5.0)}
    squares: dict[float, Tensor] = {}
    spread = {}
    for tau, chosen in drawn.items():
        scale = torch.from_numpy(weights[chosen]) if tau == 1.0 else torch.ones(draws, dtype=torch.float64)
        total, norms = 0.0, []
        for part, factor in zip(torch.from_numpy(chosen).split(250), scale.split(250), strict=True):  # type: ignore[no-untyped-call]
            gradients = _gradients(model, examples, part)  # [n, d]
            norms.append(gradients.square().sum(1))
            total = total + (factor[:, None] * gradients).sum(0)
        squares[tau] = torch.cat(norms)
        spread[tau] = float((scale**2 * squares[tau]).mean() - (total / draws).square().sum())  # type: ignore[attr-defined]
    sizes = np.bincount(domains)
    p, q = sizes / sizes.sum(), probabilities(sizes.tolist(), 5.0)
    energy = [float(squares[5.0][torch.from_numpy(domains[drawn[5.0]] == j)].mean()) for j in range(len(sizes))]
    formula = float(((q**2 / p - q) * energy).sum())
    return {"ratio": spread[1.0] / spread[5.0], "formula": (spread[1.0] - spread[5.0]) / formula}


def _gradients(model: nn.Module, examples: Examples, chosen: Tensor) -> Tensor:
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], sentence: Tensor, language: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, parameters, (sentence[None], language[None]))
        return F.cross_entropy(logits[0], sentence[2:])

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, *examples.batch(chosen.tolist()))
    return torch.cat([one.flatten(1) for one in found.values()], 1).double()


def run(setting: str, arm: str, lr: float, seed: int, steps: int) -> dict[str, list[float]]:
    """Return the held-out loss of both languages at every `EVERY` steps."""
    task = SETTINGS[setting]
    model = task.model(derived_seed(seed, "init"))
    examples, (held_out,) = task.examples("train"), task.batches(0, "eval")
    order = derived_seed(seed, "order")
    weights = torch.from_numpy(upweight(examples.domains, 5.0)).float() if arm == "weighted 5" else None
    sampler: Any = Temperature(examples.domains, examples.batch_size, tau=STATIC.get(arm, 1.0), seed=order)
    if arm == "cooldown":
        sampler = Cooldown(examples.domains, examples.batch_size, steps, seed=order)
    optimizer = sooner.create_optimizer(model, "adamw", lr=lr, weight_decay=0.0)
    curves: dict[str, list[float]] = {"common": [], "rare": []}
    for step in range(steps):
        chosen = sampler[step]
        losses = languages.losses_of(model, examples.batch(chosen))
        optimizer.zero_grad()
        torch.autograd.backward((losses if weights is None else weights[torch.tensor(chosen)] * losses).mean())
        optimizer.step()
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            with torch.no_grad():
                found = languages.metrics(model, held_out)
            for name, curve in curves.items():
                curve.append(found[name].item())
    return curves


@cache
def tuned(setting: str, arm: str, steps: int) -> float:
    """Return the learning rate with the lowest mean loss over both languages at the end, on the tuning seed."""
    return min(RATES, key=lambda lr: sum(curve[-1] for curve in run(setting, arm, lr, TUNED, steps).values()))


def train(setting: str, arm: str, seed: int, steps: int) -> dict[str, Any]:
    """Return the losses at the end, the rare language's lowest one, and its curve."""
    lr = tuned(setting, arm, steps) if steps > 20 else RATES[0]
    curves = run(setting, arm, lr, seed, steps)
    last = {name: curve[-1] for name, curve in curves.items()}
    lowest = min(curves["rare"])
    return {**last, "mean": standard.mean(last.values()), "over": last["rare"] / lowest, "rare curve": curves["rare"]}


def _sooner(f: Findings) -> Measured:
    """Return steps of sampling at tau 5 to the rare loss that weighting ends with, over all of its steps."""
    ends = f.values(TRAINING, "rare", setting="unrelated", arm="weighted 5")
    curves = f.values(TRAINING, "rare curve", setting="unrelated", arm="tau 5")
    shares = []
    for end, curve in zip(ends, curves, strict=True):
        reached = next((i + 1 for i, value in enumerate(curve) if value <= end), None)
        if reached is None:
            return Measured(float("inf"), unit="x")
        shares.append(reached / len(curve))
    return Measured(standard.geometric_mean(shares), min(shares), max(shares), unit="x")


def _best_static(f: Findings) -> Measured:
    """Return the mean loss of cooldown over that of the best static temperature of all."""
    cases = {"setting": "related"}
    found = [f.paired_ratio(TRAINING, "mean", {**cases, "arm": "cooldown"}, {**cases, "arm": arm}) for arm in STATIC]
    worst = max(found, key=lambda one: one.value)
    if f.mean(TRAINING, "over", **cases, arm="tau 5").value < OVER_FITS:
        return replace(worst, undecided="the rare language does not over-fit here, which is what cooling down is for")
    return worst


ARMS = {
    "related": (*STATIC, "weighted 5", "cooldown"),
    "unrelated": ("tau 1", "tau 5", "weighted 5", "cooldown"),
}
CASES = [
    {"setting": setting, "arm": arm, "seed": seed, "steps": 1200}
    for setting, arms in ARMS.items()
    for arm in arms
    for seed in range(6)
]
SMALL = [{"setting": setting, "arm": arm, "seed": 0, "steps": 2} for setting, arms in ARMS.items() for arm in arms]

CLAIM = Claim(
    part="cooldown",
    paper="cooldown-sampling",
    headline=(
        "Sampling rare domains with a temperature has gradients of less variance than weighting their loss and learns "
        "faster; lowering the temperature at half of the steps keeps that without over-fitting them."
    ),
    source="Li et al., 2024, arXiv 2410.04579, sections 3 to 5",
    experiment=(
        "A small network learns two generated languages, 20,000 sentences of one and few of the other: with static "
        "temperatures, with the loss weighted as at temperature 5, and cooled from 5 to 1 at half. Once the two share "
        "most of their structure and the rare one can be learned by heart, once they share nothing. The variance of "
        "single gradients is measured at the start."
    ),
    baseline="Proportional sampling with the loss weighted; every arm at the better of two rates on a seed of its own.",
    experiments={
        VARIANCE: Measurement(
            variance, [{"seed": seed, "draws": 12_000} for seed in range(3)], [{"seed": 0, "draws": 250}]
        ),
        TRAINING: Measurement(train, CASES, SMALL),
    },
    criteria=[
        Criterion(
            "weighting has at least 2x of the variance of sampling at temperature 5",
            lambda f: f.mean(VARIANCE, "ratio", "x"),
            at_least=2.0,
        ),
        Criterion(
            "the difference of the variances is within 10 % of the formula",
            lambda f: f.mean(VARIANCE, "formula", "x"),
            at_least=0.9,
            at_most=1.1,
        ),
        Criterion(
            "at temperature 5 the rare language reaches the loss that weighting ends with in at most 0.6x of the steps",
            _sooner,
            at_most=0.6,
        ),
        Criterion(
            "related: cooled down, the mean loss of both languages is below that of every static temperature",
            _best_static,
            at_most=1.0,
            gain=True,
        ),
        Criterion(
            "related: at temperature 5 the rare language over-fits, its loss ends at least 1 % above its lowest",
            lambda f: f.mean(TRAINING, "over", "x", setting="related", arm="tau 5"),
            at_least=OVER_FITS,
            control=True,
            positive=True,
        ),
    ],
    trend={
        "unrelated: rare language, cooled down over temperature 5": lambda f: f.paired_ratio(
            TRAINING, "rare", {"setting": "unrelated", "arm": "cooldown"}, {"setting": "unrelated", "arm": "tau 5"}
        ),
        "related: rare language, cooled down over proportional": lambda f: f.paired_ratio(
            TRAINING, "rare", {"setting": "related", "arm": "cooldown"}, {"setting": "related", "arm": "tau 1"}
        ),
        "related: common language, cooled down over proportional": lambda f: f.paired_ratio(
            TRAINING, "common", {"setting": "related", "arm": "cooldown"}, {"setting": "related", "arm": "tau 1"}
        ),
    },
    regime=Regime(
        "sequence models of up to 13 languages, a rare one with 0.1 to 10 % of the data, 10,000s of steps",
        "AdamW",
        "constant, from the first step on",
        "batches of 64 sentences; few sentences of the rare language",
        "one rare language that can be learned by heart, as there; generated languages and a small network",
    ),
    minutes=6,
    limits=(
        "Two generated languages and a network without memory. Where languages share nothing, the rare one is "
        "forgotten after the switch, which the trend shows."
    ),
)
