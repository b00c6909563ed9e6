"""Every outer rule against its equations, written down independently; and the traps of their papers."""

import math

import numpy as np
import outer_references as reference
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sooner.communication import (
    CO2,
    EF,
    FP16,
    SNOO,
    DiLoCo,
    Exchange,
    FedHyper,
    Layout,
    LocalSGD,
    NoLoCo,
    Sim,
    StreamingDiLoCo,
    TopK,
)
from sooner.communication._outer import Window
from sooner.communication.noloco import pairs
from sooner.error import SoonerError

RULES = {
    "local_sgd": (LocalSGD(3), lambda n, t: reference.local_sgd(n, t, 3)),
    "diloco": (DiLoCo(3, lr=0.6, momentum=0.8), lambda n, t: reference.diloco(n, t, 3, 0.6, 0.8)),
    "streaming": (
        StreamingDiLoCo(6, 0.6, 0.8, fragments=3, delay=1, alpha=0.3),
        lambda n, t: reference.streaming(n, t, 6, 0.6, 0.8, 3, 1, 0.3),
    ),
    "streaming, two in the air": (
        StreamingDiLoCo(6, 0.6, 0.8, fragments=3, delay=5, alpha=0.0),
        lambda n, t: reference.streaming(n, t, 6, 0.6, 0.8, 3, 5, 0.0),
    ),
    "co2": (CO2(3), lambda n, t: reference.co2(n, t, 3, 1.0, 0.0, 1.0, None)),
    "co2, all of it": (
        CO2(3, lr=0.7, momentum=0.5, clip=0.05, penalty=1.5),
        lambda n, t: reference.co2(n, t, 3, 0.7, 0.5, 0.05, 1.5),
    ),
    "noloco": (NoLoCo(3, 0.6, 0.4, 0.5), lambda n, t: reference.noloco(n, t, 3, 0.6, 0.4, 0.5, pairs)),
    "fedhyper": (FedHyper(3), lambda n, t: reference.fedhyper(n, t, 3, "G", 1 / 3, 3)),
    "fedhyper GM": (FedHyper(3, "GM"), lambda n, t: reference.fedhyper(n, t, 3, "GM", 0.8, 5)),
    "fedhyper cosine": (
        FedHyper(3, cosine=True, low=0.9, high=1.05),
        lambda n, t: reference.fedhyper(n, t, 3, "G", 0.9, 1.05, cosine=True),
    ),
    "snoo": (SNOO(3, lr=0.6, momentum=0.8), lambda n, t: reference.snoo(n, t, 3, 0.6, 0.8)),
}
OUTERS = [outer for outer, _ in RULES.values()]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_its_equations(name, workers):
    outer, expected = RULES[name]
    ours, *_ = reference.run_ours(outer, workers, 20)
    np.testing.assert_allclose(ours, expected(workers, 20), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("outer", OUTERS, ids=RULES)
def test_a_run_goes_on_bit_for_bit_wherever_it_was_cut(outer):
    codec = FP16() if not isinstance(outer, NoLoCo) else None
    whole, *_ = reference.run_ours(outer, 3, 16, codec)
    for cut in range(1, 15):
        same, _, _, saved = reference.run_ours(outer, 3, 16, codec, save_at=cut)
        assert np.array_equal(same, whole), "saving changed the run"
        rest, *_ = reference.run_ours(outer, 3, 16, codec, begin=saved)
        assert np.array_equal(rest, whole[cut:]), cut


def test_diloco_is_pytorchs_sgd_with_nesterov_on_the_pseudo_gradient():
    slow = torch.nn.Parameter(torch.randn(9, dtype=torch.float64))
    theirs = torch.optim.SGD([slow], lr=0.7, momentum=0.9, nesterov=True)
    state, exchange, ours = {"momentum": torch.zeros(9, dtype=torch.float64)}, None, slow.detach().clone()
    exchange = Exchange(Layout({"w": (9,)}), Sim(4))
    for number in range(1, 6):
        fast = ours + 0.1 * torch.randn(4, 9, dtype=torch.float64)
        slow.grad = exchange(slow.detach() - fast)
        theirs.step()
        ours = DiLoCo().step(Window(ours, fast, state, exchange, number, number * 50))
        torch.testing.assert_close(ours, slow.detach(), rtol=1e-13, atol=1e-15)  # PyTorch may fuse what is rounded here


def test_streaming_with_one_fragment_and_no_delay_is_diloco():
    one = StreamingDiLoCo(4, fragments=1, delay=0, alpha=0.0)
    ours, *_ = reference.run_ours(one, 3, 17)
    diloco, *_ = reference.run_ours(DiLoCo(4), 3, 17)
    assert np.array_equal(ours, diloco)


def test_streaming_sends_a_fragment_at_a_time_and_the_model_once_per_window():
    steps = StreamingDiLoCo(6, fragments=3, delay=0, alpha=0.0)
    _, exchange, *_ = reference.run_ours(steps, 2, 12)
    assert exchange.wire.traffic.messages == 6
    assert exchange.wire.traffic.payload_bytes == 2 * reference.SIZE * 8


def test_co2_without_momentum_is_local_sgd_one_window_late():
    ours, *_ = reference.run_ours(CO2(3, penalty=1.0, clip=1e9), 4, 18)
    w, used = reference.Workers(4), []
    x = reference.start()
    for window in range(6):
        for _ in range(3):
            w.local()
        used.append(x - sum(w.x) / 4)
        if window != 1:  # the first is used at once, so nothing new has arrived by the end of the second
            x = x - used[max(window - 1, 0)]
        w.all_at(x)
        np.testing.assert_allclose(ours[3 * window + 2, 0], x, rtol=1e-12)


def test_co2_clips_what_it_applies_and_tells_how_often():
    """The released code throws the clipped tensor away."""
    exchange = Exchange(Layout({"w": (4,)}), Sim(2))
    slow, fast = torch.zeros(4), torch.tensor([[3.0, 0.5, -3.0, 0.0]] * 2)
    state = {"momentum": torch.zeros(4)}
    made = CO2(5, clip=1.0, penalty=1.0).step(Window(slow, fast, state, exchange, 1, 5))
    assert made.tolist() == [1.0, 0.5, -1.0, 0.0]
    assert float(state["clipped"]) == 0.5
    assert state["momentum"].tolist() == [-3.0, -0.5, 3.0, 0.0], "only what is applied is clipped"


def test_what_is_under_way_is_a_copy():
    exchange = Exchange(Layout({"w": (4,)}), Sim(2))
    v = torch.ones(2, 4)
    exchange.flights.launch("v", v)
    v.zero_()
    assert exchange.flights.land("v").tolist() == [1, 1, 1, 1]


def test_co2_ends_with_every_movement_once():
    exchange = Exchange(Layout({"w": (1,)}), Sim(2))
    slow, state = torch.zeros(1), {"momentum": torch.zeros(1)}
    rule = CO2(1, penalty=1.0, clip=1e9)
    for number in range(1, 5):
        slow = rule.step(Window(slow, slow + torch.ones(2, 1), state, exchange, number, number))
    assert rule.finish(Window(slow, slow + torch.full((2, 1), 0.5), state, exchange, 4, 4)).tolist() == [4.5]


@given(st.integers(0, 10**6), st.integers(1, 33))
def test_pairs_are_pairs(step, workers):
    partners = pairs(step, workers)
    assert torch.equal(partners[partners], torch.arange(workers))
    assert int((partners == torch.arange(workers)).sum()) == workers % 2, "of an odd number one rests"
    assert torch.equal(partners, pairs(step, workers))


def test_pairs_change():
    assert len({tuple(pairs(step, 8).tolist()) for step in range(0, 500, 50)}) > 5


def test_noloco_with_two_workers_by_hand():
    exchange = Exchange(Layout({"w": (1,)}), Sim(2))
    slow, fast = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [6.0]])
    state = {"momentum": torch.tensor([[0.5], [-0.5]])}
    made = NoLoCo(5, lr=0.5, momentum=0.1, pull=0.25).step(Window(slow, fast, state, exchange, 1, 5))
    # both: 0.5 * (1 + 3) / 2 = 1; towards the mean of 2: 0.25 * (+1, -1); momentum 0.1 * (0.5, -0.5)
    np.testing.assert_allclose(made, [[1 + 1.3], [3 + 0.7]], rtol=1e-6)
    assert exchange.wire.traffic.payload_bytes == 2 * 4, "weights and movement, to one partner"


