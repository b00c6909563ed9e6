"""Every update rule against an independent transcription of its equations, and against published implementations."""

import contextlib
import importlib.util
import io
import math
import sys
import warnings

import pytest
import references
import torch
from torch import nn

from sooner.transform import Chain, Decay, Descend, chain, decay
from sooner.update import (
    MARS,
    SGD,
    AdaBelief,
    AdamW,
    Adan,
    AdEMAMix,
    Lion,
    Muon,
    NAdamW,
    NormalizedGD,
    Prodigy,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
)
from sooner.update.ademamix import warmed
from sooner.update.muon import hidden_matrices, newton_schulz
from sooner.update.nadamw import weights as nesterov_weights

STEPS = 30
SHAPES = [(4, 6), (6,), (4, 6), (), (3, 2, 2, 2), (9, 3), (1, 5), (7,)]
MATRICES = [
    (4, 6),
    (9, 3),
    (5, 5),
    (4, 6),
    (6, 2, 3, 3),
    (2, 3, 2, 2),
]  # wide, tall, square, a twin, convolution kernels

ELEMENTWISE = [
    (SGD, references.sgd, {"lr": 0.1, "momentum": 0.0}),
    (SGD, references.sgd, {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.1}),
    (SGD, references.sgd, {"lr": 0.1, "momentum": 0.9}),
    (SGD, references.sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    (SGD, references.sgd, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.05}),
    (AdamW, references.adamw, {"lr": 1e-2}),
    (AdamW, references.adamw, {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}),
    (AdamW, references.adamw, {"lr": 1e-2, "betas": (0.0, 0.0), "weight_decay": 0.0}),
    (AdaBelief, references.adabelief, {"lr": 1e-2}),
    (AdaBelief, references.adabelief, {"lr": 1e-2, "rectify": False, "eps": 1e-8, "weight_decay": 0.1}),
    (AdaBelief, references.adabelief, {"lr": 1e-2, "betas": (0.5, 0.9), "eps": 1e-12, "weight_decay": 0.1}),
    (AdaBelief, references.adabelief, {"lr": 1e-2, "betas": (0.9, 0.5)}),  # rho never reaches 5
    (Lion, references.lion, {"lr": 1e-2}),
    (Lion, references.lion, {"lr": 1e-2, "betas": (0.95, 0.98), "weight_decay": 0.3}),
    (Lion, references.lion, {"lr": 1e-2, "betas": (0.0, 0.9)}),  # the sign of the gradient alone
    (AdEMAMix, references.ademamix, {"lr": 1e-2}),
    (AdEMAMix, references.ademamix, {"lr": 1e-2, "betas": (0.8, 0.95, 0.99), "alpha_warmup": 20, "beta3_warmup": 10}),
    (AdEMAMix, references.ademamix, {"lr": 1e-2, "alpha": 2.0, "eps": 1e-3, "weight_decay": 0.3, "beta3_warmup": 99}),
    (NAdamW, references.nadamw, {"lr": 1e-2}),
    (Adan, references.adan, {"lr": 1e-2}),
    (Adan, references.adan, {"lr": 1e-2, "betas": (0.8, 0.5, 0.9), "eps": 1e-3, "weight_decay": 0.3}),
    (Adan, references.adan, {"lr": 1e-2, "weight_decay": 0.3, "proximal": False}),
    (NAdamW, references.nadamw, {"lr": 1e-2, "betas": (0.5, 0.9), "weight_decay": 0.3, "momentum_decay": 0.5}),
    (MARS, references.mars, {"lr": 1e-2}),
    (MARS, references.mars, {"lr": 1e-2, "weight_decay": 0.3, "gamma": 0.5, "max_norm": 6.0, "optimize_1d": True}),
    (MARS, references.mars, {"lr": 1e-2, "betas": (0.5, 0.9), "lr_1d_factor": 0.5, "betas_1d": (0.8, 0.9)}),
    (ScheduleFreeAdamW, references.schedule_free_adamw, {"lr": 1e-2}),
    (ScheduleFreeAdamW, references.schedule_free_adamw, {"lr": 1e-2, "weight_decay": 0.3, "warmup": 9, "power": 0.5}),
    (ScheduleFreeAdamW, references.schedule_free_adamw, {"lr": 1e-2, "betas": (0.5, 0.9), "rate_power": 0.0}),
    (ScheduleFreeSGD, references.schedule_free_sgd, {"lr": 0.1}),
    (ScheduleFreeSGD, references.schedule_free_sgd, {"lr": 0.1, "beta": 0.0, "weight_decay": 0.3, "warmup": 20}),
    (Prodigy, references.prodigy, {"d0": 1e-2}),
    (Prodigy, references.prodigy, {"d0": 1e-2, "lr": 0.5, "beta3": 0.9, "weight_decay": 0.3, "bias_correction": True}),
    (Prodigy, references.prodigy, {"d0": 1e-2, "d_coef": 3.0, "growth_rate": 1.05, "safeguard_warmup": True}),
    (NormalizedGD, references.normalized_gd, {"lr": 0.1}),
    (NormalizedGD, references.normalized_gd, {"lr": 0.1, "momentum": 0.9}),
]


