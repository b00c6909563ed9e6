"""Memories against the papers' equations, round by round in float64, and what holds of them for any gradients."""

import copy
import io
import math

import numpy as np
import pytest
import references_communication as references
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_codecs import CODECS, LAYOUT, vectors

from sooner.communication import (
    DGC,
    EF,
    EF21,
    EF21W,
    Dense,
    EControl,
    EF21Momentum,
    Exchange,
    Int8,
    Layout,
    PowerSGD,
    RandomK,
    Sign,
    Sim,
    TopK,
)
from sooner.error import SoonerError

SIZE, WORKERS, ROUNDS, K = 60, 4, 12, 6
FLAT = Layout({"v": (SIZE,)})
MEMORIES = [EF(), EF21(), EF21Momentum(), EF21W(), EControl()]


def rounds_of(scale=1.0):
    return vectors(ROUNDS, WORKERS, SIZE, seed=3, dtype=torch.float64) * scale


def as_numpy(gradients):
    return [[one.numpy() for one in round_] for round_ in gradients]


def compress(v):
    return references.top_k(v, K)


def follow(memory, expected, gradients=None, codec=None):
    exchange = Exchange(FLAT, Sim(WORKERS), codec or TopK(0.1), memory)
    for g, reference in zip(rounds_of() if gradients is None else gradients, expected, strict=True):
        np.testing.assert_allclose(exchange(g).numpy(), reference, rtol=1e-10, atol=1e-12)


def test_error_feedback_is_the_papers():
    follow(EF(), references.error_feedback(as_numpy(rounds_of()), compress))


def test_ef21_is_the_papers():
    follow(EF21(), references.ef21(as_numpy(rounds_of()), compress))


def test_ef21_with_momentum_is_the_papers():
    follow(EF21Momentum(0.8), references.ef21(as_numpy(rounds_of()), compress, momentum=0.8))


def test_econtrol_is_the_papers():
    follow(EControl(0.1), references.econtrol(as_numpy(rounds_of()), compress, eta=0.1))


def test_weighted_ef21_has_the_iterates_of_ef21_for_homogeneous_codecs():
    smoothness = [0.1, 1.0, 5.0, 30.0]
    weighted = references.ef21_weighted(as_numpy(rounds_of()), compress, EF21W.weights(smoothness))
    exchange = Exchange(FLAT, Sim(WORKERS), TopK(0.1), EF21W())
    for g, reference in zip(rounds_of(), weighted, strict=True):
        assert np.abs(exchange(g).numpy() - reference).max() < 1e-10
    signs = references.ef21_weighted(as_numpy(rounds_of()), references.sign, EF21W.weights(smoothness))
    plain = references.ef21(as_numpy(rounds_of()), references.sign)
    assert max(np.abs(a - b).max() for a, b in zip(signs, plain, strict=True)) < 1e-10


def test_step_sizes_are_the_theorems():
    smoothness, alpha = [0.1, 1.0, 5.0, 30.0], 0.02
    theta = 1 - math.sqrt(1 - alpha)
    ratio = math.sqrt((1 - alpha) / theta / theta)
    arithmetic, quadratic = np.mean(smoothness), np.sqrt(np.mean(np.square(smoothness)))
    assert EF21W.step_size(smoothness, alpha, overall=7.0) == pytest.approx(1 / (7 + arithmetic * ratio), rel=1e-12)
    old = EF21W.step_size(smoothness, alpha, overall=7.0, mean="quadratic")
    assert old == pytest.approx(1 / (7 + quadratic * ratio), rel=1e-12)
    assert EF21W.step_size(smoothness, 1.0) == pytest.approx(1 / arithmetic)
    assert sum(EF21W.weights(smoothness)) == pytest.approx(1)
    assert EF21W.weights(smoothness)[3] == pytest.approx(30 / 36.1)


@settings(max_examples=20)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.floats(0.001, 1.0))
def test_the_arithmetic_step_is_never_smaller_and_at_most_sqrt_n_larger(smoothness, alpha):
    new, old = (EF21W.step_size(smoothness, alpha, mean=mean) for mean in ("arithmetic", "quadratic"))
    assert old * (1 - 1e-12) <= new <= old * math.sqrt(len(smoothness)) * (1 + 1e-12)


def test_econtrol_without_error_signal_is_ef21():
    one, other = (Exchange(FLAT, Sim(WORKERS), TopK(0.1), m) for m in (EControl(0.0), EF21()))
    for g in rounds_of():
        assert torch.equal(one(g), other(g))


