"""`state_bits`: any rule's running means in 8 or 4 bits, how far that leads from float64, and what becomes of them."""

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sooner import part
from sooner.error import SoonerError
from sooner.execute import eager, using
from sooner.execute.low_bits import FORMS, positive_levels, signed_levels, unpacked
from sooner.gradient import ClipNorm
from sooner.memory import LowBitState
from sooner.update import SGD, AdamW, AdEMAMix, Muon, NormalizedGD, SophiaG

both = pytest.mark.parametrize("bits", [8, 4])
SHAPE = (70, 60)
"""Blocks do not fit: the last one is a part."""
METHODS = [
    method
    for method in (part.load(name) for name, station in part.names().items() if station == "update")
    if issubclass(method, torch.optim.Optimizer) and not method.needs
]


def parameters(shapes=(SHAPE, (5,), (64, 90)), dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in shapes]


def gradients(params, step):
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(p.shape, generator=generator).to(p.dtype) * 0.1 for p in params]


def train(optimizer, params, first, last):
    for step in range(first, last):
        for p, g in zip(params, gradients(params, step), strict=True):
            p.grad = g
        optimizer.step()


def values(params):
    return [p.detach().clone() for p in params]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def kept(optimizer, p):
    return {slot: t.clone() for slot, t in optimizer.state[p].items()}


def keeps_means(method):
    try:
        method(parameters(), state_bits=8)
    except SoonerError:
        return False
    return True


WITH_MEANS = [method for method in METHODS if keeps_means(method)]


def test_most_rules_keep_means():
    assert {m.__name__ for m in METHODS} - {m.__name__ for m in WITH_MEANS} <= {
        *(
            "AdaGradNorm",
            "NormalizedGD",
            "NormalizedLogisticGD",
            "GradNormSmooth",
            "SoftmaxGhosts",
            "LeapVerify",
            "SGD",
        ),
        "ScheduleFreeSGD",
    }


# what it costs in exactness, and in memory


def error_bound(slot, bits, beta, largest, steps):
    """What rounding may change of a mean of numbers of at most this size: each step adds at most half a gap between
    levels, what -1 is away from the lowest one, or where nothing may become 0 the smallest of them, times the largest
    number; and it shrinks what was there by beta.
    """
    signed, positive = signed_levels(bits), positive_levels(bits)
    several = [positive] if slot == "exp_avg_sq" else [positive, signed]
    gap = max(float((levels[1:] - levels[:-1]).max()) / 2 for levels in several)
    away = max(gap, float(positive[1]), 0 if slot == "exp_avg_sq" else 1 + float(signed[0]))
    return away * largest * (1 - beta**steps) / (1 - beta)


@both
@pytest.mark.parametrize("random", [False, True])
def test_means_stay_as_close_to_float64_as_levels_allow(bits, random):
    params, steps = parameters([SHAPE]), 30
    optimizer = AdamW(params, lr=1e-3, state_bits=bits, stochastic_rounding=random)
    mean, square = (torch.zeros(SHAPE, dtype=torch.float64) for _ in range(2))
    largest = 0.0
    for step in range(steps):
        (g,) = gradients(params, step)
        largest = max(largest, float(g.abs().max()))
        train(optimizer, params, step, step + 1)
        mean = 0.9 * mean + 0.1 * g.double()
        square = 0.999 * square + 0.001 * g.double() ** 2
    state = optimizer.state[params[0]]
    for slot, exact, beta, size in (("exp_avg", mean, 0.9, largest), ("exp_avg_sq", square, 0.999, largest**2)):
        bound = error_bound(slot, bits, beta, size, steps) * (2 if random else 1)  # a gap, where it was half of one
        assert (unpacked(state, slot, SHAPE).double() - exact).abs().max() <= bound


@both
def test_a_step_of_the_first_gradient_is_exact(bits):
    """The step goes by full numbers; only what rests is rounded."""
    ours, theirs = parameters(), parameters()
    train(AdamW(ours, lr=0.01, state_bits=bits), ours, 0, 1)
    train(AdamW(theirs, lr=0.01), theirs, 0, 1)
    assert all(torch.allclose(p, q, rtol=1e-6, atol=1e-7) for p, q in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("bits", "low", "high"), [(8, 0.01, 0.02), (4, 0.15, 0.25)])
