"""Schedules as people use them: longer plans, every order of loading, groups that come and go, other schedulers."""

import copy
import gc
import io
import logging
import pickle
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import sooner
from sooner import SoonerError, part
from sooner.recipe import Recipe
from sooner.schedule import UBA, BatchScaling, Constant, Cosine, Linear, Refined, WarmupStableDecay

SCHEDULES = [
    made
    for made in (part.load(name) for name, station in part.names().items() if station == "schedule")
    if issubclass(made, lr_scheduler.LRScheduler)
]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.__name__)


def weight():
    p = nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    return p


def sgd(*rates, kind=torch.optim.SGD):
    return kind([{"params": [weight()], "lr": rate} for rate in rates or (1.0,)], lr=1.0)


def lrs(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def advance(optimizer, schedule, steps):
    for _ in range(steps):
        optimizer.step()
        schedule.step()


def saved(*parts):
    file = io.BytesIO()
    torch.save([one.state_dict() for one in parts], file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def load(order, optimizer, states, make):
    """Make and load in one of the orders in which people do it."""
    if order == "made late":
        optimizer.load_state_dict(states[0])
        made = make(optimizer)
        made.load_state_dict(states[1])
        return made
    made = make(optimizer)
    both = [(optimizer, states[0]), (made, states[1])]
    for one, state in both if order == "optimizer first" else reversed(both):
        one.load_state_dict(state)
    return made


ORDERS = ["optimizer first", "schedule first", "made late"]


@every_schedule
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("steps", [100, 200, 60])
def test_a_resumed_run_follows_the_plan_that_it_is_given(schedule, order, steps):
    first = sgd(1.0, 0.25)
    begun = schedule(first, 100)
    advance(first, begun, 50)
    second = sgd(1.0, 0.25)
    states = saved(first, begun)
    kept = copy.deepcopy(states)
    made = load(order, second, states, lambda o: schedule(o, steps))
    planned = schedule(sgd(), steps).factor
    assert made.steps == steps
    assert lrs(second) == [planned(50), 0.25 * planned(50)] == made.get_last_lr()
    advance(second, made, 70)
    assert lrs(second) == [planned(120), 0.25 * planned(120)]
    assert states == kept


def test_every_setting_of_the_plan_is_the_constructors_and_one_line_says_so(caplog):
    first = sgd()
    begun = UBA(first, 100, phi=1.0, warmup=0.0)
    advance(first, begun, 50)
    second = sgd()
    made = UBA(second, 200, phi=2.0, warmup=0.1, floor=0.5)
    with caplog.at_level(logging.WARNING, "sooner"):
        made.load_state_dict(begun.state_dict())
    assert [r.message for r in caplog.records] == [
        "uba goes on at step 50 by the plan given here and not by the saved one (floor=0.5, not 0.0; phi=2.0, not 1.0; "
        "steps=200, not 100; warmup=0.1, not 0.0)"
    ]
    assert lrs(second) == [UBA(sgd(), 200, phi=2.0, warmup=0.1, floor=0.5).factor(50)]
    caplog.clear()
    UBA(sgd(), 100, phi=1.0, warmup=0.0).load_state_dict(begun.state_dict())
    assert caplog.records == []


def test_the_norms_of_a_saved_refined_schedule_are_stretched_to_a_longer_plan():
    norms = [1.0 + (k % 5) / 10 for k in range(40)]
    first = sgd()
    begun = Refined(first, 100, norms=norms)
    advance(first, begun, 50)
    second = sgd()
    made = Refined(second, 200)
    made.load_state_dict(begun.state_dict())
    whole = Refined(sgd(), 200, norms=norms)
    assert max(abs(made.factor(t) - whole.factor(t)) for t in range(201)) < 0.03
    assert lrs(second) == [made.factor(50)]


@pytest.mark.parametrize("order", ["optimizer", "schedule"])
def test_loading_the_optimizers_state_leaves_the_rates_to_the_schedule(order):
    first = sgd()
    begun = Linear(first, 100, warmup=0.0)
    early = saved(first, begun)[0]
    advance(first, begun, 50)
    first.load_state_dict(early)  # weights rolled back, time not
    assert lrs(first) == [0.5]
    advance(first, begun, 1)
    assert lrs(first) == [0.49]


def test_a_schedule_can_be_made_at_a_step_of_a_loaded_optimizer():
    first = sgd(1.0, 0.5)
    begun = Linear(first, 100, warmup=0.0)
    advance(first, begun, 50)
    second = sgd(7.0, 7.0)
    second.load_state_dict(first.state_dict())
    made = Linear(second, 200, warmup=0.0, last_epoch=49)
    assert lrs(second) == [0.75, 0.375]
    advance(second, made, 70)
    assert lrs(second) == pytest.approx([0.4, 0.2], abs=1e-15)
    with pytest.raises(SoonerError, match="linear: last_epoch=49 goes on with a run, and group 0 has no initial_lr"):
        Linear(sgd(), 200, last_epoch=49)


def test_a_recipe_with_a_longer_plan_goes_on(caplog):
    def built(steps):
        torch.manual_seed(0)
        net = nn.Linear(3, 2)
        return net, Recipe("adamw(lr=0.1, on='weight') + sgd(lr=1.0, on='bias') + linear(warmup=0.0)").build(net, steps)

    def steps(net, training, count):
        for _ in range(count):
            net(torch.ones(1, 3)).sum().backward()
            training.step()
            training.zero_grad()

    net, training = built(10)
    steps(net, training, 5)
    other, resumed = built(20)
    other.load_state_dict(net.state_dict())
    resumed.load_state_dict(training.state_dict())
    assert resumed.learning_rates() == [0.1 * 0.75, 0.75]
    steps(other, resumed, 7)
    assert resumed.learning_rates() == pytest.approx([0.1 * 0.4, 0.4], abs=1e-15)
    assert sum("goes on at step 5" in r.message for r in caplog.records) == 2  # one for each optimizer


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({}, "linear: this is not the state of a schedule; pass what state_dict"),
        (None, "linear: this is not the state of a schedule"),
        (
            {"last_epoch": 3, "base_lrs": [1.0, 1.0]},
            "linear: the state is of 2 parameter groups and the optimizer has 1",
        ),
    ],
)
def test_what_is_no_state_of_these_groups_is_refused(state, sentence):
    driven = sgd()
    made = Linear(driven, 10, warmup=0.0)
    with pytest.raises(SoonerError, match=sentence):
        made.load_state_dict(state)
    assert (made.last_epoch, lrs(driven)) == (0, [1.0])