def test_nolocos_slow_weights_are_no_views_of_what_is_trained():
    exchange = Exchange(Layout({"w": (1,)}), Sim(2))
    fast, state = torch.ones(2, 1), {"momentum": torch.zeros(2, 1)}
    made = NoLoCo(5).step(Window(torch.zeros(1), fast, state, exchange, 1, 5))
    before = made.clone()
    fast += 7
    assert torch.equal(made, before)


def test_without_nolocos_pull_replicas_go_apart():
    apart = {}
    for pull in (0.0, 0.7):
        ours, *_ = reference.run_ours(NoLoCo(2, pull=pull), 8, 60)
        apart[pull] = np.mean([x.std(0).mean() for x in ours[1::2]])
    assert apart[0.7] < 0.7 * apart[0.0]


def test_fedhyper_begins_at_one_and_stays_within_its_bounds():
    exchange = Exchange(Layout({"w": (2,)}), Sim(2))
    state, slow = {"last": torch.zeros(2)}, torch.zeros(2)
    rule, seen = FedHyper(1), []
    for number, moved in enumerate([10.0, 10.0, -10.0, -10.0, 10.0], 1):
        slow = rule.step(Window(slow, slow + torch.full((2, 2), moved), state, exchange, number, number))
        seen.append(float(state["alpha"]))
    np.testing.assert_allclose(seen, [1, 3, 1 / 3, 3, 1 / 3], rtol=1e-6)