def parameters(shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def gradients(params, step, dtype=torch.float64, pull=0.5):
    """Noise around 1, and a pull that makes gradients depend on the parameters, so that errors have consequences."""
    generator = torch.Generator().manual_seed(step)
    return [
        (1 + pull * p.detach().double() + torch.randn(p.shape, generator=generator, dtype=torch.float64)).to(dtype)
        for p in params
    ]


def displacement_error(ours, theirs, start):
    """Length of the difference over the length of the whole way."""
    apart = torch.cat([(a.double() - b.double()).flatten() for a, b in zip(ours, theirs, strict=True)])
    way = torch.cat([(b.double() - s.double()).flatten() for b, s in zip(theirs, start, strict=True)])
    return (apart.norm() / way.norm()).item()


def run_both(ours, theirs, step_ours, step_theirs, dtype=torch.float64, pull=0.5):
    """Step both with gradients taken at their own parameters; return the relative displacement error after the last."""
    start = [p.detach().clone() for p in ours]
    with torch.no_grad():
        for step in range(1, STEPS + 1):
            for params in (ours, theirs):
                for p, g in zip(params, gradients(params, step, dtype, pull), strict=True):
                    p.grad = g
            step_ours(step)
            step_theirs(step)
    return displacement_error([p.detach() for p in ours], [p.detach() for p in theirs], start)


def against_reference(optimizer, reference, params, shadow, **settings):
    memory = [{} for _ in shadow]

    def step_reference(step):
        reference(shadow, [p.grad for p in shadow], memory, step, **settings)

    return run_both(params, shadow, lambda _: optimizer.step(), step_reference)


@pytest.mark.parametrize(("method", "reference", "settings"), ELEMENTWISE)
def test_the_rule_is_the_papers_step_by_step(method, reference, settings):
    params, shadow = parameters(SHAPES), parameters(SHAPES)
    optimizer = method(params, **settings)
    memory = [{} for _ in shadow]
    start = [p.detach().clone() for p in params]
    with torch.no_grad():
        for step in range(1, STEPS + 1):
            for some in (params, shadow):
                for p, g in zip(some, gradients(some, step), strict=True):
                    p.grad = g
            optimizer.step()
            reference(shadow, [p.grad for p in shadow], memory, step, **settings)
            assert displacement_error(params, shadow, start) < 1e-12, step


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.5, "weight_decay": 0.2, "iterations": 3}])
def test_muon_steps_matrices_of_every_form_as_its_authors_do(nesterov, settings):
    params, shadow = parameters(MATRICES), parameters(MATRICES)
    optimizer = Muon(params, lr=0.02, nesterov=nesterov, **settings)
    error = against_reference(optimizer, references.muon_matrix, params, shadow, lr=0.02, nesterov=nesterov, **settings)
    assert error < 1e-12


def test_muon_steps_everything_else_with_adamw():
    shapes = [*MATRICES, (4,), (), (9,)]
    params, shadow = parameters(shapes), parameters(shapes)
    optimizer = Muon(params, lr=0.02, weight_decay=0.1, betas=(0.8, 0.9))
    rest = {"lr": 0.005, "betas": (0.8, 0.9), "eps": 1e-10, "weight_decay": 0.1}
    memory = [{} for _ in shadow]

    def step_reference(step):
        cut = len(MATRICES)
        grads = [p.grad for p in shadow]
        references.muon_matrix(shadow[:cut], grads[:cut], memory[:cut], step, lr=0.02, weight_decay=0.1)
        references.adamw(shadow[cut:], grads[cut:], memory[cut:], step, **rest)

    assert run_both(params, shadow, lambda _: optimizer.step(), step_reference) < 1e-12