def test_the_state_of_pytorchs_schedulers_and_of_earlier_versions_is_understood():
    first = sgd(2.0)
    theirs = lr_scheduler.CosineAnnealingLR(first, 100)
    advance(first, theirs, 50)
    second = sgd(2.0)
    made = Cosine(second, 100, warmup=0.0)
    made.load_state_dict(theirs.state_dict())
    assert lrs(second) == pytest.approx([1.0])
    made.load_state_dict({"last_epoch": 25})
    assert lrs(second) == [2.0 * made.factor(25)]


# Groups


@every_schedule
@pytest.mark.parametrize("kind", [torch.optim.SGD, sooner.update.SGD])
def test_an_added_group_is_scheduled_from_its_first_step_on_with_its_own_rate_as_base(schedule, kind):
    driven = kind([weight()], lr=1.0)
    made = schedule(driven, 100)
    advance(driven, made, 60)
    late = weight()
    driven.add_param_group({"params": [late], "lr": 0.125, "momentum": 0.0})
    driven.step()
    assert late.item() == pytest.approx(1 - 0.125 * made.factor(60))
    made.step()
    assert lrs(driven) == [made.factor(61), 0.125 * made.factor(61)] == made.get_last_lr()
    assert made.base_lrs == [1.0, 0.125]
    given = weight()
    driven.add_param_group({"params": [given], "lr": 5.0, "initial_lr": 0.5})  # a base of its own
    advance(driven, made, 9)
    assert lrs(driven) == [made.factor(70), 0.125 * made.factor(70), 0.5 * made.factor(70)]