@pytest.mark.parametrize("codec", [TopK(0.1), Sign(), Int8(block=16), RandomK(0.2), PowerSGD(1)], ids=str)
def test_nothing_is_lost_with_error_feedback(codec):
    layout = Layout({"b": (4,), "w": (7, 8)})
    exchange, total, given_ = Exchange(layout, Sim(WORKERS), codec, EF()), 0.0, 0.0
    for g in rounds_of():
        total, given_ = total + exchange(g), given_ + g.mean(0)
        torch.testing.assert_close(total + exchange.state["memory"]["error"].mean(0), given_, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("codec", [TopK(0.1), RandomK(0.2), PowerSGD(1), Sign(), Int8(block=16)], ids=str)
@pytest.mark.parametrize("memory", [EF21(), EF21Momentum(), EControl()], ids=str)
def test_the_mean_estimate_is_the_mean_of_the_estimates(codec, memory):
    layout = Layout({"b": (4,), "w": (7, 8)})
    exchange = Exchange(layout, Sim(WORKERS), codec, memory)
    for g in rounds_of():
        update = exchange(g)
        torch.testing.assert_close(update, exchange.state["memory"]["estimate"].mean(0), rtol=1e-6, atol=1e-6)


def test_who_does_not_take_part_keeps_its_memory_and_stays_in_the_mean():
    exchange = Exchange(FLAT, Sim(WORKERS), TopK(0.1), EF21())
    g = rounds_of()
    exchange(g[0])
    before = exchange.state["memory"]["estimate"].clone()
    active = torch.tensor([1, 3])
    update = exchange(g[1][active], active)
    after = exchange.state["memory"]["estimate"]
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[active], after[active])
    torch.testing.assert_close(update, after.mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory", MEMORIES, ids=str)
def test_with_nothing_lost_a_memory_changes_nothing(memory):
    dense = Exchange(FLAT, Sim(WORKERS), Dense(), memory)
    running = torch.zeros(SIZE, dtype=torch.float64)
    for step, g in enumerate(rounds_of()):
        expected = g.mean(0)
        if isinstance(memory, EF21Momentum):
            running = expected = expected if step == 0 else 0.9 * running + 0.1 * expected
        torch.testing.assert_close(dense(g), expected, rtol=1e-12, atol=1e-12)


PAIRS = [(codec, memory) for codec in CODECS for memory in (None, *MEMORIES)]
PAIRS += [(part, part) for part in (DGC(0.1), DGC(0.1, nesterov=True, clip=1.0, warm_up=6))]


def disagreement(codec, memory):
    """Return the first step after a resume that is not the same bit for bit, None for none."""
    straight, resumed = (Exchange(LAYOUT, Sim(3), codec, memory) for _ in range(2))
    g = vectors(6, 3, LAYOUT.size, seed=7)
    for step in range(3):
        straight(g[step])
    file = io.BytesIO()
    torch.save(straight.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    return next((step for step in range(3, 6) if not torch.equal(straight(g[step]), resumed(g[step]))), None)


def test_every_pair_resumes_bit_for_bit():
    assert [(c, m) for c, m in PAIRS if disagreement(c, m) is not None] == []


def test_an_update_is_not_tied_to_the_memory():
    exchange = Exchange(FLAT, Sim(WORKERS), TopK(0.1), EF21())
    g = rounds_of()
    update = exchange(g[0])
    kept = copy.deepcopy(exchange.state)
    update.zero_()
    assert torch.equal(exchange.state["memory"]["mean_estimate"], kept["memory"]["mean_estimate"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EF21Momentum(1.0), r"ef21_momentum: momentum=1.0"),
        (lambda: EControl(-0.1), r"econtrol: eta=-0.1"),
        (lambda: EControl(1.0), r"econtrol: eta=1.0"),
        (lambda: EF21W.weights([]), r"ef21_w: smoothness=\[\] is not a positive number for every worker"),
        (lambda: EF21W.step_size([1.0, -1.0], 0.5), r"ef21_w: smoothness=\[1.0, -1.0\]"),
        (lambda: EF21W.step_size([1.0], 0.0), r"ef21_w: alpha=0.0"),
        (lambda: EF21W.step_size([1.0], 0.5, mean="geometric"), r"ef21_w: mean='geometric'"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(SoonerError, match=message):
        make()


def test_a_state_of_other_parts_is_refused():
    saved = Exchange(LAYOUT, Sim(3), PowerSGD(2), EF())
    saved(vectors(3, LAYOUT.size))
    for codec, memory, message in (
        (PowerSGD(3), EF(), r"the state holds .*PowerSGD keeps"),
        (TopK(), EF(), r"the state holds .*TopK keeps nothing"),
        (PowerSGD(2), EF21(), r"the state is for \['error'\]"),
    ):
        with pytest.raises(SoonerError, match=message):
            Exchange(LAYOUT, Sim(3), codec, memory).load_state_dict(saved.state_dict())