def test_the_rest_of_muon_takes_adamw_lr():
    params = parameters([(3, 3), (3,)])

    def rates(optimizer):
        return [own["lr"] for _, own in optimizer.shares(optimizer.param_groups[0])]

    assert rates(Muon(params, lr=0.05)) == [0.05, pytest.approx(0.0125)]
    assert rates(Muon(params, lr=0.05, adamw_lr=3e-4)) == [0.05, 3e-4]
    # a group's own lr is meant for its matrices
    assert rates(Muon([{"params": params, "lr": 0.5}])) == [0.5, pytest.approx(0.125)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.1}),
        (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True, "weight_decay": 0.1}),
        (AdamW, torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1}),
        (AdamW, torch.optim.AdamW, {"lr": 1e-2, "betas": (0.5, 0.9), "eps": 1e-4, "maximize": True}),
    ],
)
def test_the_step_is_that_of_torch(ours, theirs, settings, dtype):
    params, shadow = parameters(SHAPES, dtype), parameters(SHAPES, dtype)
    with torch.no_grad():
        for p in (*params, *shadow):
            p.mul_(0.1)  # a long way from small weights, so that it is not their rounding that is compared
    a, b = ours(params, **settings), theirs(shadow, **settings)
    error = run_both(params, shadow, lambda _: a.step(), lambda _: b.step(), dtype, pull=0.0)
    assert error < (1e-6 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize(
    "settings", [{"weight_decay": 0.1}, {"weight_decay": 0.0, "betas": (0.5, 0.9), "momentum_decay": 0.2}]
)
def test_nadamw_is_torchs_where_its_product_of_momenta_is_in_full_precision(monkeypatch, settings):
    monkeypatch.setattr(
        sys.modules[torch.optim.NAdam.__module__], "_get_scalar_dtype", lambda: torch.float64
    )  # float32 otherwise
    params, shadow = parameters(SHAPES), parameters(SHAPES)
    a = NAdamW(params, lr=1e-2, **settings)
    b = torch.optim.NAdam(shadow, lr=1e-2, decoupled_weight_decay=True, **settings)
    assert run_both(params, shadow, lambda _: a.step(), lambda _: b.step()) < 1e-13


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("settings", [{"eps": 1e-16}, {"eps": 1e-8, "weight_decay": 0.1, "betas": (0.8, 0.99)}])
def test_adabelief_is_its_authors_package(rectify, settings):
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package is from 2020
        from adabelief_pytorch import AdaBelief as Published

        shadow = parameters(SHAPES)
        published = Published(shadow, lr=1e-2, rectify=rectify, print_change_log=False, **settings)
    params = parameters(SHAPES)
    optimizer = AdaBelief(params, lr=1e-2, rectify=rectify, **settings)
    assert run_both(params, shadow, lambda _: optimizer.step(), lambda _: published.step()) < 1e-12


@pytest.mark.skipif(importlib.util.find_spec("lion_pytorch") is None, reason="lion-pytorch is not installed")
@pytest.mark.parametrize("settings", [{"lr": 1e-2}, {"lr": 1e-2, "betas": (0.95, 0.98), "weight_decay": 0.3}])
def test_lion_is_the_published_package(settings):
    from lion_pytorch import Lion as Published

    params, shadow = parameters(SHAPES), parameters(SHAPES)
    ours, theirs = Lion(params, **settings), Published(shadow, **settings)
    assert run_both(params, shadow, lambda _: ours.step(), lambda _: theirs.step()) < 1e-12


def test_lion_steps_by_a_nearer_mean_than_it_keeps():
    p = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = Lion([p], lr=0.5, betas=(0.5, 0.75))
    p.grad = torch.tensor([4.0, -4.0, 0.0], dtype=torch.float64)
    optimizer.step()
    assert p.tolist() == [-0.5, 0.5, 0.0]
    assert optimizer.state[p]["exp_avg"].tolist() == [1.0, -1.0, 0.0]
    p.grad = torch.tensor([-2.0, 0.5, 1.0], dtype=torch.float64)
    optimizer.step()  # 0.5 - 1 < 0 where the kept mean, 0.75 - 0.5, is above 0
    assert p.tolist() == [0.0, 1.0, -0.5]
    assert optimizer.state[p]["exp_avg"].tolist() == [0.25, -0.625, 0.25]


def test_adan_looks_ahead_by_the_change_of_the_gradient():
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = Adan([p], lr=1.0, betas=(0.5, 0.5, 0.5), eps=0.0)
    p.grad = torch.full_like(p, 2.0)
    optimizer.step()  # no change yet: 2 over the root of 2^2
    assert p.item() == pytest.approx(-1.0)
    p.grad = torch.full_like(p, 6.0)
    optimizer.step()  # means of gradients 3.5, of changes 2, of squares 2 / 2 + 8^2 / 2; each over 0.75
    assert p.item() == pytest.approx(-1.0 - (3.5 + 0.5 * 2.0) / 0.75 / math.sqrt(33.0 / 0.75))


def test_mars_adds_the_change_of_the_gradient_and_limits_the_sum():
    p = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))
    optimizer = MARS([p], lr=1.0, betas=(0.5, 0.5), eps=0.0, gamma=1.0)
    before, means, squares = 0.0, 0.0, 0.0
    # 0.25 alone; 0.5 and its change of 0.25; 2 and its change of 1.5, cut to 1
    for step, (gradient, corrected) in enumerate([(0.25, 0.25), (0.5, 0.75), (2.0, 1.0)], 1):
        p.grad = torch.full_like(p, gradient)
        optimizer.step()
        means, squares = (means + corrected) / 2, (squares + corrected**2) / 2
        expected = means / (1 - 0.5**step) / math.sqrt(squares / (1 - 0.5**step))
        assert before - p.item() == pytest.approx(expected)
        before = p.item()


