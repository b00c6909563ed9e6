"""Schedules against their formulas at chosen steps, against PyTorch's own, and as PyTorch schedulers."""

import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from sooner import part
from sooner.schedule import Constant, Cosine, Linear, WarmupStableDecay

PARTS = [part.load(name) for name, station in part.names().items() if station == "schedule"]
SCHEDULES = [made for made in PARTS if issubclass(made, LRScheduler)]  # the station also holds batch-size parts
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.__name__)


def optimizer(lr=2.0):
    return torch.optim.SGD(
        [{"params": [nn.Parameter(torch.zeros(1))]}, {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5}], lr=lr
    )


def rates(schedule, driven, count, group=0):
    """The learning rates of steps 0, 1, …, count - 1."""
    found = []
    for _ in range(count):
        found.append(driven.param_groups[group]["lr"])
        driven.step()
        schedule.step()
    return found


def factors(make, count):
    driven = optimizer(lr=1.0)
    return rates(make(driven), driven, count)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        # 100 steps: the last is number 99, one step after it (and ever after) stands the floor
        (lambda o: Linear(o, 100, warmup=0.0), {0: 1.0, 50: 0.5, 99: 0.01, 100: 0.0, 150: 0.0}),
        (lambda o: Linear(o, 100), {0: 1 / 6, 4: 5 / 6, 5: 1.0, 6: 94 / 95, 99: 1 / 95, 100: 0.0}),
        (
            lambda o: Linear(o, 100, warmup=0.2, floor=0.1),
            {0: 1 / 21, 19: 20 / 21, 20: 1.0, 60: 0.55, 100: 0.1, 130: 0.1},
        ),
        (
            lambda o: Cosine(o, 100, warmup=0.0),
            {0: 1.0, 25: (1 + math.sqrt(0.5)) / 2, 50: 0.5, 75: (1 - math.sqrt(0.5)) / 2, 100: 0.0, 120: 0.0},
        ),
        (lambda o: Cosine(o, 100, warmup=0.2, floor=0.5), {19: 20 / 21, 20: 1.0, 60: 0.75, 100: 0.5, 110: 0.5}),
        (lambda o: WarmupStableDecay(o, 100, warmup=0.0), {0: 1.0, 80: 1.0, 90: 0.5, 99: 0.05, 100: 0.0, 110: 0.0}),
        (
            lambda o: WarmupStableDecay(o, 100, warmup=0.2, decay=0.5, floor=0.1),
            {10: 11 / 21, 20: 1.0, 60: 1.0, 80: 0.55, 100: 0.1},
        ),
        (lambda o: WarmupStableDecay(o, 100, warmup=0.0, decay=1.0), {0: 1.0, 50: 0.5, 99: 0.01}),
        (lambda o: Constant(o, 100), {0: 1.0, 50: 1.0, 99: 1.0, 120: 1.0}),
        (lambda o: Constant(o, 100, warmup=9), {0: 0.1, 4: 0.5, 8: 0.9, 9: 1.0, 100: 1.0}),
        (lambda o: Linear(o, 1), {0: 1.0, 1: 0.0}),
    ],
)
def test_the_factor_follows_its_formula(make, expected):
    found = factors(make, max(expected) + 1)
    assert {step: found[step] for step in expected} == {
        step: pytest.approx(f, abs=1e-12) for step, f in expected.items()
    }


@every_schedule
def test_every_group_keeps_its_own_base_rate(schedule):
    driven = optimizer(lr=2.0)
    made = schedule(driven, 20)
    for _ in range(25):
        first, second = (g["lr"] for g in driven.param_groups)
        assert first == pytest.approx(4 * second)
        assert made.get_last_lr() == [first, second]
        driven.step()
        made.step()


@every_schedule
@given(steps=st.integers(1, 300))
def test_the_factor_stays_between_zero_and_one_and_reaches_one_after_the_warm_up(schedule, steps):
    made = schedule(optimizer(), steps)
    found = [made.factor(t) for t in range(steps + 3)]
    assert all(0 <= f <= 1 for f in found)
    assert max(found[:steps]) == 1.0
    assert found[-1] == found[steps]


