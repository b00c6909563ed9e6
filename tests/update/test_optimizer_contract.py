"""What PyTorch promises of an optimizer, for every update part: gradients, groups, state, schedulers, copies, hooks."""

import copy
import gc
import inspect
import io
import math
import pickle
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sooner import part
from sooner.transform import Reduction
from sooner.update import (
    MARS,
    SGD,
    AdaBelief,
    AdaGradNorm,
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
from sooner.update._matrices import MatrixOptimizer

UPDATES = [part.load(name) for name, station in part.names().items() if station == "update"]
METHODS = [m for m in UPDATES if issubclass(m, torch.optim.Optimizer) and not m.needs]
"""Optimizers that step from gradients alone; for those that evaluate the loss see test_second_order.py."""
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)

SHAPES = st.lists(
    st.sampled_from([(), (0,), (1,), (3,), (2, 3), (3, 2), (2, 3), (4, 1), (0, 2), (2, 2, 2), (2, 1, 3, 3)]), max_size=5
)
DTYPES = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])


def make(shapes, dtype=torch.float64, seed=0):
    """Parameters of these shapes behind one matrix, so that every method finds something to do."""
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in [(3, 4), *shapes]]


def give_gradients(params, step, present=None):
    generator = torch.Generator().manual_seed(1000 + step)
    for i, p in enumerate(params):
        g = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        p.grad = g if present is None or present[i] else None


def values(params):
    return [p.detach().clone() for p in params]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def shares_a_number(optimizer):
    """Whether all parameters that step together share a number, such as the norm of all gradients."""
    rules = (rule for group in optimizer.param_groups for rule in optimizer.full_rule(group).rules)
    return any(isinstance(rule, Reduction) and rule.over == "model" for rule in rules)


def remembers_a_number(optimizer):
    """Whether what all parameters share is kept from step to step."""
    rules = (rule for group in optimizer.param_groups for rule in optimizer.full_rule(group).rules)
    return any(isinstance(rule, Reduction) and rule.over == "model" and rule.memory for rule in rules)


def needs_a_matrix(method):
    return issubclass(method, MatrixOptimizer)


def train(optimizer, params, steps, first=0):
    for step in range(first, first + steps):
        give_gradients(params, step)
        optimizer.step()


# gradients


@every_method
@settings(max_examples=25)
@given(shapes=SHAPES, dtype=DTYPES, maximize=st.booleans())
def test_gradients_are_only_read(method, shapes, dtype, maximize):
    params = make(shapes, dtype)
    extra = {"weight_decay": 0.1} if "weight_decay" in inspect.signature(method).parameters else {}
    optimizer = method(params, maximize=maximize, **extra)
    for step in range(2):
        give_gradients(params, step)
        before, held = [p.grad.clone() for p in params], [p.grad for p in params]
        optimizer.step()
        assert all(p.grad is g for p, g in zip(params, held, strict=True))
        assert same(before, [p.grad for p in params])
        assert all(p.isfinite().all() and p.dtype == dtype for p in params)


@every_method
def test_a_parameter_without_gradient_is_left_alone(method):
    params = make([(3,), (2, 2)])
    before = values(params)
    optimizer = method(params, lr=0.1)
    optimizer.step()
    assert same(before, values(params))
    assert not any(optimizer.state[p] for p in params)
    for _ in range(2):  # some move nothing at their first gradient
        give_gradients(params, 0, [True, False, True])
        optimizer.step()
    assert torch.equal(params[1], before[1])
    assert not optimizer.state[params[1]]
    assert not torch.equal(params[0], before[0])
    assert not torch.equal(params[2], before[2])


@settings(max_examples=40)
@given(
    pattern=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=8),
    ours_theirs=st.sampled_from(
        [
            (AdamW, torch.optim.AdamW, {"lr": 0.01}),
            (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
            (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.0}),
        ]
    ),
)
def test_gradients_may_come_and_go_as_in_torch(pattern, ours_theirs):
    ours, theirs, hyper = ours_theirs
    shapes = [(3,), (3, 4), (), (2, 2)]
    params, shadow = make(shapes), make(shapes)
    a, b = ours(params, **hyper), theirs(shadow, **hyper)
    for step, present in enumerate(pattern):
        give_gradients(params, step, present)
        give_gradients(shadow, step, present)
        a.step()
        b.step()
    for p, q in zip(params, shadow, strict=True):
        assert torch.allclose(p, q, rtol=1e-13, atol=1e-13)
        for name, value in b.state[q].items():
            assert torch.allclose(a.state[p][name], value, rtol=1e-13, atol=1e-13), name
    taken = [sum(present[i] for present in pattern) for i in range(5)]
    assert [int(a.state[p].get("step", 0)) for p in params] == taken