def test_mars_gives_vectors_to_adamw_and_says_so():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2)).double()
    optimizer = MARS(model, weight_decay=0.1, decay="matrices", lr_1d_factor=0.5)
    rows = [line.split() for line in optimizer.explain().splitlines()[1:]]
    assert [("mars" in row, "0.0015" in row, "0.1" in row) for row in rows] == [
        (p.ndim == 2, p.ndim < 2, p.ndim == 2) for p in model.parameters()
    ]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert {p.ndim == 2 for p in model.parameters() if "previous_grad" in optimizer.state[p]} == {True}
    optimizer.param_groups[0]["optimize_1d"] = True  # in mid-run: what was AdamW's goes on with its moments
    optimizer.step()
    assert all("previous_grad" in optimizer.state[p] for p in model.parameters())


@pytest.mark.parametrize("executor", ["eager", "native"])
def test_what_is_nan_in_a_gradient_of_mars_stays_where_it_is(monkeypatch, executor):
    monkeypatch.setenv("SOONER_EXECUTOR", executor)
    p = nn.Parameter(torch.zeros(2, 2))
    optimizer = MARS([p])
    p.grad = torch.tensor([[1.0, float("nan")], [3.0, 4.0]])
    optimizer.step()
    assert p.isnan().tolist() == [[False, True], [False, False]]


def test_the_half_life_of_the_slow_momentum_grows_linearly():
    def half_life(beta):
        return math.log(0.5) / math.log(beta)

    first, last = half_life(0.9), half_life(0.999)
    for share in (0.01, 0.25, 0.5, 1.0):
        assert half_life(warmed(0.9, 0.999, share)) == pytest.approx((1 - share) * first + share * last)
    assert warmed(0.0, 0.5, 0.5) == pytest.approx(0.25)  # half of a half-life of one step
    assert warmed(0.0, 0.0, 0.5) == 0.0


def test_ademamix_adds_the_slow_momentum_as_it_is():
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = AdEMAMix([p], lr=1.0, betas=(0.5, 0.5, 0.75), alpha=2.0, eps=0.0, alpha_warmup=2)
    p.grad = torch.full_like(p, 4.0)
    optimizer.step()  # quick 4 once corrected, slow 1 at half of alpha, over 4
    assert p.item() == pytest.approx(-1.25)
    optimizer.step()  # slow is 1.75 now, at the whole of alpha
    assert p.item() == pytest.approx(-1.25 - (4 + 2 * 1.75) / 4)