def test_unfrozen_layers_resume_where_they_were():
    def begun():
        driven = sgd(1.0)
        return driven, Linear(driven, 100, warmup=0.0)

    straight, a = begun()
    advance(straight, a, 50)
    straight.add_param_group({"params": [weight()], "lr": 0.1})
    advance(straight, a, 10)
    states = saved(straight, a)
    advance(straight, a, 5)
    for late in (False, True):
        resumed, b = begun()
        resumed.add_param_group({"params": [weight()], "lr": 7.0})  # the state knows better
        if late:
            b = Linear(resumed, 100, warmup=0.0)
        resumed.load_state_dict(states[0])
        b.load_state_dict(states[1])
        assert lrs(resumed) == [0.4, 0.1 * 0.4]
        advance(resumed, b, 5)
        assert lrs(resumed) == lrs(straight)
    # from a state of before the group was added: it begins with its own rate
    short, c = begun()
    advance(short, c, 50)
    states = saved(short, c)
    longer, d = begun()
    longer.add_param_group({"params": [weight()], "lr": 0.1})
    d.load_state_dict(states[1])
    assert lrs(longer) == [0.5, 0.05]


def test_groups_may_be_removed_reordered_and_put_back():
    driven = sgd(1.0, 0.5, 0.25)
    made = Linear(driven, 100, warmup=0.0)
    advance(driven, made, 10)
    first, second, third = driven.param_groups
    driven.param_groups[:] = [third, first]
    advance(driven, made, 1)
    assert [first["lr"], second["lr"], third["lr"]] == [0.89, 0.45, 0.25 * 0.89]
    driven.param_groups.append(second)
    advance(driven, made, 1)
    assert [first["lr"], second["lr"], third["lr"]] == [0.88, 0.44, 0.22]
    assert made.get_last_lr() == [third["lr"], first["lr"], second["lr"]]
    driven.param_groups = [dict(group) for group in driven.param_groups]  # copies of the dictionaries
    driven.param_groups[0]["params"] = [weight()]
    advance(driven, made, 1)
    assert lrs(driven) == [0.25 * 0.87, 0.87, 0.5 * 0.87]
    made.base_lrs[1] = 2.0  # as people do
    advance(driven, made, 1)
    assert lrs(driven) == [0.25 * 0.86, 2.0 * 0.86, 0.5 * 0.86]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize("kind", [torch.optim.SGD, sooner.update.AdamW])
def test_a_copy_goes_on_alone(copied, kind):
    driven = sgd(1.0, 0.5, kind=kind)
    made = Linear(driven, 100, warmup=0.0)
    advance(driven, made, 10)
    other, again = copied((driven, made))
    assert again.optimizer is other
    for p in (p for group in other.param_groups for p in group["params"]):
        p.grad = torch.ones(1)
    other.param_groups.reverse()
    advance(other, again, 10)
    other.add_param_group({"params": [weight()], "lr": 0.25})
    other.step()
    assert lrs(other) == [0.4, 0.8, 0.2]
    other.load_state_dict(other.state_dict())
    assert lrs(other) == [0.4, 0.8, 0.2]
    assert lrs(driven) == [0.9, 0.45]


def test_a_schedule_is_not_kept_alive_by_its_optimizer():
    driven = sgd()
    for _ in range(3):
        gone = weakref.ref(Linear(driven, 10))
        gc.collect()
        assert gone() is None
    assert len(driven._optimizer_step_pre_hooks) == len(driven._optimizer_load_state_dict_post_hooks) == 0
    Linear(driven, 10)
    driven.step()


# Beside other schedulers


def make_two(driven):
    return [Linear(driven, 10, warmup=0.0), Cosine(driven, 20, warmup=0.0)]