@every_method
def test_a_split_and_reunited_set_of_parameters_forgets_nothing(method):
    together, apart = make([(3,), (3, 4)]), make([(3,), (3, 4)])
    a, b = method(together, lr=0.01), [method([p], lr=0.01) for p in apart[::2]]
    if remembers_a_number(a):  # which is not forgotten by those who sit out: see the test below
        return
    both = [] if shares_a_number(a) else [[1, 0, 1]]
    for step, present in enumerate([*both, [1, 0, 0], [1, 0, 0], [0, 0, 1], *both, [0, 0, 1]]):
        give_gradients(together, step, present)
        give_gradients(apart, step, present)
        a.step()
        for one in b:
            one.step()
    assert all(torch.allclose(p, q, rtol=1e-13) for p, q in zip(together[::2], apart[::2], strict=True))


@pytest.mark.parametrize("resumed", [False, True])
def test_what_belongs_to_the_model_is_not_forgotten_by_those_who_sit_out(resumed):
    a, b = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in "ab")
    optimizer = AdaGradNorm([a, b], lr=1.0, b0=1e-9, eps=0.0)
    for ga, gb, total in ((3.0, 4.0, 25.0), (12.0, None, 169.0), (None, 1.0, 170.0), (None, math.sqrt(30.0), 200.0)):
        for p, g in ((a, ga), (b, gb)):
            p.grad = None if g is None else torch.tensor([g], dtype=torch.float64)
        before = b.item()
        optimizer.step()
        if gb is not None:
            assert b.item() - before == pytest.approx(-gb / math.sqrt(total), rel=1e-12)
        if resumed:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = AdaGradNorm([a, b], lr=1.0, b0=1e-9, eps=0.0)
            optimizer.load_state_dict(saved)


@every_method
def test_nan_gradients_pass_through(method):
    params = make([(3,)])
    optimizer = method(params)
    give_gradients(params, 0)
    params[1].grad[0] = torch.nan
    optimizer.step()
    assert params[1][0].isnan()


def test_nan_stays_where_torch_has_it():
    params, shadow = make([(3,), (2, 2)]), make([(3,), (2, 2)])
    a, b = AdamW(params), torch.optim.AdamW(shadow)
    for step in range(3):
        for some, optimizer in ((params, a), (shadow, b)):
            give_gradients(some, step)
            if step == 1:
                some[1].grad[0] = torch.nan
            optimizer.step()
    assert [p.isnan().tolist() for p in params] == [p.isnan().tolist() for p in shadow]


@every_method
def test_zero_grad_drops_or_zeroes(method):
    params = make([(3,)])
    optimizer = method(params)
    give_gradients(params, 0)
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in params)
    optimizer.zero_grad(set_to_none=True)
    assert all(p.grad is None for p in params)


@every_method
def test_closure_runs_with_gradients_enabled_and_its_value_is_returned(method):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    optimizer = method(model.parameters(), lr=0.01)
    before = values(model.parameters())

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).square().sum()
        loss.backward()
        return loss

    value = optimizer.step(closure)
    assert value.item() > 0
    assert not same(before, values(model.parameters()))
    assert optimizer.step() is None


@every_method
def test_maximize_is_minimising_the_negative(method):
    up, down = make([(3,)]), make([(3,)])
    a, b = method(up, lr=0.05, maximize=True), method(down, lr=0.05)
    for step in range(3):
        give_gradients(up, step)
        give_gradients(down, step)
        for p in down:
            p.grad.neg_()
        a.step()
        b.step()
    assert same(values(up), values(down))


# parameters of every kind


@every_method
def test_memory_layout_of_parameters_and_gradients_does_not_matter(method):
    plain = make([(4, 2, 3, 3), (4, 6)])
    odd = [
        nn.Parameter(plain[0].detach().T.contiguous().T),
        nn.Parameter(plain[1].detach().to(memory_format=torch.channels_last)),
        nn.Parameter(torch.empty(4, 12, dtype=torch.float64)[:, ::2].copy_(plain[2].detach())),
    ]
    assert not any(p.is_contiguous() for p in odd)
    a, b = method(plain, lr=0.01), method(odd, lr=0.01)
    for step in range(3):
        give_gradients(plain, step)
        give_gradients(odd, step)
        odd[2].grad = torch.stack([odd[2].grad, odd[2].grad], dim=-1)[..., 0]
        plain[0].grad = plain[0].grad[:1].expand(3, 4)  # every row the same memory, as broadcasting leaves it
        odd[0].grad = plain[0].grad.clone()
        a.step()
        b.step()
    assert same(values(plain), values(odd))


