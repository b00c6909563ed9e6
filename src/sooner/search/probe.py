"""What a task shows within seconds, before a search: noise, curvature, matrices, rare rows, tails, room for the rate.

Every finding is one number and one sentence, and may speak for some of the candidates. That orders them and nothing
else: what it speaks for is tried first, and left out last where a budget has no room for all. None of these numbers
says that a candidate is better, only runs do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sooner.error import SoonerError
from sooner.forecast.theory.noise_scale import noise_scale
from sooner.kinds import roles
from sooner.loop import objective_of, provided_by, train
from sooner.objective import evaluating, mean_of
from sooner.recipe import Recipe
from sooner.search.candidates import Choice
from sooner.task import Task, derived_seed
from sooner.update._matrices import MatrixOptimizer

SEED = 5_000
"""Of the probe, and of no run of a race."""
WARM = 20
"""Steps that the model takes before it is looked at: an untrained one shows less noise than it will have."""
GROUPS, GROUP = 4, 8
"""Batches whose gradients are compared: so many groups of so many."""
DRAWS, ITERATIONS = 4, 10
"""Random directions along which curvature is sampled, and power iterations towards the sharpest one."""
DOUBLINGS = 12
"""How often the learning rate is doubled until a run is lost, twice in three steps at most."""

ALIKE = frozenset({"sgd", "sgdp", "adagrad_norm", "normalized_gd", "normalized_logistic_gd"})
"""Rules that scale all of a gradient alike."""


@dataclass(frozen=True)
class Finding:
    """One thing that a task shows.

    Args:
        name: what was looked at.
        value: its number, None where it could not be measured.
        sentence: what it says.
        speaks_for: whether it speaks for a candidate.
    """

    name: str
    value: float | None
    sentence: str
    speaks_for: Callable[[Choice], bool]


def probe(task: Task, base: Recipe) -> list[Finding]:
    """Return what a task shows, with a model that has taken a few steps of a recipe's rule.

    Args:
        task: what is trained.
        base: its rule, with default settings, takes the few steps.

    Raises:
        SoonerError: the rule can't train the task.
    """
    rule = Recipe(*(one for one in base.slots if one.moves))
    rule = rule.with_settings(rule.default)
    with torch.random.fork_rng(devices=[]):
        warm = max(1, min(WARM, task.steps // 10))
        model = train(task, rule, SEED, warm, evaluate_at=()).model
        batches = task.batches(derived_seed(SEED, "order"), "train")
        seen = [batches[warm + i] for i in range(min(GROUPS * GROUP, max(2, task.steps - warm)))]
        gradients = _Gradients(task, model, seen)
        looks: list[tuple[str, Callable[[], Finding]]] = [
            ("matrices", lambda: matrices(model)),
            ("gradient noise", lambda: noise(gradients)),
            ("tail of gradients", lambda: tail(gradients)),
            ("rare rows", lambda: rare(gradients)),
            ("curvature", lambda: curvature(task, model, seen[0])),
            ("room for the rate", lambda: room(task, rule)),
        ]
        return [_looked(name, look) for name, look in looks]


def ordered(choices: Sequence[Choice], findings: Sequence[Finding]) -> list[tuple[Choice, list[str]]]:
    """Return choices, those first for which most findings speak, each with their names; ties stay as they are."""
    told = [(choice, [one.name for one in findings if one.speaks_for(choice)]) for choice in choices]
    return sorted(told, key=lambda pair: -len(pair[1]))


def _looked(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except (RuntimeError, NotImplementedError, SoonerError) as error:  # such as no second derivative of a kernel
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return Finding(name, None, f"could not be measured here: {first}", _nobody)


class _Gradients:
    """Gradients of several batches at one point: norms and means, without keeping them all.

    Attributes:
        squares: float64 [batches], squared norm of each.
        groups: float64 [groups], squared norm of the mean of each group.
        rows: share of the rows of embeddings without a gradient in a batch, the mean; None without embeddings.
    """

    def __init__(self, task: Task, model: nn.Module, batches: Sequence[object]) -> None:
        trained = [p for p in model.parameters() if p.requires_grad]
        kinds = roles(model)
        tables = [i for i, p in enumerate(trained) if kinds[p].kind == "embedding"]
        squares, groups, empty = [], [], []
        mean: list[Tensor] = []
        self.group = min(GROUP, len(batches))
        for number, batch in enumerate(batches):
            found = _gradient(task, model, batch, trained)
            squares.append(_square(found))
            empty += [float((found[i].flatten(1) == 0).all(1).double().mean()) for i in tables]
            mean = found if not mean else [a + b for a, b in zip(mean, found, strict=True)]
            if (number + 1) % self.group == 0:
                groups.append(_square(mean) / self.group**2)
                mean = []
        self.squares, self.groups = np.array(squares), np.array(groups)
        self.rows = sum(empty) / len(empty) if empty else None


def matrices(model: nn.Module) -> Finding:
    """Return the share of the trained parameters that are in hidden matrices."""
    kinds = roles(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    share = sum(p.numel() for p in trained if kinds[p].kind == "matrix") / max(1, sum(p.numel() for p in trained))
    told = f"{share:.0%} of the parameters are in hidden matrices, which matrix rules step as a whole"
    return Finding("matrices", share, told, _matrix_rules if share >= 0.5 else _nobody)


def noise(gradients: _Gradients) -> Finding:
    """Return the gradient noise scale in batches (McCandlish et al., 2018, arXiv 1812.06162, appendix A.1)."""
    count = len(gradients.groups) * gradients.group
    small = gradients.squares[:count].reshape(-1, gradients.group).mean(axis=1)
    found = noise_scale(small, gradients.groups, 1, gradients.group)
    if math.isinf(found.value):
        told = "the noise of a batch drowns its gradient: averaging and a decaying rate take noise out"
    elif found.value > 1:
        told = (
            f"the noise of a batch is {found.value:.2g} times its gradient, squared [{found.low:.2g}, "
            f"{found.high:.2g}]: averaging and a decaying rate take noise out"
        )
    else:
        told = f"the noise of a batch is only {found.value:.2g} of its gradient, squared: little to average out"
    return Finding("gradient noise", found.value, told, _averaging if found.value > 1 else _nobody)


def tail(gradients: _Gradients) -> Finding:
    """Return the largest gradient norm over the median one, over batches."""
    norms = np.sqrt(gradients.squares)
    middle = float(np.median(norms))
    if not np.isfinite(norms).all() or middle == 0:
        raise SoonerError("some gradients are infinite, or most are zero")
    value = float(norms.max()) / middle
    heavy = value >= 3
    told = f"the largest of {len(norms)} gradients is {value:.2g} times the median one, " + (
        "a tail that clipping cuts" if heavy else "no tail to clip"
    )
    return Finding("tail of gradients", value, told, _clipping if heavy else _nobody)


def rare(gradients: _Gradients) -> Finding:
    """Return the share of the rows of embeddings that get no gradient from a batch, as those of rare tokens do."""
    if gradients.rows is None:
        return Finding("rare rows", 0.0, "there are no embeddings, so no rare rows", _nobody)
    often = gradients.rows >= 0.5
    told = f"{gradients.rows:.0%} of the rows of embeddings get no gradient from a batch" + (
        ": rules that scale each element let rare ones move as far" if often else ""
    )
    return Finding("rare rows", gradients.rows, told, _elementwise if often else _nobody)


def curvature(task: Task, model: nn.Module, batch: object) -> Finding:
    """Return the effective share of directions that are curved: tr(H^2) / (lambda^2 n), between 1 / n and 1.

    lambda is the largest eigenvalue of the Hessian H by power iteration, tr(H^2) = E |H z|^2 for normal z.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    size = sum(p.numel() for p in trained)
    generator = torch.Generator().manual_seed(SEED)

    def draw() -> list[Tensor]:
        return [torch.randn(p.shape, generator=generator).to(p) for p in trained]

    # the fast kernels of attention have no second derivative
    with evaluating(model), sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        found = torch.autograd.grad(
            mean_of(task.loss(model, batch)), trained, create_graph=True, allow_unused=True, materialize_grads=True
        )

        def product(v: Sequence[Tensor]) -> list[Tensor]:
            inner = torch.stack([(g * one).sum() for g, one in zip(found, v, strict=True)]).sum()
            if not inner.requires_grad:
                return [torch.zeros_like(p) for p in trained]
            curved = torch.autograd.grad(inner, trained, retain_graph=True, allow_unused=True, materialize_grads=True)
            return [one.detach() for one in curved]

        squares = []
        for _ in range(DRAWS):
            bent = product(draw())
            squares.append(_square(bent))
        largest = 0.0
        for _ in range(ITERATIONS):
            length = math.sqrt(_square(bent))
            if not math.isfinite(length) or length == 0:
                break
            bent = product([one / length for one in bent])
            largest = math.sqrt(_square(bent))
    if largest == 0 or not math.isfinite(largest):
        raise SoonerError("the loss has no curvature there, or an infinite one")
    directions = min(float(size), max(1.0, float(np.mean(squares)) / largest**2))
    share = directions / size
    uneven = share < 0.1
    told = (
        f"the sharpest direction has curvature {largest:.2g}, and all {size:,} together curve like {directions:.2g} "
        "of it" + (": rules that scale each direction help" if uneven else "")
    )
    return Finding("curvature", share, told, _scaling if uneven else _nobody)