def test_a_way_on_random_gradients_is_off_by_what_the_page_says(bits, low, high):
    exact = displacement(lambda p: AdamW(p, lr=1e-3))
    off = (displacement(lambda p: AdamW(p, lr=1e-3, state_bits=bits)) - exact).norm() / exact.norm()
    assert low < off < high


def displacement(make, steps=20):
    params = parameters([(64, 128)])
    before = values(params)
    train(make(params), params, 0, steps)
    return params[0].detach().double() - before[0].double()


@pytest.mark.parametrize(("module", "ours", "theirs"), [
    ("torchao.optim", 8, "AdamW8bit"),
    ("torchao.optim", 4, "AdamW4bit"),
    ("bitsandbytes.optim", 8, "AdamW8bit"),
])  # fmt: skip
def test_it_is_as_exact_as_the_published_packages(module, ours, theirs, monkeypatch):
    package = pytest.importorskip(module)
    monkeypatch.setattr("torch.compile", lambda function, **options: function)
    exact = displacement(lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01))
    own = displacement(lambda p: AdamW(p, lr=1e-3, weight_decay=0.01, state_bits=ours))
    peer = displacement(lambda p: getattr(package, theirs)(p, lr=1e-3, weight_decay=0.01))
    assert (own - exact).norm() <= 1.1 * (peer - exact).norm()
    assert (own - exact).norm() > 0


@pytest.mark.parametrize(("bits", "each"), [(8, 1 + 4 / 256), (4, 0.5 + 4 / 128)])
def test_it_takes_the_bytes_that_the_card_says(bits, each):
    params = parameters([(128, 128)])
    optimizer = AdamW(params, state_bits=bits)
    train(optimizer, params, 0, 1)
    taken = sum(t.untyped_storage().nbytes() for t in optimizer.state[params[0]].values() if t.ndim)
    assert taken == 2 * each * 128 * 128


class Largest(TorchDispatchMode):
    """Notes the largest tensor of floating point that an operation makes."""

    found = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        old = {t.untyped_storage().data_ptr() for t in tree_leaves([args, kwargs]) if isinstance(t, torch.Tensor)}
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, list | tuple) else [made]:
            if (
                isinstance(one, torch.Tensor)
                and one.is_floating_point()
                and one.untyped_storage().data_ptr() not in old
            ):
                self.found = max(self.found, one.numel())
        return made


@both
def test_no_more_than_a_piece_is_ever_there_in_full(bits, monkeypatch):
    monkeypatch.setattr(eager, "PIECE", 2**10)
    params = parameters([(64, 130)])
    optimizer = AdamW(params, state_bits=bits)
    train(optimizer, params, 0, 1)
    (params[0].grad,) = gradients(params, 1)
    with Largest() as mode:
        optimizer.step()
    assert 0 < mode.found < 2 * 2**10  # two for each byte of 4 bits
    twin = parameters([(64, 130)])
    monkeypatch.undo()
    train(AdamW(twin, state_bits=bits), twin, 0, 2)
    assert same(params, twin), "how a parameter is cut into pieces shows"


# every rule


