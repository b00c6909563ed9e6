"""How far every method is from its equations and from its authors' package: `python tests/conformance/table.py`.

Prints docs/conformance.md.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "update"))

import references
import references_adam_family
import references_matrix
import references_second_order

from sooner import update
from sooner.execute import using
from sooner.update._eigenbasis import first_basis
from sooner.update._newton_fit import coefficients
from sooner.update.apollo import projection

STEPS = 30
SHAPES = [(4, 6), (6,), (4, 6), (), (3, 2, 2, 2), (9, 3), (1, 5), (7,)]
MATRICES = [(4, 6), (9, 3), (5, 5), (4, 6), (6, 2, 3, 3), (2, 3, 2, 2), (12, 2)]
FLAT = [(4, 6), (9, 3), (5, 5), (4, 6), (12, 4)]
EXECUTORS = ("eager", "native")

INTRODUCTION = """# How close the steps are

Every method takes {steps} steps in float32, beside a float64 run of its equations (written down once more, one tensor
at a time, in `tests/update/references*.py`) or of a published implementation, on the same gradients. The error is the
length of the difference between the two displacements over the length of the displacement, at the end, for the
executor `eager` and for `native`. Rounding alone gives about 1e-7; `tests/conformance` demands 1e-6, and 1e-12 of the
same comparisons in float64 (1e-11 where matrices are iterated).

Some methods evaluate the loss themselves: `tests/update/test_second_order.py` compares them with their equations on
small models. Here Sophia is given the curvature. Projections (APOLLO) and fitted coefficients (ROOT), which the
papers leave open, are the same on both sides. torch.optim.Muon iterates in bfloat16, which changes a step by about 1
per cent; here it iterates in float64. It divides by the norm, where its authors and we divide by the norm + 1e-7, so
that 6e-8 are left in float64. AdaMuon iterates on signs, of which few have full rank, and every iteration makes
rounding 3.4 times as large in the directions that are missing; here it iterates once or twice.

Print this page anew with `python tests/conformance/table.py > docs/conformance.md`.

