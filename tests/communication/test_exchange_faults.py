"""A number that is not finite, workers that are missing, vectors that do not fit; and Sim against two processes."""

import math
from pathlib import Path

import pytest
import torch
from test_codecs import LAYOUT, vectors
from test_memories import PAIRS
from torch import nn

from sooner.communication import BF16, EF, EF21, FP16, Dense, Exchange, Layout, LocalSGD, Proximal, Sim, TopK
from sooner.communication._attached import Communication
from sooner.communication._codec import Moment
from sooner.error import SoonerError
from sooner.execute import using
from sooner.update import AdamW


def test_every_pair_does_on_two_processes_what_it_does_in_the_simulation(ranks):
    both = ranks([Path(__file__).with_name("codec_ranks.py")])
    both.succeed()
    assert [both.printed(rank) + both.said(rank) for rank in (0, 1)] == ["done\n", "done\n"]


def state_of(exchange):
    return {f"{kind}.{n}": t.clone() for kind, one in exchange.state.items() for n, t in one.items()}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_reaches_everyone_and_is_not_remembered(bad):
    faults = []
    for codec, memory in PAIRS:
        for place in (0, 5, LAYOUT.size - 1):  # in a parameter of no dimension, in a vector, in a matrix
            exchange, without = (Exchange(LAYOUT, Sim(3), codec, memory) for _ in range(2))
            g = vectors(4, 3, LAYOUT.size, seed=5)
            for one in (exchange, without):
                one(g[0])
            spoilt = g[1].clone()
            spoilt[1, place] = bad
            before = state_of(exchange)
            if exchange(spoilt).isfinite().all():
                faults.append((codec, memory, "did not arrive"))
            after = state_of(exchange)
            if not all(torch.equal(before[name], after[name]) for name in before):
                faults.append((codec, memory, "was remembered"))
            if not exchange(g[2]).isfinite().all():
                faults.append((codec, memory, "came back"))
    assert faults == []


def test_a_first_exchange_that_is_not_finite_is_got_over():
    faults = []
    for codec, memory in PAIRS:
        exchange = Exchange(LAYOUT, Sim(3), codec, memory)
        g = vectors(3, 3, LAYOUT.size, seed=5)
        g[0, 2, 7] = math.nan
        if exchange(g[0]).isfinite().all() or not (exchange(g[1]) + exchange(g[2])).isfinite().all():
            faults.append((codec, memory))
    assert faults == []


def test_only_who_takes_part_is_undone():
    exchange = Exchange(LAYOUT, Sim(4), TopK(0.1), EF())
    g = vectors(4, LAYOUT.size)
    exchange(g)
    before = exchange.state["memory"]["error"].clone()
    active = torch.tensor([0, 3])
    spoilt = g[active].clone()
    spoilt[1, 3] = math.nan
    assert not exchange(spoilt, active).isfinite().all()
    assert torch.equal(exchange.state["memory"]["error"], before)


def test_large_finite_numbers_are_no_fault():
    exchange = Exchange(LAYOUT, Sim(2), TopK(0.1), EF21())
    assert (
        (exchange(vectors(2, LAYOUT.size) * 1e30) + exchange(vectors(2, LAYOUT.size, seed=1) * 1e30)).isfinite().all()
    )


@pytest.mark.parametrize("codec", [Dense(), FP16(), BF16()], ids=lambda codec: codec.name())
def test_a_fragment_without_numbers_goes_through(codec):
    layout, v = Layout({"w": (0, 5)}), torch.zeros(2, 0)
    assert codec.send(v, Sim(2), codec.buffers(layout, v), Moment(1, layout, 2)).mean.shape == (0,)


def test_a_step_without_gradients_leaves_a_local_part_in_peace():
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    attached = Communication(model, optimizer, [LocalSGD(2), Proximal()])
    before = model.weight.detach().clone()
    for _ in range(2):
        optimizer.step()
    assert torch.equal(model.weight, before)
    with pytest.raises(SoonerError, match="got a closure"):
        optimizer.step(lambda: 0.0)
    attached.detach()


def test_the_optimizers_own_policy_sees_it_on_all_ranks():
    model = nn.Linear(4, 3)
    optimizer = AdamW(model, lr=0.1, non_finite="skip")
    with using("eager"):
        attached = Communication(model, optimizer, [TopK(0.2), EF()])
        weights = model.weight.detach().clone()
        model(torch.full((2, 4), math.inf)).sum().backward()
        optimizer.step()
        assert torch.equal(model.weight, weights)
        assert optimizer.non_finite_steps == 1
    attached.detach()


@pytest.mark.parametrize("active", [torch.tensor([], dtype=torch.long), torch.arange(5)])
def test_workers_that_are_none_or_too_many_are_refused(active):
    exchange = Exchange(LAYOUT, Sim(4), TopK(0.1), EF())
    with pytest.raises(SoonerError, match=f"{len(active)} of 4 workers can't take part"):
        exchange(vectors(len(active), LAYOUT.size), active)


@pytest.mark.parametrize(
    "g", [vectors(3, LAYOUT.size), vectors(4, LAYOUT.size - 1), torch.zeros(4, LAYOUT.size, dtype=torch.long)]
)
def test_vectors_that_do_not_fit_are_refused(g):
    with pytest.raises(SoonerError, match=r"an exchange of .* does not fit; pass floating-point numbers"):
        Exchange(LAYOUT, Sim(4))(g)


def test_parameters_that_hold_no_number_are_refused():
    with pytest.raises(SoonerError, match="the parameters hold no numbers"):
        Exchange(Layout({"empty": (0, 3)}), Sim(2))