@every_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_step_in_float32_and_round_once(method, dtype):
    half = make([(3,), (2, 2)], dtype)
    single = [nn.Parameter(p.detach().float()) for p in half]
    a, b = method(half, lr=0.1), method(single, lr=0.1)
    for step in range(4):
        give_gradients(half, step)
        for p, q in zip(half, single, strict=True):
            q.grad = p.grad.float()
        a.step()
        b.step()
        assert same([q.detach().to(dtype) for q in single], values(half))
        assert all(s.dtype == torch.float32 for p in half for s in a.state[p].values())
        with torch.no_grad():
            for p, q in zip(half, single, strict=True):
                q.copy_(p)  # the parameter itself was rounded, the state was not


@every_method
def test_parameters_of_several_precisions_share_an_optimizer(method):
    dtypes = [torch.float64, torch.float32, torch.bfloat16, torch.float32]
    params = [nn.Parameter(torch.randn(2, 3, dtype=d)) for d in dtypes]
    known = {"d0": 0.1} if method is Prodigy else {}  # else it would take more steps to find
    optimizer = method(params, lr=0.1, **known)
    before = values(params)
    train(optimizer, params, 3)  # an odd number: two steps of one size may lead back
    assert [p.dtype for p in params] == dtypes
    assert not any(torch.equal(p, q) for p, q in zip(params, before, strict=True))


@every_method
def test_tied_parameters_step_once(method):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    optimizer = method(model, lr=0.01)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 2
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert model[1].weight is model[0].weight
    assert int(optimizer.state[model[0].weight]["step"]) == 1


