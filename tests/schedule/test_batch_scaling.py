"""Learning rates for another batch size: the rules, the probe against exact eigenvalues, and the part in recipes."""

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

import sooner
from sooner.recipe import Recipe
from sooner.schedule import BatchScaling, Cosine
from sooner.schedule.batch_scaling import Curvature, fit_curvature, lanczos, measure_curvature, scale_learning_rate

# the rules


def test_linear_for_sgd_and_square_root_for_adam():
    assert scale_learning_rate(0.1, 16, 128, "sgd") == pytest.approx(0.8)
    assert scale_learning_rate(0.1, 16, 64, "adam") == pytest.approx(0.2)
    assert scale_learning_rate(0.8, 128, 16, "sgd") == pytest.approx(0.1)
    assert scale_learning_rate(0.1, 16, 128, "sgd", limit=0.5) == 0.5
    assert scale_learning_rate(torch.tensor(0.1), 16, 128, "sgd", limit=0.5) == torch.tensor(0.5)
    assert scale_learning_rate(0.1, 16, 128, "sgd", limit=math.inf, saturation=math.inf) == pytest.approx(0.8)


@given(
    base=st.integers(1, 4096),
    new=st.integers(1, 4096),
    further=st.integers(1, 4096),
    saturation=st.one_of(st.none(), st.floats(0, 1e6)),
    kind=st.sampled_from(["sgd", "adam"]),
)
def test_scaling_in_two_hops_is_scaling_at_once(base, new, further, saturation, kind):
    first = scale_learning_rate(0.1, base, new, kind, saturation=saturation)
    both = scale_learning_rate(first, new, further, kind, saturation=saturation)
    assert both == pytest.approx(scale_learning_rate(0.1, base, further, kind, saturation=saturation), rel=1e-9)
    assert (first >= 0.1 * (1 - 1e-12)) if new >= base else (first <= 0.1 * (1 + 1e-12))


def test_saturation_levels_off_at_the_stability_limit_of_the_fit():
    curvature = Curvature(full=2.0, noise=64.0, r_squared=1.0)  # half noise at batch 32
    assert curvature.saturation == 32
    for batch in (1, 8, 32, 512):
        scaled = scale_learning_rate(curvature.limit(4), 4, batch, "sgd", saturation=curvature.saturation)
        assert scaled == pytest.approx(curvature.limit(batch))
        root = scale_learning_rate(1.0, 4, batch, "adam", saturation=32)
        assert root == pytest.approx(math.sqrt(scaled / curvature.limit(4)))
    assert curvature.limit(32, momentum=0.9, safety=1.0) == pytest.approx(2 * 1.9 / 4)
    assert Curvature(0.0, 0.0, 1.0).limit(8) == math.inf


@pytest.mark.parametrize(
    ("arguments", "more", "sentence"),
    [
        ((0.1, 16, 0, "sgd"), {}, "batch_scaling: batch=0 is not a whole number"),
        ((0.1, 1.5, 8, "sgd"), {}, "batch_scaling: base_batch=1.5"),
        ((0.1, 16, 8, "lion"), {}, "batch_scaling: kind='lion' is not 'sgd'"),
        ((0.1, 16, 8, "sgd"), {"saturation": -1}, "batch_scaling: saturation=-1"),
        ((0.1, 16, 8, "sgd"), {"limit": 0.0}, "batch_scaling: limit=0.0"),
    ],
)
def test_a_bad_number_is_named(arguments, more, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        scale_learning_rate(*arguments, **more)


# the probe


def small(dtype=torch.float64):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
    x, y = torch.randn(16, 4, dtype=dtype), torch.randint(3, (16,))
    return net, lambda: nn.functional.cross_entropy(net(x), y), x, y


def exact(net, x, y):
    names, values = zip(*((n, p.detach()) for n, p in net.named_parameters()), strict=True)
    shapes = [v.shape for v in values]

    def of(flat):
        parts = flat.split([s.numel() for s in shapes])
        weights = {n: part.view(s) for n, part, s in zip(names, parts, shapes, strict=True)}
        return nn.functional.cross_entropy(functional_call(net, weights, (x,)), y)

    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(of, torch.cat([v.reshape(-1) for v in values])))


def test_lanczos_finds_the_extreme_eigenvalues_of_the_hessian():
    net, loss, x, y = small()
    values = exact(net, x, y)
    everything = lanczos(loss, net.parameters(), iterations=100)
    assert everything == pytest.approx((values[0].item(), values[-1].item()), rel=1e-8)
    low, high = lanczos(loss, net.parameters(), iterations=12)
    assert high == pytest.approx(values[-1].item(), rel=1e-2)
    assert values[0] - 1e-12 <= low < high <= values[-1] + 1e-12
    assert all(p.grad is None for p in net.parameters())