def test_fedhypers_cosine_does_not_depend_on_scale():
    seen = []
    for scale in (1e-3, 1.0, 1e3):
        exchange = Exchange(Layout({"w": (3,)}), Sim(1))
        state, slow = {"last": torch.zeros(3)}, torch.zeros(3)
        for number, moved in enumerate(([1.0, 2, 0], [2.0, 1, 1]), 1):
            fast = slow + scale * torch.tensor([moved])
            slow = FedHyper(1, cosine=True).step(Window(slow, fast, state, exchange, number, number))
        seen.append(float(state["alpha"]))
    np.testing.assert_allclose(seen, 1 + 0.1 * 4 / math.sqrt(5 * 6), rtol=1e-5)


def test_snoo_is_diloco_with_one_worker_and_its_outer_step_sends_nothing():
    snoo, exchange, *_ = reference.run_ours(SNOO(4), 1, 12)
    diloco, *_ = reference.run_ours(DiLoCo(4), 1, 12)
    assert np.array_equal(snoo, diloco)
    _, exchange, *_ = reference.run_ours(SNOO(4), 3, 12)
    assert exchange.wire.traffic.messages == 12, "one average of gradients per step"


@pytest.mark.parametrize("outer", [LocalSGD(2), DiLoCo(2), CO2(2), StreamingDiLoCo(2, fragments=1, delay=1)])
def test_workers_may_count_differently(outer):
    exchange = Exchange(Layout({"w": (1,)}), Sim(2))
    weights = torch.tensor([0.25, 0.75])
    state = {name: torch.zeros(1) for name in outer.slots}
    slow, fast = torch.zeros(1), torch.tensor([[4.0], [8.0]])
    made = slow
    for step in (1, 2):
        if outer.due(step):
            made = outer.step(Window(slow, fast, state, exchange, 1, step, weights))
    mean = 7.0
    expected = {"DiLoCo": 0.7 * 1.9 * mean, "CO2": 1.0}.get(type(outer).__name__, mean)
    if isinstance(outer, StreamingDiLoCo):
        expected = (torch.tensor([[4.0], [8.0]]) + 0.7 * 1.9 * mean) / 2
    torch.testing.assert_close(made, torch.as_tensor(expected).expand_as(made))


@pytest.mark.parametrize(
    ("outer", "codec", "memory", "words"),
    [
        (CO2(), TopK(), None, "TopK can't go with co2"),
        (StreamingDiLoCo(), None, EF(), "EF can't go with streaming_diloco"),
        (NoLoCo(), FP16(), None, "noloco sends weights as they are; leave FP16 out"),
        (NoLoCo(), None, EF(), "leave EF out"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_first_step(outer, codec, memory, words):
    with pytest.raises(SoonerError, match=words):
        outer.check(Exchange(Layout({"w": (4,)}), Sim(2), codec, memory))


@pytest.mark.parametrize("outer", [NoLoCo(1), StreamingDiLoCo(2, fragments=2, delay=0)])
def test_rules_that_need_everyone_say_so(outer):
    exchange = Exchange(Layout({"w": (4,)}), Sim(4))
    state = {"momentum": torch.zeros(4, 4)}
    window = Window(torch.zeros(4), torch.ones(2, 4), state, exchange, 1, 2, None, torch.tensor([0, 2]))
    with pytest.raises(SoonerError, match="needs all 4 workers in every round, and 2 take part"):
        outer.step(window)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DiLoCo(0), "diloco: every=0 is not a whole number"),
        (lambda: DiLoCo(momentum=1.0), "momentum=1.0"),
        (lambda: SNOO(lr=-1), "snoo: lr=-1"),
        (lambda: StreamingDiLoCo(10, fragments=4), "4 fragments don't divide every=10"),
        (lambda: StreamingDiLoCo(8, fragments=4, delay=8), "delay=8"),
        (lambda: CO2(penalty=0.5), "co2: penalty=0.5"),
        (lambda: NoLoCo(pull=-1), "noloco: pull=-1"),
        (lambda: FedHyper(mode="SL"), "mode='SL' is none of G and GM"),
        (lambda: FedHyper(low=2), "low=2"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make, words):
    with pytest.raises(SoonerError, match=words):
        make()