@every_method
def test_frozen_parameters_stay(method):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    model[1].requires_grad_(False)
    optimizer = method(model, lr=0.1)
    before = values(model[1].parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert same(before, values(model[1].parameters()))


@every_method
def test_what_params_may_be(method):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    weights = [m.weight for m in model]
    for params in (model, model.parameters(), list(model.parameters()), tuple(weights), iter(weights)):
        optimizer = method(params)
        assert sum(len(g["params"]) for g in optimizer.param_groups) in (3, 6)
    named = method(model.named_parameters())
    assert sorted(n for g in named.param_groups for n in g["param_names"]) == sorted(dict(model.named_parameters()))
    groups = method([{"params": weights[0]}, {"params": [*weights[1:]], "lr": 0.5}, {"params": []}])
    assert [g["lr"] for g in groups.param_groups][1] == 0.5


# groups


@every_method
def test_hyper_parameters_are_read_from_the_group_at_every_step(method):
    a, b = make([(3,)]), make([(3,)])
    shared = method([{"params": a[:1], "lr": 0.1}, {"params": a[1:], "lr": 0.3}])
    lone = [method(b[:1], lr=0.1)] if needs_a_matrix(method) else [method(b[:1], lr=0.1), method(b[1:], lr=0.3)]
    if shares_a_number(shared):
        lone = [method([{"params": b[:1], "lr": 0.1}, {"params": b[1:], "lr": 0.3}])]
    for step in range(4):
        give_gradients(a, step)
        give_gradients(b, step)
        for optimizer in (shared, *lone):
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
            optimizer.step()
    assert torch.allclose(a[0], b[0], rtol=1e-13)
    assert needs_a_matrix(method) or torch.allclose(a[1], b[1], rtol=1e-13)


@every_method
def test_a_group_can_join_in_mid_run(method):
    old, new = make([(3,)]), make([(3,)], seed=1)
    optimizer = method(old, lr=0.01)
    train(optimizer, old, 3)
    before = values(old)
    optimizer.add_param_group({"params": new, "lr": 0.02})
    assert optimizer.param_groups[-1]["lr"] in (0.02, 0.005)  # Muon: a quarter for what is no matrix
    train(optimizer, [*old, *new], 2, first=3)
    assert [int(optimizer.state[p]["step"]) for p in (*old, *new)] == [5, 5, 2, 2]
    assert not any(torch.equal(p, q) for p, q in zip(old, before, strict=True))


def test_muon_takes_a_group_without_matrices_in_mid_run():
    params = make([])
    optimizer = Muon(params, lr=0.1)
    late = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer.add_param_group({"params": [late]})
    ((_, settings),) = optimizer.shares(optimizer.param_groups[-1])
    assert (settings["muon"], settings["lr"]) == (False, pytest.approx(0.025))
    train(optimizer, [*params, late], 1)
    assert late[0] != 1.0


def test_momentum_can_be_switched_off_and_on():
    params = make([(3,)])
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    train(optimizer, params, 2)
    optimizer.param_groups[0]["momentum"] = 0.0
    before = values(params)
    give_gradients(params, 2)
    optimizer.step()
    assert all(torch.allclose(p, q - 0.1 * p.grad) for p, q in zip(params, before, strict=True))
    optimizer.param_groups[0]["momentum"] = 0.9
    train(optimizer, params, 1, first=3)
    assert "momentum_buffer" in optimizer.state[params[0]]


@every_method
def test_a_learning_rate_may_be_a_tensor(method):
    a, b = make([(3,)]), make([(3,)])
    rate = torch.tensor(0.05, dtype=torch.float64)
    by_tensor, by_number = method(a, lr=rate), method(b, lr=0.05)
    train(by_tensor, a, 2)
    train(by_number, b, 2)
    assert all(torch.allclose(p, q, rtol=1e-12) for p, q in zip(a, b, strict=True))
    for group in by_tensor.param_groups:
        group["lr"].fill_(0.0)
    before = values(a)
    train(by_tensor, a, 1, first=2)
    if "learning rate" not in method.owns:  # the weights of Schedule-Free go on towards the average
        assert same(before, values(a))


# schedulers


@every_method
def test_torchs_schedulers_drive_it(method):
    a, b = make([(3,)]), make([(3,)])
    scheduled, by_hand = method(a, lr=0.1), method(b, lr=0.1)
    base = [g["lr"] for g in by_hand.param_groups]
    scheduler = torch.optim.lr_scheduler.LambdaLR(scheduled, lambda step: 0.5**step)
    for step in range(4):
        for group, lr in zip(by_hand.param_groups, base, strict=True):
            group["lr"] = lr * 0.5**step
        train(scheduled, a, 1, first=step)
        train(by_hand, b, 1, first=step)
        scheduler.step()
    assert same(values(a), values(b))


@pytest.mark.parametrize(
    ("ours", "theirs", "moved"),
    [(SGD, torch.optim.SGD, "momentum"), (AdamW, torch.optim.AdamW, "betas")],
)
def test_one_cycle_moves_learning_rate_and_momentum_as_in_torch(ours, theirs, moved):
    params, shadow = make([(3,)]), make([(3,)])
    hyper = {"lr": 0.1, "momentum": 0.9} if moved == "momentum" else {"lr": 0.1}
    a, b = ours(params, **hyper), theirs(shadow, **hyper)
    schedulers = [torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=8) for o in (a, b)]
    seen = set()
    for step in range(8):
        train(a, params, 1, first=step)
        train(b, shadow, 1, first=step)
        seen.add(str(a.param_groups[0][moved]))
        assert a.param_groups[0][moved] == b.param_groups[0][moved]
        for scheduler in schedulers[: 2 if step < 7 else 0]:
            scheduler.step()
    assert len(seen) > 4
    assert all(torch.allclose(p, q, rtol=1e-12, atol=1e-14) for p, q in zip(params, shadow, strict=True))


# state