def test_more_iterations_never_narrow_the_estimates():
    net, loss, _, _ = small()
    found = [lanczos(loss, net.parameters(), iterations=k, seed=3) for k in range(1, 20)]
    assert all(b[0] <= a[0] + 1e-12 and b[1] >= a[1] - 1e-12 for a, b in itertools.pairwise(found))
    assert found[0][0] == found[0][1]


def test_lanczos_in_single_precision():
    net, loss, x, y = small(torch.float32)
    values = exact(net, x, y)
    assert lanczos(loss, net.parameters())[1] == pytest.approx(values[-1].item(), rel=1e-4)


def test_lanczos_stops_where_the_space_is_exhausted():
    p = nn.Parameter(torch.randn(50, dtype=torch.float64))
    assert lanczos(lambda: 1.5 * p.square().sum(), [p], iterations=30) == pytest.approx((3.0, 3.0))
    scale = torch.tensor([1.0, -2.0] * 25, dtype=torch.float64)
    assert lanczos(lambda: (scale * p.square()).sum(), [p], iterations=30) == pytest.approx((-4.0, 2.0))


def test_lanczos_skips_what_does_not_curve_the_loss():
    a, b, c = (nn.Parameter(torch.ones(3)) for _ in range(3))
    low, high = lanczos(lambda: a.square().sum() + b.sum(), [a, b, c], iterations=9)
    assert (low, high) == pytest.approx((0.0, 2.0), abs=1e-6)
    assert lanczos(lambda: b.sum(), [b]) == (0.0, 0.0)


def test_lanczos_refuses_what_it_can_not_probe():
    p = nn.Parameter(torch.zeros(2))
    with pytest.raises(sooner.SoonerError, match="lanczos: iterations=0"):
        lanczos(lambda: p.sum(), [p], iterations=0)
    with pytest.raises(sooner.SoonerError, match="no parameters that require gradients"):
        lanczos(lambda: p.sum(), [p.detach()])
    with pytest.raises(sooner.SoonerError, match="the curvature is not finite"):
        lanczos(lambda: p.sqrt().sum(), [p])