def test_ademamix_without_slow_momentum_is_adamw():
    params, shadow = parameters(SHAPES), parameters(SHAPES)
    ours, theirs = AdEMAMix(params, lr=1e-2, alpha=0.0), AdamW(shadow, lr=1e-2, weight_decay=0.0)
    assert run_both(params, shadow, lambda _: ours.step(), lambda _: theirs.step()) < 1e-12


@pytest.mark.parametrize("settings", [(0.9, 4e-3), (0.99, 4e-3), (0.9, 0.0), (0.9, 10.0)])
def test_the_momenta_of_nadamw_end_where_their_product_no_longer_counts(settings):
    beta1, momentum_decay = settings
    momenta = [beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in range(1, 5002)]
    for step in (1, 7, 5000):
        product = math.prod(momenta[:step])
        expected = momenta[step] / (1 - product * momenta[step]), (1 - momenta[step - 1]) / (1 - product)
        assert nesterov_weights(beta1, momentum_decay, step) == pytest.approx(expected, rel=1e-15)


def test_lion_decays_a_weight_that_has_no_slope():
    p = nn.Parameter(torch.ones(2, dtype=torch.float64))
    p.grad = torch.zeros_like(p)
    Lion([p], lr=0.1, weight_decay=0.5).step()
    assert p.tolist() == [pytest.approx(0.95)] * 2


def test_adabelief_divides_by_the_floor_when_the_gradient_is_constant():
    # g = m from the first step on for beta1 = 0, so s is only what eps leaves: eps / (1 - beta2) in the end
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = AdaBelief([p], lr=0.0, betas=(0.0, 0.5), eps=1e-4, rectify=False)
    for _ in range(60):
        p.grad = torch.full((1,), 3.0, dtype=torch.float64)
        optimizer.step()
    assert optimizer.state[p]["exp_avg_var"].item() == pytest.approx(1e-4 / 0.5, rel=1e-12)


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_torchs_up_to_its_half_precision(nesterov):
    # torch runs Newton-Schulz in bfloat16 (8 bits), and its five iterations amplify small singular values 3.4445^5-fold
    shapes = [(8, 12), (12, 8), (6, 6)]
    params, shadow = parameters(shapes), parameters(shapes)
    a = Muon(params, lr=0.02, nesterov=nesterov, weight_decay=0.1)
    b = torch.optim.Muon(shadow, lr=0.02, nesterov=nesterov, weight_decay=0.1)
    assert run_both(params, shadow, lambda _: a.step(), lambda _: b.step()) < 0.05


def test_muon_is_torchs_exactly_where_both_run_in_full_precision(monkeypatch):
    import torch.optim._muon as theirs

    def full_precision(grad, coefficients, steps, eps):
        return newton_schulz(grad[None], steps)[0]

    monkeypatch.setattr(theirs, "_zeropower_via_newtonschulz", full_precision)
    shapes = [(8, 12), (12, 8), (6, 6)]
    params, shadow = parameters(shapes), parameters(shapes)
    a = Muon(params, lr=0.02, weight_decay=0.1)
    b = torch.optim.Muon(shadow, lr=0.02, weight_decay=0.1)
    assert run_both(params, shadow, lambda _: a.step(), lambda _: b.step()) < 1e-12


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8), (1, 9), (9, 1)])
def test_newton_schulz_brings_singular_values_near_one(shape):
    generator = torch.Generator().manual_seed(3)
    short = min(shape)
    u, _ = torch.linalg.qr(torch.randn(4, shape[0], short, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(4, shape[1], short, generator=generator, dtype=torch.float64))
    values = torch.rand(4, short, generator=generator, dtype=torch.float64) * 0.9 + 0.1
    matrices = u * values[:, None] @ v.mT
    after = newton_schulz(matrices)
    found = torch.linalg.svdvals(after)
    assert found.min() > 0.65
    assert found.max() < 1.25
    # the singular vectors are those of the matrix: U^T O V is diagonal
    inner = u.mT @ after @ v
    assert (inner - torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1))).abs().max() < 1e-9