@pytest.mark.parametrize("method", WITH_MEANS, ids=lambda m: m.__name__)
@both
def test_every_rule_goes_on_bit_for_bit(method, bits):
    straight, params = parameters(), parameters()
    train(method(straight, state_bits=bits), straight, 0, 6)
    optimizer = method(params, state_bits=bits)
    train(optimizer, params, 0, 3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    fresh = [nn.Parameter(p.detach().clone()) for p in params]
    resumed = method(fresh)  # the number of bits comes with the state
    state = torch.load(file, weights_only=True)
    resumed.load_state_dict(state)
    again = resumed.state_dict()["state"]
    assert all(torch.equal(again[n][slot], t) for n, one in state["state"].items() for slot, t in one.items())
    train(resumed, fresh, 3, 6)
    assert same(straight, fresh)


@pytest.mark.parametrize("method", WITH_MEANS, ids=lambda m: m.__name__)
def test_every_rule_walks_about_where_it_did(method):
    params, whole = parameters(), parameters()
    before = values(params)
    train(method(params, lr=1e-3, state_bits=8), params, 0, 5)
    train(method(whole, lr=1e-3), whole, 0, 5)
    moved = torch.cat([(p - q).flatten() for p, q in zip(whole, before, strict=True)])
    off = torch.cat([(p - q).flatten() for p, q in zip(params, whole, strict=True)])
    assert off.norm() <= 0.1 * moved.norm()


@both
@pytest.mark.parametrize("random", [False, True])
def test_executors_take_the_same_steps(bits, random):
    ways = []
    for executor in ("eager", "native"):
        params = parameters()
        with using(executor):
            train(AdamW(params, lr=0.01, state_bits=bits, stochastic_rounding=random), params, 0, 4)
        ways.append(params)
    assert same(*ways)


def test_it_goes_with_a_sum_over_the_model():
    params, whole = parameters(), parameters()
    for some, bits in ((params, 8), (whole, None)):
        optimizer = AdamW(some, lr=1e-3, state_bits=bits)
        ClipNorm(optimizer, max_norm=0.1)
        train(optimizer, some, 0, 3)
    assert all(torch.allclose(p, q, atol=1e-4) for p, q in zip(params, whole, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("master", [False, True])
def test_other_precisions(dtype, master):
    params, whole = parameters(dtype=dtype), parameters(dtype=dtype)
    train(AdamW(params, lr=0.01, state_bits=8, master_weights=master), params, 0, 4)
    train(AdamW(whole, lr=0.01, master_weights=master), whole, 0, 4)
    assert all(p.isfinite().all() and p.dtype == dtype for p in params)
    assert all(torch.allclose(p.float(), q.float(), atol=0.02) for p, q in zip(params, whole, strict=True))


def test_weights_may_lie_anyhow_in_memory():
    params, strided = parameters([(64, 90)]), parameters([(64, 90)])
    strided[0].data = strided[0].data.t().contiguous().t()
    train(AdamW(params, state_bits=4), params, 0, 3)
    train(AdamW(strided, state_bits=4), strided, 0, 3)
    assert same(params, strided)


# switching, copying, refusing


def test_small_parameters_and_other_groups_stay_whole():
    params = parameters()
    groups = [{"params": params[:2]}, {"params": params[2:], "state_bits": None}]
    optimizer = AdamW(groups, state_bits=8)
    train(optimizer, params, 0, 1)
    assert [optimizer.state[p]["exp_avg"].dtype for p in params] == [torch.uint8, torch.float32, torch.float32]
    assert "exp_avg_scale" not in optimizer.state[params[1]]


@pytest.mark.parametrize(("before", "after"), [(None, 8), (8, None), (8, 4), (4, 8), (4, None), (None, 4)])
def test_the_number_of_bits_may_change_on_the_way(before, after):
    params = parameters([SHAPE])
    optimizer = AdamW(params, state_bits=before)
    train(optimizer, params, 0, 3)
    wanted = unpacked(optimizer.state[params[0]], "exp_avg", SHAPE).clone()
    optimizer.param_groups[0]["state_bits"] = after
    params[0].grad = torch.zeros(SHAPE)
    optimizer.step()
    state = optimizer.state[params[0]]
    if after is None:
        assert "exp_avg_scale" not in state
        assert torch.allclose(state["exp_avg"], 0.9 * wanted, rtol=1e-6)
    else:
        assert FORMS[after].fits(state["exp_avg"], state["exp_avg_scale"], SHAPE)
        levels = 2 * float((signed_levels(after)[1:] - signed_levels(after)[:-1]).max()) / 2  # rounded twice
        assert (unpacked(state, "exp_avg", SHAPE) - 0.9 * wanted).abs().max() <= levels * wanted.abs().max()


def test_a_state_of_full_numbers_is_shortened():
    params = parameters()
    whole = AdamW(params)
    train(whole, params, 0, 2)
    old = whole.state_dict()
    for group in old["param_groups"]:
        del group["state_bits"]  # of a version that knew no such thing
    optimizer = AdamW(params, state_bits=8)
    optimizer.load_state_dict(old)
    train(optimizer, params, 2, 3)
    assert optimizer.state[params[0]]["exp_avg"].dtype == torch.uint8


def test_a_deep_copy_goes_on_by_itself():
    params = parameters()
    optimizer = AdamW(params, state_bits=8)
    train(optimizer, params, 0, 2)
    copied = copy.deepcopy(optimizer)
    own = [p for group in copied.param_groups for p in group["params"]]
    before = values(own)
    train(optimizer, params, 2, 4)
    assert same(own, before)
    train(copied, own, 2, 4)
    assert same(own, params)


def test_rounding_at_random_is_the_same_in_every_run_and_keeps_a_slow_mean_moving():
    """A mean of squares falls by less per step than half of what levels are apart: it stands still where it is rounded
    to the nearest one, and follows where that is at random.
    """
    steps, means = 200, []
    for random in (False, True, True):
        p = nn.Parameter(torch.zeros(64, 64))
        optimizer = AdamW([p], lr=0.0, betas=(0.0, 0.999), state_bits=8, stochastic_rounding=random)
        p.grad = torch.ones(64, 64)
        optimizer.step()
        p.grad = torch.zeros(64, 64)
        p.grad[::4, 0] = 1.0  # of every block one number, which keeps its scale
        for _ in range(steps):
            optimizer.step()
        state = optimizer.state[p]
        relative = unpacked(state, "exp_avg_sq", (64, 64)) / unpacked(state, "exp_avg_sq", (64, 64)).max()
        means.append(relative[:, 1:].clone())
    nearest, first, second = means
    exact = 0.001 * 0.999**steps / (1 - 0.999 ** (steps + 1))
    assert torch.equal(first, second)
    assert abs(float(first.mean()) / exact - 1) < 0.05
    assert abs(float(nearest.mean()) / exact - 1) > 0.5


def test_what_is_no_number_shows():
    params = parameters([SHAPE])
    optimizer = AdamW(params, state_bits=8)
    train(optimizer, params, 0, 1)
    (params[0].grad,) = gradients(params, 1)
    params[0].grad[3, 5] = math.nan
    optimizer.step()
    train(optimizer, params, 2, 3)
    assert params[0][3, 5].isnan()
    assert params[0].isnan().sum() <= 256


@pytest.mark.parametrize("bad", [5, 16, 8.0, True, "8bit", float("nan")])
def test_other_numbers_of_bits_are_refused(bad):
    with pytest.raises(SoonerError, match="state_bits"):
        AdamW(parameters(), state_bits=bad)
    with pytest.raises(SoonerError, match="bits"):
        LowBitState(AdamW(parameters()), bits=bad)


def test_a_rule_without_means_is_refused():
    for method, hyper in ((NormalizedGD, {}), (SGD, {"momentum": 0.0})):
        with pytest.raises(SoonerError, match="keeps no running means"):
            method(parameters(), lr=0.1, state_bits=8, **hyper)


def test_curvature_stays_whole():
    model = nn.Linear(80, 60, bias=False)
    optimizer = SophiaG(model, state_bits=8)
    x = torch.randn(4, 80)
    for _ in range(2):
        torch.autograd.backward(model(x).square().mean())
        optimizer.step(lambda: nn.functional.cross_entropy(model(x), torch.zeros(4, dtype=torch.long)))
    state = optimizer.state[model.weight]
    assert state["exp_avg"].dtype == torch.uint8
    assert state["hessian"].dtype == torch.float32


def test_the_part_switches_every_optimizer_of_a_recipe_on():
    model = nn.Sequential(nn.Embedding(100, 64), nn.Linear(64, 80), nn.Linear(80, 3))
    optimizers = [Muon([model[1].weight], model=model), AdEMAMix([*model[0].parameters(), *model[2].parameters()])]
    LowBitState(optimizers, bits=4)
    for one in optimizers:
        assert [group["state_bits"] for group in one.param_groups] == [4]
        assert one.defaults["state_bits"] == 4
    torch.autograd.backward(model(torch.arange(8)).square().mean())
    for one in optimizers:
        one.step()
    assert optimizers[0].state[model[1].weight]["momentum_buffer"].dtype == torch.uint8
    assert optimizers[1].state[model[0].weight]["exp_avg_slow"].dtype == torch.uint8


def test_the_part_refuses_optimizers_of_others():
    with pytest.raises(SoonerError, match="no optimizer of sooner"):
        LowBitState(torch.optim.AdamW(parameters()))