@every_schedule
def test_horizon_free_means_that_the_planned_number_of_steps_plays_no_part(schedule):
    short, long = ([schedule(optimizer(), steps).factor(t) for t in range(40)] for steps in (40, 400))
    assert (short == long) is schedule.horizon_free


def test_linear_and_cosine_are_pytorchs_where_these_exist():
    count = 40
    ours, theirs = optimizer(), optimizer()
    assert rates(Linear(ours, count, warmup=0.0, floor=0.25), ours, count + 5) == pytest.approx(
        rates(LinearLR(theirs, 1.0, 0.25, total_iters=count), theirs, count + 5)
    )
    ours, theirs = optimizer(), optimizer()
    assert rates(Cosine(ours, count, warmup=0.0, floor=0.25), ours, count) == pytest.approx(
        rates(CosineAnnealingLR(theirs, T_max=count, eta_min=0.25 * 2.0), theirs, count)
    )
    ours, theirs = optimizer(), optimizer()
    rise = LinearLR(theirs, 1 / 5, 1.0, total_iters=4)  # steps 0..3 rise from 1/5, step 4 stands at 1
    both = SequentialLR(theirs, [rise, CosineAnnealingLR(theirs, T_max=36)], milestones=[4])
    assert rates(Cosine(ours, count, warmup=0.1), ours, count) == pytest.approx(rates(both, theirs, count), abs=1e-12)


@every_schedule
def test_it_is_a_pytorch_scheduler_that_goes_on_from_its_state(schedule):
    straight, stopped, resumed = optimizer(), optimizer(), optimizer()
    a, b = schedule(straight, 30), schedule(stopped, 30)
    assert isinstance(a, LRScheduler)
    expected = rates(a, straight, 30)
    begun = rates(b, stopped, 12)
    file = io.BytesIO()
    torch.save([stopped.state_dict(), b.state_dict()], file)
    file.seek(0)
    c = schedule(resumed, 30)
    saved = torch.load(file, weights_only=True)
    resumed.load_state_dict(saved[0])
    c.load_state_dict(saved[1])
    assert begun + rates(c, resumed, 18) == expected


def test_a_schedule_can_be_made_in_the_middle_of_a_run():
    driven, late = optimizer(), optimizer()
    expected = rates(Linear(driven, 30), driven, 30)
    for group in late.param_groups:
        group["initial_lr"] = group["lr"]
    made = Linear(late, 30, last_epoch=9)
    assert rates(made, late, 5) == expected[10:15]


@every_schedule
def test_a_tensor_learning_rate_is_changed_in_place(schedule):
    rate = torch.tensor(0.5)
    driven = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)
    made = schedule(driven, 4)
    for step in range(4):
        assert driven.param_groups[0]["lr"] is rate
        assert rate.item() == pytest.approx(0.5 * made.factor(step))
        driven.step()
        made.step()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda o: Linear(o, 0), r"linear: steps=0 is not a whole number in \[1, inf\)"),
        (lambda o: Cosine(o, 10.5), r"cosine: steps=10.5 is not a whole number"),
        (lambda o: Linear(o, 10, warmup=1.0), r"linear: warmup=1.0 is not a number in \[0, 1\)"),
        (lambda o: Cosine(o, 10, floor=1.5), r"cosine: floor=1.5 is not a number in \[0, 1\]"),
        (lambda o: WarmupStableDecay(o, 10, decay=0.0), r"warmup_stable_decay: decay=0.0"),
        (lambda o: Constant(o, 10, warmup=0.05), r"constant: warmup=0.05 is not a whole number"),
        (lambda o: Constant(o, 10, warmup=-1), r"constant: warmup=-1"),
    ],
)
def test_a_bad_number_is_named(make, sentence):
    driven = optimizer()
    with pytest.raises(ValueError, match=sentence):
        make(driven)
    assert [g["lr"] for g in driven.param_groups] == [2.0, 0.5]