def test_the_fit_finds_what_made_the_eigenvalues():
    batches = [8, 32, 128, 512]
    found = fit_curvature(batches, [0.5 + 24 / b for b in batches])
    assert (found.full, found.noise, found.r_squared) == pytest.approx((0.5, 24.0, 1.0))
    assert found.at(16) == pytest.approx(2.0)
    assert fit_curvature(batches, [1.0, 2.0, 3.0, 4.0]).noise == 0.0
    assert fit_curvature(batches, [8.0, 1.0, 0.1, 0.0]).full == 0.0
    assert fit_curvature([8, 64], [3.0, 3.0]) == Curvature(3.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("batches", "values", "sentence"),
    [
        ([8, 8], [1.0, 2.0], "at least two different batch sizes"),
        ([8, 16], [1.0], r"got batches \[8, 16\] and 1 eigenvalues"),
        ([8, 16], [1.0, math.nan], "got the eigenvalue nan at batch 16"),
        ([8, 0], [1.0, 1.0], "batch=0 is not a whole number"),
    ],
)
def test_a_fit_refuses_what_it_can_not_use(batches, values, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        fit_curvature(batches, values)


def test_small_batches_are_more_curved_and_the_model_fits():
    """The paper's effect on a noisy least-squares problem, where the Hessian of a batch is that of its inputs."""
    generator = torch.Generator().manual_seed(0)
    w = nn.Parameter(torch.zeros(60, dtype=torch.float64))

    def loss(batch):
        x = torch.randn(batch, 60, generator=generator, dtype=torch.float64)
        return (x @ w - 1).square().mean() / 2

    sizes = [8, 16, 32, 64] * 3
    found = measure_curvature(loss, [w], sizes, iterations=15)
    assert found.noise > 20
    assert found.r_squared > 0.9
    assert found.at(8) > 2 * found.at(64)


# the part


def groups(method=torch.optim.SGD, **more):
    return method(
        [{"params": [nn.Parameter(torch.zeros(2))]}, {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5}], **more
    )


def test_it_scales_every_group_once_and_the_schedule_goes_on_from_there():
    driven = groups(lr=0.1)
    made = BatchScaling(driven, batch=512, base_batch=64)
    schedule = Cosine(driven, 10, warmup=0.0)
    for step in range(10):
        factor = (1 + math.cos(math.pi * step / 10)) / 2
        assert [g["lr"] for g in driven.param_groups] == pytest.approx([0.8 * factor, 4.0 * factor])
        driven.step()
        made.step()
        schedule.step()


@pytest.mark.parametrize(
    ("method", "factor"),
    [
        (torch.optim.SGD, 4.0),
        (sooner.update.SGD, 4.0),
        (torch.optim.AdamW, 2.0),
        (sooner.update.AdamW, 2.0),
        (sooner.update.NormalizedGD, 2.0),
        (torch.optim.Adagrad, 2.0),
    ],
)
def test_the_rule_follows_the_optimizer(method, factor):
    driven = groups(method, lr=0.1)
    BatchScaling(driven, batch=64, base_batch=16)
    assert [g["lr"] for g in driven.param_groups] == pytest.approx([0.1 * factor, 0.5 * factor])
    told = groups(method, lr=0.1)
    BatchScaling(told, batch=64, base_batch=16, kind="sgd", limit=1.5, saturation=16)
    assert [g["lr"] for g in told.param_groups] == pytest.approx([0.1 * 2 / 1.25, 0.5 * 2 / 1.25])


def test_a_tensor_learning_rate_is_scaled_in_place_and_once():
    rate = torch.tensor(0.25)
    driven = torch.optim.SGD(
        [{"params": [nn.Parameter(torch.zeros(2))]}, {"params": [nn.Parameter(torch.zeros(1))]}], lr=rate
    )
    BatchScaling(driven, batch=32, base_batch=16)
    assert all(g["lr"] is rate for g in driven.param_groups)
    assert rate.item() == 0.5


def test_in_a_recipe_it_runs_before_the_schedule():
    recipe = Recipe("batch_scaling(batch=512, base_batch=64) + adamw(lr=0.01) + cosine(warmup=0.0)")
    assert [s.name for s in recipe.slots] == ["adamw", "batch_scaling", "cosine"]
    assert Recipe(str(recipe)) == recipe
    assert recipe.space == {}
    training = recipe.build(nn.Linear(2, 2), steps=4)
    expected = [0.01 * math.sqrt(8) * (1 + math.cos(math.pi * t / 4)) / 2 for t in range(5)]
    for rate in expected:
        assert training.learning_rates() == [pytest.approx(rate, abs=1e-15)]
        training.step()


def test_in_a_recipe_every_optimizer_follows_its_own_rule():
    recipe = Recipe("batch_scaling(batch=64, base_batch=16) + sgd(on='*.bias', lr=0.1) + adamw(on='rest', lr=0.01)")
    training = recipe.build(nn.Sequential(nn.Linear(2, 2)), steps=4)
    assert training.learning_rates() == pytest.approx([0.4, 0.02])


def test_horizon_free_unless_the_schedule_is_not():
    assert Recipe("adamw + batch_scaling(batch=64, base_batch=16)").horizon_free


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("adamw + batch_scaling", "batch_scaling can't be made with {}: .*batch"),
        ("adamw + batch_scaling(batch=0, base_batch=8)", "batch_scaling: batch=0"),
        ("adamw + batch_scaling(batch=8, base_batch=8, kind='x')", "batch_scaling: kind='x'"),
    ],
)
def test_a_recipe_with_bad_settings_is_refused(recipe, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        Recipe(recipe).build(nn.Linear(2, 2), steps=4)


def test_two_scalings_and_a_scaling_after_a_schedule_are_refused():
    one = "batch_scaling(batch=8, base_batch=8)"
    with pytest.raises(sooner.SoonerError, match="both own the scale of the learning rate; keep one"):
        Recipe(f"adamw + {one} + {one}")
    driven = groups(lr=0.1)
    Cosine(driven, 10)
    before = [g["lr"] for g in driven.param_groups]
    with pytest.raises(
        sooner.SoonerError, match=r"a schedule already drives this optimizer .* make batch_scaling first"
    ):
        BatchScaling(driven, batch=64, base_batch=8)
    assert [g["lr"] for g in driven.param_groups] == before


def test_a_resumed_run_is_not_scaled_twice():
    def start():
        torch.manual_seed(0)
        net = nn.Linear(3, 2)
        recipe = Recipe("batch_scaling(batch=64, base_batch=16) + adamw(lr=0.01) + cosine")
        return net, recipe.build(net, steps=10)

    def advance(net, training, first, last):
        rates = []
        for step in range(first, last):
            net(torch.full((1, 3), float(step))).square().sum().backward()
            training.step()
            training.zero_grad()
            rates.append(training.learning_rates())
        return rates

    net, training = start()
    advance(net, training, 0, 4)
    saved = copy.deepcopy((net.state_dict(), training.state_dict()))
    other, resumed = start()
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert advance(net, training, 4, 10) == advance(other, resumed, 4, 10)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_the_state_of_another_scaling_is_refused():
    saved = BatchScaling(groups(lr=0.1), batch=64, base_batch=16).state_dict()
    with pytest.raises(sooner.SoonerError, match="the saved run has batch=64 where this one has 32; resume with the"):
        BatchScaling(groups(lr=0.1), batch=32, base_batch=16).load_state_dict(saved)