@pytest.mark.parametrize("reverse", [False, True])  # the order in which they were made decides nothing
@pytest.mark.parametrize("at", [4, 13])
@pytest.mark.parametrize("order", ORDERS)
def test_in_sequence_with_each_other_they_resume_and_take_new_groups(order, at, reverse):
    def sequence(driven):
        made = make_two(driven)
        if reverse:
            second = Cosine(driven, 20, warmup=0.0)
            made = [Linear(driven, 10, warmup=0.0), second]
        return lr_scheduler.SequentialLR(driven, made, milestones=[10])

    linear, cosine = (one.factor for one in make_two(sgd()))

    def planned(step):
        return linear(step) if step < 10 else cosine(step - 10)

    straight = sgd()
    a = sequence(straight)
    for step in range(at):
        assert lrs(straight) == [planned(step)]
        advance(straight, a, 1)
    resumed = sgd()
    b = load(order, resumed, saved(straight, a), sequence)
    assert lrs(resumed) == [planned(at)]
    late = weight()
    resumed.add_param_group({"params": [late], "lr": 0.5})
    resumed.step()
    assert late.item() == pytest.approx(1 - 0.5 * planned(at))
    b.step()
    for step in range(at + 1, 25):
        assert lrs(resumed) == [planned(step), 0.5 * planned(step)]
        advance(resumed, b, 1)


@pytest.mark.parametrize(("at", "order"), [(3, ORDERS[0]), (3, ORDERS[1]), *((12, order) for order in ORDERS)])
def test_in_sequence_with_pytorchs_they_resume(order, at):
    def sequence(driven):
        rise = lr_scheduler.LinearLR(driven, 0.25, 1.0, total_iters=4)
        return lr_scheduler.SequentialLR(
            driven, [rise, Linear(driven, 8, warmup=0.0), lr_scheduler.ConstantLR(driven, 1.0)], milestones=[4, 10]
        )

    straight, resumed = sgd(), sgd()
    a = sequence(straight)
    advance(straight, a, at)
    b = load(order, resumed, saved(straight, a), sequence)
    for _ in range(10):
        assert lrs(resumed) == lrs(straight)
        advance(straight, a, 1)
        advance(resumed, b, 1)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("order", ORDERS)
def test_chained_schedulers_multiply(first, order):
    def chained(driven):
        both = [Linear(driven, 20, warmup=0.1), lr_scheduler.ExponentialLR(driven, 0.9)]
        return lr_scheduler.ChainedScheduler(both if first else both[::-1])

    straight = sgd(1.0, 0.5)
    a = chained(straight)
    factor = Linear(sgd(), 20, warmup=0.1).factor
    for step in range(8):
        assert lrs(straight) == pytest.approx([factor(step) * 0.9**step, 0.5 * factor(step) * 0.9**step], rel=1e-13)
        advance(straight, a, 1)
    resumed = sgd(1.0, 0.5)
    b = load(order, resumed, saved(straight, a), chained)
    for _ in range(15):
        assert lrs(resumed) == lrs(straight)
        advance(straight, a, 1)
        advance(resumed, b, 1)


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("theirs", [lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=20)])
def test_a_plateau_stays_as_it_does_with_pytorchs_linear_decay(tensor, theirs):
    def found(make):
        rate = torch.tensor(1.0, dtype=torch.float64) if tensor else 1.0
        driven = torch.optim.SGD([weight()], lr=rate)
        made, plateau = make(driven), lr_scheduler.ReduceLROnPlateau(driven, factor=0.5, patience=1)
        rates = []
        for _ in range(12):
            rates += lrs(driven)
            driven.step()
            made.step()
            plateau.step(1.0)
        return rates

    ours = found(lambda o: Linear(o, 20, warmup=0.0))
    assert ours == pytest.approx(found(theirs), rel=1e-12)
    assert ours[-1] < 0.45 / 8


