"""SPES: every expert from its owner, everything else averaged, and the merging at first."""

import copy

import pytest
import torch

from sooner.communication import FP16, SPES, Exchange, Layout, Sim
from sooner.communication._outer import Window
from sooner.error import SoonerError


def shapes(experts, layers=1, size=(2, 3)):
    """A model with a router, a norm and experts of two matrices, the first of which is w1."""
    found = {"norm": (4,), "router": (experts, 2)}
    for layer in range(layers):
        for e in range(experts):
            found |= {f"layers.{layer}.experts.{e}.w1": size, f"layers.{layer}.experts.{e}.w2": size[::-1]}
            found[f"layers.{layer}.experts.{e}.bias"] = (2,)
    return found


def window_of(rule, layout, workers, step, fast=None):
    exchange = Exchange(layout, Sim(workers))
    rule.check(exchange)
    if fast is None:
        fast = torch.randn(workers, layout.size, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return Window(torch.zeros(layout.size, dtype=torch.float64), fast, {}, exchange, 1, step)


def test_one_expert_per_worker_by_hand():
    layout = Layout(shapes(2, layers=2))
    window = window_of(SPES(10, merge=0), layout, 2, 10)
    made, fast = layout.views(SPES(10, merge=0).step(window)), layout.views(window.fast)
    for name in layout.shapes:
        owner = next((e for e in range(2) if f".experts.{e}." in name), None)
        expected = fast[name].mean(0) if owner is None else fast[name][owner]  # the router is averaged too
        torch.testing.assert_close(made[name], expected, rtol=0, atol=1e-15)


def test_owners_have_neighbouring_experts():
    layout = Layout(shapes(12))
    rule = SPES(10)
    for worker in range(3):
        trained = set(layout.shapes) - rule.rests(layout, worker, 3)
        own = {e for e in range(12) if f"layers.0.experts.{e}.w1" in trained}
        assert own == {4 * worker, 4 * worker + 1, 4 * worker + 2, 4 * worker + 3}, "expert e belongs to e // 4"
        assert {"norm", "router"} <= trained


def test_a_worker_sends_what_is_shared_and_its_own_experts():
    layout = Layout(shapes(8, layers=3))
    window = window_of(SPES(10), layout, 4, 10)
    SPES(10).step(window)
    shared, own = 4 + 16, 3 * 2 * (6 + 6 + 2)
    assert window.exchange.wire.traffic.payload_bytes == 8 * (shared + own)


def merged(experts, strength, neighbours=4):
    """Move every expert of a layer, from values before the merge; experts are lists of tensors, the first decides."""
    before = copy.deepcopy(experts)
    for e, mine in enumerate(before):
        others = [j for j in range(len(before)) if j != e]
        alike = [float(torch.cosine_similarity(mine[0].flatten(), before[j][0].flatten(), dim=0)) for j in others]
        nearest = [j for _, j in sorted(zip(alike, others, strict=True), reverse=True)[:neighbours]]
        for k in range(len(mine)):
            pull = sum(before[j][k] - mine[k] for j in nearest) / len(nearest)
            experts[e][k] = mine[k] + strength * pull
    return experts


@pytest.mark.parametrize(("experts", "workers"), [(8, 4), (6, 2), (4, 4)])
def test_experts_move_towards_those_like_them(experts, workers):
    layout = Layout(shapes(experts, layers=2))
    rule = SPES(10, merge=0.2, merge_every=20, merge_until=100)
    plain = layout.views(SPES(10, merge=0).step(window_of(rule, layout, workers, 40)))
    ours = layout.views(rule.step(window_of(rule, layout, workers, 40)))
    for layer in range(2):
        parts = ["w1", "w2", "bias"]
        stacked = [[plain[f"layers.{layer}.experts.{e}.{p}"].clone() for p in parts] for e in range(experts)]
        for e, expert in enumerate(merged(stacked, 0.2 * (1 - 40 / 100))):
            for part, expected in zip(parts, expert, strict=True):
                torch.testing.assert_close(ours[f"layers.{layer}.experts.{e}.{part}"], expected, rtol=1e-12, atol=1e-13)
    assert torch.equal(ours["router"], plain["router"])


@pytest.mark.parametrize("step", [10, 30, 100, 120])
def test_nothing_is_merged_between_times_and_after_the_warm_up(step):
    layout = Layout(shapes(8))
    rule = SPES(10, merge=0.2, merge_every=20, merge_until=100)
    ours, plain = (r.step(window_of(rule, layout, 4, step)) for r in (rule, SPES(10, merge=0)))
    assert torch.equal(ours, plain)


@pytest.mark.parametrize(
    ("model", "workers", "codec", "words"),
    [
        ({"w": (3,)}, 2, None, "no parameter is named like"),
        (shapes(6), 4, None, "the 6 experts beside layers.0.experts.0.w1 for 4 workers can't be dealt out"),
        (shapes(2) | {"layers.0.experts.1.w1": (5, 5)}, 2, None, "of several shapes can't be dealt out"),
        (shapes(4), 2, FP16(), "spes sends weights as they are; leave FP16 out"),
    ],
)
def test_models_and_recipes_that_do_not_fit_are_refused(model, workers, codec, words):
    with pytest.raises(SoonerError, match=words):
        SPES(10).check(Exchange(Layout(model), Sim(workers), codec))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SPES(experts="experts.*"), "does not say where the number is"),
        (lambda: SPES(experts=3), "experts=3 does not say where the number is"),
        (lambda: SPES(30, merge_every=100), "merge_every=100 is no multiple of every=30"),
        (lambda: SPES(merge=2), "merge=2"),
        (lambda: SPES(neighbours=0), "neighbours=0"),
    ],
)
def test_hyper_parameters_that_make_no_sense_are_refused(make, words):
    with pytest.raises(SoonerError, match=words):
        make()