| method | against | version | eager | native |
|---|---|---|---|---|
"""

Step = Callable[[int], object]
"""Takes one step, the number of which counts from 1."""


@dataclass(frozen=True)
class Row:
    """One line of the table; `errors` has one number per executor."""

    method: str
    against: str
    version: str
    errors: tuple[float, ...]

    @property
    def names(self):
        """What stays the same from run to run."""
        return self.method, self.against, self.version

    def __str__(self):
        return f"| {' | '.join([*self.names, *(f'{error:.0e}' for error in self.errors)])} |"


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(params, step):
    """Noise around 1 that depends on the parameters; some of it is orthogonal to a weight, or to its rows."""
    made = []
    for number, p in enumerate(params):
        g = 1 + 0.5 * p + normal(p.shape, 1000 * step + number)
        if p.ndim > 1 and (kind := (number + step) % 3) < 2:
            w, rows = p.reshape(p.shape[0] if kind else 1, -1), g.reshape(p.shape[0] if kind else 1, -1)
            g = (rows - w * ((rows * w).sum(1) / (w * w).sum(1))[:, None]).reshape(p.shape)
        made.append(g.float())
    return made


dtype = torch.float32
"""In which our side steps."""


def errors(ours, theirs, shapes):
    """Run both from the same small weights, ours once per executor; return the relative displacement errors.

    Args:
        ours: makes our optimizer from parameters of `dtype` and returns its `Step`.
        theirs: the same for the other side, from float64 parameters.
    """
    found = []
    for executor in EXECUTORS:
        start = [(0.1 * normal(shape, number)).float().to(dtype) for number, shape in enumerate(shapes)]
        params = [nn.Parameter(p.clone()) for p in start]
        shadow = [nn.Parameter(p.double().clone()) for p in start]
        step_ours, step_theirs = ours(params), theirs(shadow)
        with torch.no_grad(), using(executor):
            for step in range(1, STEPS + 1):
                for p, q, g in zip(params, shadow, gradients(shadow, step), strict=True):
                    p.grad, q.grad = g.to(dtype), g.double()
                step_ours(step)
                step_theirs(step)
        apart = torch.cat([(p.double() - q).flatten() for p, q in zip(params, shadow, strict=True)])
        way = torch.cat([(q - p.double()).flatten() for p, q in zip(start, shadow, strict=True)])
        found.append((apart.norm() / way.norm()).item())
    return tuple(found)


def stepping(optimizer_class, **hyper):
    """Return what makes an optimizer and gives its `Step`."""

    def make(params):
        optimizer = optimizer_class(params, **hyper)
        return lambda step: optimizer.step()

    return make


def transcribed(reference, **hyper):
    """The same for a reference."""

    def make(params):
        memory = [{} for _ in params]
        return lambda step: reference(params, [p.grad for p in params], memory, step, **hyper)

    return make


def title(method, hyper):
    shown = ", ".join(f"{name}={value}" for name, value in hyper.items())
    return f"{method.__name__}({shown})"


# the equations

ELEMENTS = {
    update.SGD: (references.sgd, {"lr": 0.1}, [{"momentum": 0.0}, {"nesterov": True, "weight_decay": 0.05}]),
    update.AdamW: (references.adamw, {"lr": 0.01}, [{}, {"betas": (0.8, 0.95), "weight_decay": 0.3}]),
    update.AdaBelief: (references.adabelief, {"lr": 0.01}, [{}, {"rectify": False, "eps": 1e-8, "weight_decay": 0.1}]),
    update.Lion: (references.lion, {"lr": 0.01}, [{}, {"betas": (0.95, 0.98), "weight_decay": 0.1}]),
    update.AdEMAMix: (
        references.ademamix,
        {"lr": 0.01},
        [{}, {"alpha": 2.0, "weight_decay": 0.1, "alpha_warmup": 20, "beta3_warmup": 20}],
    ),
    update.Adan: (
        references.adan,
        {"lr": 0.01},
        [{"weight_decay": 0.1}, {"betas": (0.8, 0.5, 0.9), "weight_decay": 0.1, "proximal": False}],
    ),
    update.NAdamW: (references.nadamw, {"lr": 0.01}, [{}, {"betas": (0.8, 0.95), "momentum_decay": 0.5}]),
    update.MARS: (
        references.mars,
        {"lr": 0.01},
        [{}, {"betas": (0.8, 0.95), "gamma": 0.2, "max_norm": 6.0, "weight_decay": 0.1, "optimize_1d": True}],
    ),
    update.ScheduleFreeAdamW: (
        references.schedule_free_adamw,
        {"lr": 0.01},
        [{}, {"weight_decay": 0.1, "warmup": 10, "power": 0.5}],
    ),
    update.ScheduleFreeSGD: (
        references.schedule_free_sgd,
        {"lr": 0.1},
        [{}, {"beta": 0.5, "weight_decay": 0.1, "warmup": 10}],
    ),
    update.Prodigy: (
        references.prodigy,
        {},
        [{}, {"lr": 0.5, "weight_decay": 0.1, "d0": 1e-3, "d_coef": 2.0, "growth_rate": 1.5, "bias_correction": True}],
    ),
    update.NormalizedGD: (references.normalized_gd, {"lr": 0.1}, [{}, {"momentum": 0.9}]),
    update.AdamP: (
        references_adam_family.adamp,
        {"lr": 0.01},
        [{"weight_decay": 0.1}, {"nesterov": True, "delta": 0.8, "weight_decay": 0.1}],
    ),
    update.SGDP: (references_adam_family.sgdp, {"lr": 0.1}, [{}, {"nesterov": False, "weight_decay": 0.01}]),
    update.DiffGrad: (
        references_adam_family.diffgrad,
        {"lr": 0.01},
        [{"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled": True}],
    ),
    update.SGDSaI: (references_adam_family.sgd_sai, {"lr": 0.01}, [{}, {"scaling": "sqrt_numel"}]),
    update.AdaGradNorm: (references_adam_family.adagrad_norm, {"lr": 1.0}, [{}, {"b0": 5.0}]),
}


def drawn(rank):
    """The projections of APOLLO, as its reference asks for them."""

    def draw(rows, columns, period):
        own = max(1, min(rows, columns) // 4) if rank is None else min(rank, rows, columns)
        return projection(own, (rows, columns), 0, period, torch.device("cpu")).double()

    return draw


def matrix_cases():
    """Yield (method, hyper-parameters, reference with what it needs besides)."""
    for hyper in ({}, {"nesterov": False, "weight_decay": 0.1}):
        yield update.Muon, {"lr": 0.02, **hyper}, transcribed(references.muon_matrix, lr=0.02, **hyper)
    exact = transcribed(references_matrix.exact_muon, lr=0.02)
    yield update.Muon, {"lr": 0.02, "orthogonalization": "polar"}, exact
    for hyper in ({}, {"weight_decay": 0.1}):
        other = transcribed(references.muon_matrix, lr=0.01, as_adamw=True, **hyper)
        yield update.AllRound, {"lr": 0.01, **hyper}, other
    for hyper in ({}, {"adjust": "match_rms_adamw", "nesterov": False, "beta2": 0.8, "weight_decay": 0.1}):
        yield update.NorMuon, {"lr": 0.02, **hyper}, transcribed(references_matrix.normuon, lr=0.02, **hyper)
    for hyper in ({"iterations": 2}, {"iterations": 1, "nesterov": False, "beta2": 0.8}):
        yield update.AdaMuon, {"lr": 0.02, **hyper}, transcribed(references_matrix.adamuon, lr=0.02, **hyper)
    for hyper in ({}, {"momentum": 0.5, "quantile": 0.5}):
        other = transcribed(references_matrix.root, lr=0.02, coefficients=coefficients, **hyper)
        yield update.ROOT, {"lr": 0.02, **hyper}, other
    several = {"shampoo_beta": 0.8, "interval": 7, "weight_decay": 0.1}
    for method, reference, hyper in (
        (update.SOAP, references_matrix.soap, {}),
        (update.SOAP, references_matrix.soap, several),
        (update.SOAP, references_matrix.soap, {"max_side": 4, "interval": 3}),
        (update.KLShampoo, references_matrix.kl_shampoo, {}),
        (update.KLShampoo, references_matrix.kl_shampoo, several),
    ):
        other = transcribed(reference, lr=0.01, first=lambda g: first_basis(g[None])[0], **hyper)
        yield method, {"lr": 0.01, **hyper}, other
    for method, rank, scale in ((update.APOLLO, None, 1.0), (update.APOLLOMini, 1, 128.0)):
        other = functools.partial(references_matrix.apollo, per_channel=method is update.APOLLO, lr=0.01)
        yield method, {"lr": 0.01}, transcribed(other, draw=drawn(rank), scale=scale)
        hyper = {"scale": 4.0, "scale_front": True, "interval": 7, "weight_decay": 0.1}
        yield method, {"lr": 0.01, "rank": 3, **hyper}, transcribed(other, draw=drawn(3), **hyper)


def curvature(params, step):
    return [normal(p.shape, 7 * step + number).double() ** 2 for number, p in enumerate(params)]


def sophia(method, denominator, **hyper):
    """Both sides of Sophia, with curvature from outside after every third step."""

    def ours(params):
        optimizer = method(params, every=3, **hyper)
        optimizer.estimate = lambda closure, parameters: curvature(parameters, optimizer.steps_taken)
        return lambda step: optimizer.step(lambda: None)

    def theirs(params):
        memory = [{} for _ in params]

        def step_theirs(step):
            given = [p.grad for p in params]
            references_second_order.sophia(params, given, memory, step, denominator=denominator, **hyper)
            if step % 3 == 0:
                references_second_order.refresh(memory, curvature(params, step), hyper["betas"][1])

        return step_theirs

    return ours, theirs


def equations():
    """Yield the rows of all methods against their equations."""
    for method, (reference, first, several) in ELEMENTS.items():
        for hyper in several:
            found = errors(stepping(method, **first, **hyper), transcribed(reference, **first, **hyper), SHAPES)
            yield Row(title(method, first | hyper), "its equations", "–", found)
    for method, hyper, theirs in matrix_cases():
        yield Row(title(method, hyper), "its equations", "–", errors(stepping(method, **hyper), theirs, MATRICES))
    hyper = {"lr": 0.01, "betas": (0.9, 0.8), "rho": 0.3, "weight_decay": 0.1}
    for method, below in ((update.SophiaG, lambda h: h + 1e-15), (update.SophiaH, lambda h: h.clamp(min=1e-12))):
        yield Row(title(method, hyper), "its equations", "–", errors(*sophia(method, below, **hyper), SHAPES))


# the packages


@contextlib.contextmanager
def in_full_precision():
    """Inside, Newton-Schulz of torch.optim.Muon iterates in the dtype that it is given."""

    def iterate(gradient, ns_coefficients, ns_steps, eps):
        a, b, c = ns_coefficients
        x = gradient.T if gradient.shape[0] > gradient.shape[1] else gradient
        x = x / x.norm().clamp(min=eps)
        for _ in range(ns_steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        return x.T if gradient.shape[0] > gradient.shape[1] else x

    with patch.object(sys.modules["torch.optim._muon"], "_zeropower_via_newtonschulz", iterate):
        yield


def published_adabelief():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package is from 2020
        from adabelief_pytorch import AdaBelief

    def quiet(params, **hyper):
        with contextlib.redirect_stdout(io.StringIO()):
            return AdaBelief(params, print_change_log=False, **hyper)

    return quiet


@contextlib.contextmanager
def authors_apollo():
    """Inside, give the optimizer of apollo-torch, which draws our projections, one per weight and period."""
    from test_matrix_methods import authors_apollo

    optimizer, projector = authors_apollo()
    drawn = []

    def ours(self, weights, rank, type, seed):
        shape = tuple(weights.shape)
        drawn.append(id(self))
        found = projection(min(rank, *shape), shape, 0, drawn.count(id(self)) - 1, torch.device("cpu")).double()
        return found if type == "right" else found.T

    def made(params, rank, scale, scale_type, interval, **hyper):
        drawn.clear()
        own = {"rank": rank, "update_proj_gap": interval, "scale": scale, "scale_type": scale_type}
        return optimizer([{"params": params, "proj": "random", "proj_type": "std", **own}], **hyper)

    with patch.object(projector, "get_orthogonal_matrix", ours):
        yield made


def in_training(optimizer_class):
    """Make optimizers of schedulefree, which want to be told that training begins."""

    def made(params, **hyper):
        optimizer = optimizer_class(params, **hyper)
        optimizer.train()
        return optimizer

    return made


def renamed(hyper, **names):
    """Return hyper-parameters by the names that others have for them."""
    return {names.get(name, name): value for name, value in hyper.items()}


def installed(package):
    """The version of a package, None if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def of_torch():
    """Yield (our method, its hyper-parameters, their class, its hyper-parameters, shapes)."""
    cases = [
        (update.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.1}),
        (update.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        (update.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True}),
        (update.AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
        (update.AdamW, torch.optim.AdamW, {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-4, "maximize": True}),
    ]
    for ours, theirs, hyper in cases:
        yield ours, hyper, theirs, hyper, SHAPES
    for hyper in ({"weight_decay": 0.1}, {"weight_decay": 0.0, "nesterov": False, "momentum": 0.8}):
        yield update.Muon, {"lr": 0.02, **hyper}, torch.optim.Muon, {"lr": 0.02, **hyper}, FLAT
    # the other adjustment is another learning rate for every shape
    factor = 0.2 * 6**0.5
    theirs = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    ours = {"lr": round(0.02 * factor, 12), "weight_decay": round(0.1 / factor, 12)}
    yield update.Muon, ours, torch.optim.Muon, theirs, [(4, 6), (4, 6)]