@every_schedule
@pytest.mark.parametrize("order", ORDERS)
def test_rates_that_are_tensors_stay_the_optimizers_own(schedule, order):
    def made(steps):
        rates = [torch.tensor(0.5), torch.tensor(0.25, dtype=torch.float64)]
        driven = torch.optim.SGD([{"params": [weight()], "lr": rate} for rate in rates], foreach=False)
        return driven, rates

    first, rates = made(30)
    begun = schedule(first, 30)
    advance(first, begun, 10)
    first.add_param_group({"params": [weight()], "lr": torch.tensor(0.125)})
    advance(first, begun, 2)
    assert [group["lr"] for group in first.param_groups[:2]] == rates
    assert all(a is b["lr"] for a, b in zip(rates, first.param_groups, strict=False))
    states = saved(first, begun)
    second, _ = made(60)
    second.add_param_group({"params": [weight()], "lr": torch.tensor(9.0)})
    again = load(order, second, states, lambda o: schedule(o, 60))
    at = [group["lr"] for group in second.param_groups]
    for _ in range(5):
        planned = [base * again.factor(again.last_epoch) for base in (0.5, 0.25, 0.125)]
        assert all(isinstance(group["lr"], torch.Tensor) for group in second.param_groups)
        assert lrs(second) == pytest.approx(planned, rel=1e-6)
        advance(second, again, 1)
    assert all(a is b["lr"] for a, b in zip(at, second.param_groups, strict=True))
    assert all(base is not rate for base, rate in zip(again.base_lrs, at, strict=True))


class Wrapped(torch.optim.Optimizer):
    """As accelerate's AcceleratedOptimizer: an optimizer by name, which holds one."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    param_groups = property(lambda self: self.optimizer.param_groups)
    state = property(lambda self: self.optimizer.state)
    defaults = property(lambda self: self.optimizer.defaults)

    def step(self, closure=None):
        self.optimizer.step(closure)

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state)


@every_schedule
def test_a_wrapped_optimizer_is_scheduled_as_what_it_wraps(schedule):
    inner = sgd()
    outer = Wrapped(inner)
    made = schedule(outer, 20)
    assert made.optimizer is inner
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        advance(outer, made, 5)
    assert lrs(inner) == [made.factor(5)]
    outer.load_state_dict(inner.state_dict())
    assert lrs(inner) == [made.factor(5)]
    if schedule is Refined:
        assert made.kind == "sgd"


def test_batch_scaling_knows_a_wrapped_optimizers_family():
    inner = sgd()
    BatchScaling(Wrapped(inner), batch=64, base_batch=16)
    assert lrs(inner) == [4.0]  # SGD: linear


# PyTorch's schedulers over our optimizers


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: sooner.update.SGD(p, lr=0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        (lambda p: sooner.update.AdamW(p, lr=0.1), lambda p: torch.optim.AdamW(p, lr=0.1)),
    ],
)
@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.OneCycleLR(o, max_lr=[0.1, 0.2], total_steps=12),
        lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=3, cycle_momentum="momentum" in o.defaults),
        lambda o: lr_scheduler.LambdaLR(o, [lambda t: 1 / (1 + t), lambda t: 0.5**t]),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, total_iters=4), lr_scheduler.PolynomialLR(o, 8)], milestones=[4]
        ),
    ],
)
def test_pytorchs_schedulers_drive_our_optimizers_as_their_own(ours, theirs, make):
    def trained(optimizer, interrupted):
        torch.manual_seed(0)
        weights = [nn.Parameter(torch.randn(4, 3, dtype=torch.float64)) for _ in range(2)]
        driven = optimizer([{"params": [w]} for w in weights])
        made = make(driven)
        for step in range(11):
            if interrupted and step == 6:
                states = copy.deepcopy([driven.state_dict(), made.state_dict()])
                driven = optimizer([{"params": [w]} for w in weights])
                made = make(driven)
                made.load_state_dict(states[1])
                driven.load_state_dict(states[0])
            for w in weights:
                w.grad = w.detach().cos() + step
            driven.step()
            made.step()
        return torch.stack(weights).detach(), lrs(driven)

    expected = trained(theirs, False)
    for interrupted in (False, True):
        found = trained(ours, interrupted)
        torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=1e-12)
        assert found[1] == expected[1]


def test_plans_that_hold_for_any_optimizer_of_ours():
    for schedule in (Linear, Cosine, WarmupStableDecay, Constant):
        driven = sgd(0.1, 0.2, kind=sooner.update.AdamW)
        made = schedule(driven, 10)
        advance(driven, made, 3)
        driven.param_groups.reverse()
        advance(driven, made, 3)
        assert lrs(driven) == [0.2 * made.factor(6), 0.1 * made.factor(6)]