def room(task: Task, rule: Recipe) -> Finding:
    """Return how many times its default rate a rule takes before the loss is twice what it began with."""
    model = task.model(derived_seed(SEED, "init")).train()
    training = rule.build(model, 2 * DOUBLINGS + 1, provided_by(task), seed=SEED)
    batches = task.batches(derived_seed(SEED, "order"), "train")
    rates = [group["lr"] for one in training.optimizers for group in one.param_groups]
    start, factor = math.inf, 1.0
    for step in range(min(2 * DOUBLINGS + 1, task.steps)):
        objective = objective_of(task, training.model, batches, step)
        loss = float(training.backward(objective))
        start = loss if step == 0 else start
        if not math.isfinite(loss) or loss > start + abs(start):
            break
        factor = 2.0 ** ((step + 1) / 2)
        groups = [group for one in training.optimizers for group in one.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor
        training.step(objective)
        training.zero_grad()
    else:
        told = f"{rule} stands {factor:.3g} times its rate: there is room"
        return Finding("room for the rate", factor, told, _nobody)
    narrow = factor < 30
    told = f"rising from its default, the rate of {rule} loses the run at {factor:.3g} times" + (
        ": clipping and warm-up widen what can be used" if narrow else ", far away"
    )
    return Finding("room for the rate", factor, told, _steadying if narrow else _nobody)


def _gradient(task: Task, model: nn.Module, batch: object, trained: Sequence[Tensor]) -> list[Tensor]:
    with torch.enable_grad():
        loss = mean_of(task.loss(model, batch))
        return list(torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True))


def _square(tensors: Sequence[Tensor]) -> float:
    return float(sum(float(one.double().square().sum()) for one in tensors))


def _nobody(_: Choice) -> bool:
    return False


def _matrix_rules(choice: Choice) -> bool:
    return choice.part is not None and choice.rule and issubclass(choice.part.factory, MatrixOptimizer)


def _elementwise(choice: Choice) -> bool:
    return choice.rule and choice.name not in ALIKE and not _matrix_rules(choice)


def _scaling(choice: Choice) -> bool:
    return choice.rule and choice.name not in ALIKE


def _averaging(choice: Choice) -> bool:
    return choice.part is not None and choice.part.station in ("weights", "schedule")


def _clipping(choice: Choice) -> bool:
    return choice.part is not None and choice.part.station == "gradient" and choice.part.name.startswith("clip")


def _steadying(choice: Choice) -> bool:
    return _clipping(choice) or (choice.part is not None and "warmup" in choice.part.name)