def saved(optimizer):
    """The state as another process reads it from a file."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_method
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_saved_optimizer_goes_on_bit_for_bit(method, dtype):
    params = make([(3,), (2, 2)], dtype)
    optimizer = method(params, lr=0.01)
    train(optimizer, params, 3)
    give_gradients(params, 3, [True, False, True])  # step counts differ from here on
    optimizer.step()
    again = [nn.Parameter(p.detach().clone()) for p in params]
    resumed = method(again, lr=0.5)
    resumed.load_state_dict(saved(optimizer))
    train(optimizer, params, 3, first=4)
    train(resumed, again, 3, first=4)
    assert same(values(params), values(again))
    for p, q in zip(params, again, strict=True):
        assert optimizer.state[p].keys() == resumed.state[q].keys()
        assert all(torch.equal(optimizer.state[p][k], resumed.state[q][k]) for k in optimizer.state[p])
    assert str(resumed) == str(optimizer)


@every_method
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_are_independent_and_go_on_alike(method, duplicate):
    params = make([(3,)])
    optimizer = method(params, lr=0.01)
    train(optimizer, params, 2)
    clone = duplicate(optimizer)
    copied = [p for g in clone.param_groups for p in g["params"]]
    ordered = [p for g in optimizer.param_groups for p in g["params"]]
    before = values(copied)
    train(optimizer, ordered, 2, first=2)
    assert same(before, values(copied))
    train(clone, copied, 2, first=2)
    assert same(values(ordered), values(copied))
    clone.add_param_group({"params": [nn.Parameter(torch.ones(2, dtype=torch.float64))]})
    train(clone, [p for g in clone.param_groups for p in g["params"]], 1)


@every_method
def test_state_is_ordinary_tensors_that_can_be_edited(method):
    params = make([(3,)])
    optimizer = method(params, lr=0.01)
    train(optimizer, params, 2)
    for some, own in (share for group in optimizer.param_groups for share in optimizer.shares(group)):
        for p in some:
            kept = {name: tuple(value.shape) for name, value in optimizer.state[p].items()}
            assert optimizer.state[p]["step"].item() == 2.0
            assert kept == {"step": (), **optimizer.full_rule(own).shapes(tuple(p.shape))}
    for p in params:
        for slot in set(optimizer.state[p]) - {"step"}:
            optimizer.state[p][slot] = torch.zeros_like(optimizer.state[p][slot])  # replaced, not changed in place
    shadow = [nn.Parameter(p.detach().clone()) for p in params]
    content = optimizer.state_dict()
    for kept in content["state"].values():
        for slot in set(kept) - {"step"}:
            kept[slot] = torch.zeros_like(kept[slot])
    loaded = method(shadow, lr=0.01)
    loaded.load_state_dict(content)
    train(optimizer, params, 1, first=2)
    train(loaded, shadow, 1, first=2)
    assert same(values(params), values(shadow))


@every_method
def test_clearing_the_state_starts_anew(method):
    params = make([(3,)])
    optimizer = method(params, lr=0.01)
    train(optimizer, params, 3)
    optimizer.state.clear()
    fresh = [nn.Parameter(p.detach().clone()) for p in params]
    other = method(fresh, lr=0.01)
    train(optimizer, params, 2)
    train(other, fresh, 2)
    assert same(values(params), values(fresh))


@pytest.mark.parametrize(
    ("ours", "theirs", "hyper"),
    [
        (AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
        (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
        (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.0}),
    ],
)
@pytest.mark.parametrize("through_file", [True, False])
def test_state_moves_from_and_to_torch(ours, theirs, hyper, through_file):
    for first, second in ((ours, theirs), (theirs, ours)):
        params, shadow = make([(3,), (2, 2)]), make([(3,), (2, 2)])
        begun, straight = first(params, **hyper), theirs(shadow, **hyper)
        train(begun, params, 3)
        train(straight, shadow, 3)
        taken_over = second(params, **hyper)
        taken_over.load_state_dict(saved(begun) if through_file else begun.state_dict())
        train(taken_over, params, 3, first=3)
        train(straight, shadow, 3, first=3)
        assert all(torch.allclose(p, q, rtol=1e-12, atol=1e-14) for p, q in zip(params, shadow, strict=True))
        for p, q in zip(params, shadow, strict=True):
            for name, value in straight.state[q].items():
                assert torch.allclose(taken_over.state[p][name], value, rtol=1e-12), name


def test_state_moves_from_torchs_muon():
    params = make([(4, 4)])
    begun = torch.optim.Muon(params, lr=0.02)
    train(begun, params, 2)
    ours = Muon(params, lr=0.02)
    ours.load_state_dict(begun.state_dict())
    assert ours.param_groups[0]["weight_decay"] == 0.1
    assert torch.equal(ours.state[params[0]]["momentum_buffer"], begun.state[params[0]]["momentum_buffer"])
    train(ours, params, 1, first=2)


@every_method
def test_foreign_state_is_refused_and_changes_nothing(method):
    params = make([(3,), (2, 2)])
    optimizer = method(params, lr=0.01)
    train(optimizer, params, 2)
    before = copy.deepcopy(optimizer.state_dict())
    other = torch.optim.Adagrad([nn.Parameter(p.detach().clone()) for p in params])
    train(other, [p for g in other.param_groups for p in g["params"]], 1)
    others = [p for g in other.param_groups for p in g["params"]]
    wrong_shape = copy.deepcopy(optimizer.state_dict())
    for kept in wrong_shape["state"].values():
        for slot in set(kept) - {"step"}:
            kept[slot] = torch.zeros(9, 9)
    incomplete, needed = copy.deepcopy(optimizer.state_dict()), set()
    for kept in incomplete["state"].values():
        needed = set(kept) - {"step", *optimizer.optional_slots}
        for slot in sorted(needed)[:1]:
            del kept[slot]
    cases = [
        (method(others[:2]).state_dict(), "groups of"),
        ({"state": {}}, "not an optimizer state"),
        ("state", "not an optimizer state"),
    ]
    if len(optimizer.param_groups) == 1:
        cases.append((other.state_dict(), "saved by another method"))
    if any(set(kept) - {"step"} for kept in wrong_shape["state"].values()):
        cases.append((wrong_shape, "has shape \\(9, 9\\)"))
    if needed:
        cases.append((incomplete, "where this method keeps"))
    for content, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            optimizer.load_state_dict(content)
        after = optimizer.state_dict()
        assert after["param_groups"] == before["param_groups"]
        for number, kept in before["state"].items():
            assert all(torch.equal(kept[slot], after["state"][number][slot]) for slot in kept)


def test_the_saved_hyper_parameters_decide_which_state_fits():
    params, fresh = make([(3,)]), make([(3,)])
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    train(optimizer, params, 2)
    other = SGD(fresh, lr=0.1, momentum=0.0)  # what it keeps now is nothing; what it loads brings its momentum along
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["momentum"] == 0.9
    assert torch.equal(other.state[fresh[0]]["momentum_buffer"], optimizer.state[params[0]]["momentum_buffer"])


def test_one_norm_for_groups_with_and_without_momentum_survives_loading():
    params, fresh = make([(3,)]), make([(3,)])
    optimizer = NormalizedGD([{"params": params[:1]}, {"params": params[1:], "momentum": 0.5}], lr=0.1)
    other = NormalizedGD([{"params": fresh[:1]}, {"params": fresh[1:]}])
    train(optimizer, params, 2)
    with torch.no_grad():
        for p, q in zip(params, fresh, strict=True):
            q.copy_(p)
    other.load_state_dict(saved(optimizer))
    train(optimizer, params, 2, first=2)
    train(other, fresh, 2, first=2)
    assert same(values(params), values(fresh))


def test_a_hook_may_adapt_the_state_before_it_is_judged():
    params, fresh = make([(3,)]), make([(3,)])
    optimizer, other = AdamW(params), AdamW(fresh)
    train(optimizer, params, 1)
    renamed = optimizer.state_dict()
    renamed["state"] = {n: {f"old_{k}": v for k, v in kept.items()} for n, kept in renamed["state"].items()}

    def restore_names(_, content):
        state = {n: {k.removeprefix("old_"): v for k, v in s.items()} for n, s in content["state"].items()}
        return {**content, "state": state}

    other.register_load_state_dict_pre_hook(restore_names)
    other.load_state_dict(renamed)
    assert torch.equal(other.state[fresh[1]]["exp_avg"], optimizer.state[params[1]]["exp_avg"])
    with pytest.raises(ValueError, match="another method"):
        AdamW(make([(3,)])).load_state_dict(renamed)


def test_loaded_state_is_a_copy():
    params, fresh = make([(3,)]), make([(3,)])
    optimizer, other = AdamW(params), AdamW(fresh)
    train(optimizer, params, 1)
    other.load_state_dict(optimizer.state_dict())
    before = other.state[fresh[0]]["exp_avg"].clone()
    train(optimizer, params, 1, first=1)
    assert torch.equal(other.state[fresh[0]]["exp_avg"], before)


def test_a_saved_step_count_belongs_to_one_parameter():
    params = make([(3,)])
    optimizer = AdamW(params)
    train(optimizer, params, 2)
    first, second = (kept["step"] for kept in optimizer.state_dict()["state"].values())
    first += 1  # as torch's own optimizers count
    assert (first.item(), second.item(), optimizer.state[params[0]]["step"].item()) == (3.0, 2.0, 2.0)


# hooks and the rest


@every_method
def test_step_hooks_run_around_the_step(method):
    params = make([(3,)])
    optimizer = method(params, lr=0.1)
    seen = []
    start = values(params)
    optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("before", same(start, values(params)))))
    optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("after", same(start, values(params)))))
    train(optimizer, params, 1)
    assert seen == [("before", True), ("after", False)]


def test_nothing_keeps_an_optimizer_alive():
    params = make([(3,)])
    optimizer = AdamW(params)
    train(optimizer, params, 1)
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None


def test_it_works_under_gradient_scaling():
    params, shadow = make([(3,)], torch.float32), make([(3,)], torch.float32)
    a, b = AdamW(params), torch.optim.AdamW(shadow)
    for some, optimizer in ((params, a), (shadow, b)):
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for step in range(3):
            loss = sum((p * (step + 1)).square().sum() for p in some)
            if step == 1:
                loss = loss * float("inf")
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert all(torch.allclose(p, q, rtol=1e-6) for p, q in zip(params, shadow, strict=True))
    assert int(a.state[params[0]]["step"]) == 2


# bad input


@every_method
@pytest.mark.parametrize(
    ("lr", "shown"),
    [(-0.1, "lr=-0.1"), (float("nan"), "lr=nan"), (float("inf"), "lr=inf"), ("0.1", "lr='0.1'"), (True, "lr=True")],
)
def test_a_bad_learning_rate_is_named(method, lr, shown):
    with pytest.raises(ValueError, match=f"{method.name()}: {shown} is not a number in \\[0, inf\\); choose one"):
        method(make([]), lr=lr)


def test_numbers_of_numpy_are_checked_too():
    import numpy as np

    assert SGD(make([]), lr=np.float32(0.5)).param_groups[0]["lr"] == 0.5
    for bad in (np.float64(-1.0), np.float32("nan")):
        with pytest.raises(ValueError, match="sgd: lr="):
            SGD(make([]), lr=bad)


@pytest.mark.parametrize(
    ("method", "bad", "sentence"),
    [
        (AdamW, {"betas": (0.9, 1.0)}, r"adamw: betas\[1\]=1.0 is not a number in \[0, 1\)"),
        (AdaBelief, {"betas": (-0.1, 0.9)}, r"adabelief: betas\[0\]=-0.1"),
        (Muon, {"betas": (0.9,)}, r"muon: betas=\(0.9,\) is not a pair"),
        (AdamW, {"betas": 0.9}, "adamw: betas=0.9 is not a pair"),
        (AdamW, {"eps": -1e-8}, "adamw: eps=-1e-08"),
        (AdamW, {"weight_decay": -1}, "adamw: weight_decay=-1"),
        (Lion, {"betas": (0.9, 1.0)}, r"lion: betas\[1\]=1.0 is not a number in \[0, 1\)"),
        (Lion, {"betas": 0.9}, r"lion: betas=0.9 is not a pair; give both decay rates, as \(0.9, 0.99\)"),
        (Lion, {"weight_decay": -1}, "lion: weight_decay=-1"),
        (AdEMAMix, {"betas": (0.9, 0.999)}, r"ademamix: betas=\(0.9, 0.999\) are not three"),
        (AdEMAMix, {"betas": (0.9, 0.999, 1.0)}, r"ademamix: betas\[2\]=1.0 is not a number in \[0, 1\)"),
        (AdEMAMix, {"alpha": -1.0}, "ademamix: alpha=-1.0"),
        (AdEMAMix, {"beta3_warmup": 2.5}, "ademamix: beta3_warmup=2.5"),
        (Adan, {"betas": (0.98, 0.92)}, r"adan: betas=\(0.98, 0.92\) are not three"),
        (Adan, {"betas": (0.98, 1.0, 0.99)}, r"adan: betas\[1\]=1.0"),
        (MARS, {"gamma": -1.0}, "mars: gamma=-1.0"),
        (MARS, {"max_norm": -1.0}, "mars: max_norm=-1.0"),
        (MARS, {"betas_1d": 0.9}, "mars: betas_1d=0.9 is not a pair"),
        (MARS, {"betas_1d": (0.9, 1.0)}, r"mars: betas_1d\[1\]=1.0"),
        (NAdamW, {"betas": 0.9}, "nadamw: betas=0.9 is not a pair"),
        (NAdamW, {"momentum_decay": -1}, "nadamw: momentum_decay=-1"),
        (ScheduleFreeAdamW, {"betas": (1.0, 0.9)}, r"schedule_free_adamw: betas\[0\]=1.0"),
        (ScheduleFreeAdamW, {"warmup": 2.5}, "schedule_free_adamw: warmup=2.5 is not a whole number"),
        (ScheduleFreeSGD, {"beta": 1.0}, r"schedule_free_sgd: beta=1.0 is not a number in \[0, 1\)"),
        (ScheduleFreeSGD, {"rate_power": -1.0}, "schedule_free_sgd: rate_power=-1.0"),
        (Prodigy, {"beta3": 1.0}, r"prodigy: beta3=1.0 is not a number in \[0, 1\)"),
        (Prodigy, {"d0": 0.0}, "prodigy: d0=0.0 would never move anything"),
        (Prodigy, {"d_coef": -1.0}, "prodigy: d_coef=-1.0"),
        (Prodigy, {"growth_rate": 0.9}, "prodigy: growth_rate=0.9"),
        (SGD, {"momentum": 1.0}, "sgd: momentum=1.0"),
        (SGD, {"dampening": 1.5}, "sgd: dampening=1.5"),
        (SGD, {"weight_decay": None}, "sgd: weight_decay=None"),
        (SGD, {"momentum": 0.0, "nesterov": True}, "sgd: nesterov=True needs momentum > 0 and dampening=0"),
        (SGD, {"dampening": 0.1, "nesterov": True}, "sgd: nesterov=True needs momentum > 0 and dampening=0"),
        (Muon, {"momentum": 2}, "muon: momentum=2"),
        (Muon, {"iterations": 0}, r"muon: iterations=0 is not a whole number in \[1, 100\]"),
        (Muon, {"iterations": 2.5}, "muon: iterations=2.5 is not a whole number"),
        (Muon, {"adamw_lr": -1.0}, "muon: adamw_lr=-1.0"),
        (NormalizedGD, {"momentum": -0.1}, "normalized_gd: momentum=-0.1"),
        (NormalizedGD, {"eps": float("nan")}, "normalized_gd: eps=nan"),
    ],
)
def test_a_bad_hyper_parameter_is_named(method, bad, sentence):
    with pytest.raises(ValueError, match=sentence):
        method(make([]), **bad)
    with pytest.raises(ValueError, match=sentence):
        method([{"params": make([]), **bad}])
    optimizer = method(make([]))
    with pytest.raises(ValueError, match=sentence):
        optimizer.add_param_group({"params": make([]), **bad})
    assert len(optimizer.param_groups) == 1


@every_method
def test_bad_parameters_are_named(method):
    matrix = nn.Parameter(torch.ones(2, 2))
    generator = (p for p in [matrix])
    list(generator)
    cases = [
        ([], "parameter list is empty; a generator can be used only once"),
        (generator, "parameter list is empty; a generator can be used only once"),
        ([{"params": []}], "parameter list is empty"),
        (nn.Sequential(), "."),
        ([matrix, matrix], "number 1 is listed twice"),
        ([{"params": [matrix]}, {"params": [matrix]}], "number 1 is listed twice"),
        ([("a", matrix), ("b", matrix)], "parameter b is listed twice"),
        ([matrix, torch.zeros(2, dtype=torch.int64)], "number 1 is torch.int64; pass floating-point"),
        ([nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))], "number 0 is torch.complex64; pass floating-point"),
        (matrix, "ordered collection of its parameters, not a Parameter"),
        ({matrix}, "ordered collection of its parameters, not a set"),
        ([{"params": {matrix}}], "params is a set, whose order"),
        (3, "not a int"),
        ({"weight": matrix}, "params holds a str"),
        ([matrix, None], "params holds a NoneType"),
        ([matrix * 2], "non-leaf"),
    ]
    for params, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            method(params)
    optimizer = method([matrix])
    for params, sentence in (([matrix], "more than one parameter group"), ([torch.zeros(1).int()], "torch.int32")):
        with pytest.raises(ValueError, match=sentence):
            optimizer.add_param_group({"params": params})


@every_method
def test_sparse_gradients_are_refused_whenever_they_come(method):
    embedding = nn.Embedding(4, 3, sparse=True)
    optimizer = method([embedding.weight])
    embedding.weight.grad = torch.ones(4, 3)
    optimizer.step()
    optimizer.zero_grad()
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(
        ValueError, match=f"{method.name()} takes no sparse gradients; build the embedding with sparse=F"
    ):
        optimizer.step()
    assert int(optimizer.state[embedding.weight]["step"]) == 1


def test_muon_without_matrices_says_what_it_found():
    with pytest.raises(ValueError, match=r"muon finds no hidden weight matrix .*\(number 0 \(3,\)\); use adamw or sgd"):
        Muon([nn.Parameter(torch.ones(3))])
    with pytest.raises(ValueError, match=r"\(weight \(2, 3\), bias \(2,\)\); use adamw or sgd here"):
        Muon(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="muon finds no hidden weight matrix"):
        Muon([nn.Parameter(torch.ones(3, 0))])
    with pytest.raises(ValueError, match="muon finds no hidden weight matrix"):
        Muon([{"params": [nn.Parameter(torch.ones(3, 3))], "muon": False}])
    with pytest.raises(ValueError, match="bias has fewer than two dimensions; select only weight matrices"):
        Muon(nn.Sequential(nn.Linear(2, 2)), select=lambda name, p: True)
    with pytest.raises(ValueError, match="select= chooses from a model"):
        Muon([nn.Parameter(torch.ones(3, 3))], select=lambda name, p: True)