def packages():
    """Yield the rows of all methods against the published implementations that are installed."""
    with in_full_precision():
        for method, hyper, theirs, given, shapes in of_torch():
            found = errors(stepping(method, **hyper), stepping(theirs, **given), shapes)
            adjusted = f"(adjust_lr_fn={given['adjust_lr_fn']!r})" if "adjust_lr_fn" in given else ""
            shown = f"torch.optim.{theirs.__name__}{adjusted}"
            yield Row(title(method, hyper), shown, torch.__version__.partition("+")[0], found)
    if version := installed("adabelief-pytorch"):
        for hyper in ({"eps": 1e-16}, {"rectify": False, "eps": 1e-8, "weight_decay": 0.1, "betas": (0.8, 0.99)}):
            theirs = stepping(published_adabelief(), lr=0.01, **hyper)
            found = errors(stepping(update.AdaBelief, lr=0.01, **hyper), theirs, SHAPES)
            yield Row(title(update.AdaBelief, {"lr": 0.01, **hyper}), "adabelief-pytorch", version, found)
    if version := installed("adamp"):
        import adamp

        for name, hyper in (
            ("AdamP", {"lr": 0.01, "weight_decay": 0.1}),
            ("AdamP", {"lr": 0.01, "nesterov": True, "delta": 0.8, "wd_ratio": 0.5}),
            ("SGDP", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
        ):
            ours, theirs = getattr(update, name), getattr(adamp, name)
            found = errors(stepping(ours, **hyper), stepping(theirs, **hyper), SHAPES)
            yield Row(title(ours, hyper), "adamp", version, found)

    if version := installed("lion-pytorch"):
        import lion_pytorch

        for hyper in ({}, {"betas": (0.95, 0.98), "weight_decay": 0.1}):
            theirs = stepping(lion_pytorch.Lion, lr=0.01, **hyper)
            found = errors(stepping(update.Lion, lr=0.01, **hyper), theirs, SHAPES)
            yield Row(title(update.Lion, {"lr": 0.01, **hyper}), "lion-pytorch", version, found)

    if version := installed("schedulefree"):
        import schedulefree

        warmed = {"lr": 0.01, "weight_decay": 0.1, "warmup": 10, "power": 0.5}
        for name, hyper in (
            ("AdamW", {"lr": 0.01}),
            ("AdamW", warmed),
            ("SGD", {"lr": 0.1, "weight_decay": 0.1, "beta": 0.8}),
        ):
            ours, published = getattr(update, f"ScheduleFree{name}"), getattr(schedulefree, f"{name}ScheduleFree")
            given = renamed(hyper, warmup="warmup_steps", power="r", beta="momentum")
            found = errors(stepping(ours, **hyper), stepping(in_training(published), **given), SHAPES)
            yield Row(title(ours, hyper), "schedulefree", version, found)

    if version := installed("prodigyopt"):
        import prodigyopt

        def quiet(params, **hyper):
            with contextlib.redirect_stdout(io.StringIO()):
                return prodigyopt.Prodigy(params, **hyper)

        for hyper in (  # d eps is that of the next step there
            {"eps": 1e-30},
            {"eps": 1e-30, "weight_decay": 0.1, "d_coef": 2.0, "growth_rate": 1.5, "bias_correction": True},
            {"eps": 1e-30, "d0": 1e-3, "lr": 0.5, "betas": (0.8, 0.99), "beta3": 0.9, "safeguard_warmup": True},
        ):
            given = renamed(hyper, bias_correction="use_bias_correction")
            found = errors(stepping(update.Prodigy, **hyper), stepping(quiet, **given), SHAPES)
            yield Row(title(update.Prodigy, hyper), "prodigyopt", version, found)

    if version := installed("apollo-torch"):
        with authors_apollo() as published:
            for method, kind, hyper in (
                (update.APOLLO, "channel", {"rank": 3, "scale": 1.0, "interval": 200}),
                (update.APOLLO, "channel", {"rank": 3, "scale": 4.0, "interval": 7, "weight_decay": 0.1}),
                (update.APOLLOMini, "tensor", {"rank": 1, "scale": 128.0, "interval": 7}),
            ):
                theirs = stepping(published, lr=0.01, scale_type=kind, **hyper)
                found = errors(stepping(method, lr=0.01, **hyper), theirs, FLAT)
                yield Row(title(method, {"lr": 0.01, **hyper}), "apollo-torch", version, found)


def rows():
    """Return all rows of the table, as far as the packages are installed."""
    return [*equations(), *packages()]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(INTRODUCTION.format(steps=STEPS) + "\n".join(map(str, rows())))