def test_newton_schulz_does_not_depend_on_the_scale_or_the_neighbours():
    generator = torch.Generator().manual_seed(4)
    stack = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    together = newton_schulz(stack)
    assert torch.allclose(newton_schulz(1e3 * stack), together, rtol=1e-6)
    for one, alone in zip(together, stack, strict=True):
        assert torch.allclose(newton_schulz(alone[None])[0], one, rtol=1e-12)
    assert torch.equal(newton_schulz(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


def test_muon_takes_hidden_matrices_and_leaves_embedding_and_output_layer():
    model = nn.Sequential(
        nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Unflatten(0, (1, -1)), nn.Linear(4, 5)
    )
    assert hidden_matrices(model) == {model[1].weight}
    tied = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5, bias=False))
    tied[2].weight = tied[0].weight
    assert hidden_matrices(tied) == {tied[1].weight}
    optimizer = Muon(model, lr=0.1)
    shares = optimizer.shares(optimizer.param_groups[0])
    assert [(own["muon"], len(some)) for some, own in shares] == [(True, 1), (False, 6)]


def test_muon_takes_what_select_chooses():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5))
    optimizer = Muon(model, select=lambda name, p: name == "1.weight")
    shares = optimizer.shares(optimizer.param_groups[0])
    assert [p.shape for p in shares[0][0]] == [(5, 4)]
    assert [(own["muon"], len(some)) for some, own in shares] == [(True, 1), (False, 3)]


def test_normalized_gd_moves_by_lr_whatever_the_gradients_size():
    for scale in (1e-6, 1.0, 1e6):
        params = parameters([(3, 2), (4,)])
        before = torch.cat([p.detach().flatten() for p in params])
        for p in params:
            p.grad = scale * torch.randn_like(p)
        NormalizedGD([{"params": params[:1]}, {"params": params[1:]}], lr=0.25).step()
        moved = torch.cat([p.detach().flatten() for p in params]) - before
        assert moved.norm().item() == pytest.approx(0.25, rel=1e-6)


def test_normalized_gd_takes_one_norm_over_groups_with_and_without_momentum():
    params = parameters([(2,), (2,)])
    start = [p.detach().clone() for p in params]
    optimizer = NormalizedGD([{"params": params[:1]}, {"params": params[1:], "momentum": 0.5}], lr=1.0)
    for p, g in zip(params, ([3.0, 0.0], [0.0, 4.0]), strict=True):
        p.grad = torch.tensor(g, dtype=torch.float64)
    optimizer.step()
    assert torch.allclose(start[0] - params[0], torch.tensor([0.6, 0.0], dtype=torch.float64))
    assert torch.allclose(start[1] - params[1], torch.tensor([0.0, 0.8], dtype=torch.float64))


def test_normalized_gd_stands_still_at_a_zero_gradient():
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.zeros(3)
    NormalizedGD([p]).step()
    assert p.tolist() == [1.0, 1.0, 1.0]


def test_weight_decay_pulls_towards_zero_without_a_gradient():
    for method, shrink in ((AdamW, 1 - 0.1 * 0.5), (AdaBelief, 1 - 0.1 * 0.5), (Muon, 1 - 0.1 * 0.5)):
        p = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
        p.grad = torch.zeros_like(p)
        method([p], lr=0.1, weight_decay=0.5, eps=1e-8).step()
        assert p.detach().tolist() == [[pytest.approx(shrink)] * 2] * 2, method


def test_a_chain_names_its_state_and_leaves_out_rules_without_work():
    from sooner.update.sgd import Momentum

    made = chain(decay(0.0), Momentum(0.9), Descend())
    assert made == Chain((Momentum(0.9), Descend()))
    assert (made.slots, made.reads_theta) == (("momentum_buffer",), False)
    assert chain(decay(0.1), Descend()).reads_theta
    assert chain(decay(0.1)).rules == (Decay(0.1),)
    with pytest.raises(ValueError, match="same state name: momentum_buffer, momentum_buffer"):
        chain(Momentum(0.9), Momentum(0.5))


def test_the_rectification_starts_when_rho_reaches_five():
    from sooner.update.adabelief import _rectification

    def rho(t, b=0.999):
        return 2 / (1 - b) - 1 - 2 * t * b**t / (1 - b**t)

    first = next(t for t in range(1, 20) if rho(t) >= 5)
    assert [_rectification(0.999, t) is None for t in (1, first - 1, first)] == [True, True, False]
    factors = [_rectification(0.999, t) for t in (first, 10, 100, 1000, 100_000)]
    assert factors == sorted(factors)
    assert factors[-1] == pytest.approx(1.0, abs=1e-6)
