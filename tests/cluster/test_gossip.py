"""Gossip: matrices, contraction, the algorithm, and bytes."""

import heterogeneous_task
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_local_parts import RATE, ROUNDS, SEED, TASK, WORKERS, H, clients, gradient, same, vector

from sooner.cluster import train_cluster
from sooner.communication import Exchange, Gossip, Layout, LocalSGD, Sim
from sooner.communication._graph import KINDS, mixing
from sooner.communication._outer import Window
from sooner.error import SoonerError
from sooner.task import derived_seed


def window(part, weights, number=1):
    n, d = weights.shape
    exchange = Exchange(Layout({"x": (d,)}), Sim(n))
    part.check(exchange)
    return Window(weights, weights, {}, exchange, number, number)


def spread(weights):
    return (weights - weights.mean(0)).square().sum()


@settings(max_examples=40)
@given(n=st.integers(1, 17), kind=st.sampled_from(KINDS), degree=st.integers(1, 5), number=st.integers(1, 4))
def test_every_graph_mixes_without_bias(n, kind, degree, number):
    w = mixing(kind, n, degree, number)
    ones = torch.ones(n, dtype=torch.float64)
    torch.testing.assert_close(w, w.T)
    torch.testing.assert_close(w @ ones, ones)
    assert (w >= 0).all()
    values = torch.linalg.eigvalsh(w).abs().sort().values
    assert n == 1 or values[-2] < 1 - 1e-9  # so that all agree in the end


def test_unequal_degrees_are_weighted_as_metropolis_has_it():
    star = mixing(((0, 1), (0, 2), (0, 3), (2, 3)), 4, 0, 1)
    expected = [
        [1 / 4, 1 / 4, 1 / 4, 1 / 4],
        [1 / 4, 3 / 4, 0, 0],
        [1 / 4, 0, 5 / 12, 1 / 3],
        [1 / 4, 0, 1 / 3, 5 / 12],
    ]
    torch.testing.assert_close(star, torch.tensor(expected, dtype=torch.float64))


def test_graphs_have_the_neighbours_that_their_names_promise():
    def degrees(kind, n):
        return ((mixing(kind, n, 4, 1) > 0).sum(1) - 1).tolist()

    assert degrees("ring", 6) == [2] * 6
    assert degrees("torus", 12) == [4] * 12
    assert degrees("full", 5) == [4] * 5
    assert set(degrees("exponential", 16)) == {7}  # 1, 2, 4 both ways, and 8
    assert max(degrees("random", 20)) <= 4
    assert not torch.equal(mixing("random", 20, 4, 1), mixing("random", 20, 4, 2))


@settings(max_examples=25)
@given(
    n=st.integers(2, 12),
    kind=st.sampled_from(["ring", "torus", "exponential", "full"]),
    q=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_consensus_contracts_by_the_second_eigenvalue(n, kind, q, seed):
    """Without local steps the distance shrinks by lambda^(2 Q): exactly along its eigenvector, at least elsewhere."""
    values, vectors = torch.linalg.eigh(mixing(kind, n, 0, 1))
    second = values[:-1].abs().argmax()
    generator = torch.Generator().manual_seed(seed)
    mean, away = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    part = Gossip(graph=kind, mixing_steps=q)
    along = mean + vectors[:, second, None] * away
    mixed = part.step(window(part, along))
    same(mixed.mean(0), along.mean(0))
    same(spread(mixed), values[second].abs() ** (2 * q) * spread(along))
    anywhere = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    assert spread(part.step(window(part, anywhere))) <= values[second].abs() ** (2 * q) * spread(anywhere) + 1e-12


def test_a_full_graph_is_the_average_of_all():
    weights = torch.randn(6, 4, dtype=torch.float64)
    part = Gossip(graph="full")
    same(part.step(window(part, weights)), weights.mean(0).expand(6, 4))


@pytest.mark.parametrize(("kind", "q", "rho"), [("ring", 1, 0.0), ("ring", 3, 0.1), ("random", 2, 0.1)])
def test_dfedsam(kind, q, rho):
    model = heterogeneous_task.model(derived_seed(SEED, "init"))
    x = vector(model).repeat(WORKERS, 1)
    for number in range(ROUNDS):
        for i, data in enumerate(clients()):
            y = x[i].clone()
            for step in range(number * H, (number + 1) * H):
                g = gradient(model, y, data[step])
                g = gradient(model, y + rho * g / (g.norm() + 1e-12), data[step])
                y = y - RATE * g
            x[i] = y
        near = mixing(kind, WORKERS, 4, number + 1) > 0
        near.fill_diagonal_(False)
        for _ in range(q):
            old = x.clone()
            for i in range(WORKERS):
                for j in range(WORKERS):
                    if near[i, j]:
                        x[i] += (old[j] - old[i]) / (1 + max(int(near[i].sum()), int(near[j].sum())))
    recipe = f"sgd(lr={RATE}, momentum=0.0) + gossip(every={H}, graph='{kind}', mixing_steps={q}) + sam(rho={rho})"
    run = train_cluster(TASK, recipe, SEED, ROUNDS * H, WORKERS)
    same(vector(run.model), x.mean(0))
    same(torch.tensor(run.consensus[-1]), spread(x).float() / WORKERS)
    assert run.replicas[-1] != run.average[-1]


def test_bytes_grow_with_neighbours_and_with_mixing_steps():
    def sent(text):
        return train_cluster(TASK, f"sgd + {text}", 0, 8, 8, evaluate_at=[]).traffic.wire_bytes

    once = sent("gossip(every=4)")
    assert once == 2 * 2 * 38 * 8  # rounds, neighbours, numbers, bytes of each
    assert sent("gossip(every=4, mixing_steps=4)") == 4 * once
    assert sent("gossip(every=4, graph='full')") == 7 / 2 * once


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("gossip(graph='rang')", r"graph='rang' \(did you mean 'ring'\?\)"),
        ("gossip(every=2) + top_k", "gossip sends weights as they are; leave TopK out"),
        ("gossip(every=2) + sampled(share=0.5)", "gossip needs all 4 workers"),
        ("gossip(mixing_steps=0)", "mixing_steps=0"),
        ("gossip(graph=3)", r"graph=3 holds something else than pairs .* choose one of ring"),
        ("gossip(graph=(0, 1))", r"graph=\(0, 1\) holds something else than pairs"),
        ("gossip(graph=((0, 0.5),))", "holds something else than pairs"),
        ("gossip(graph=((0, 1, 2),))", "holds something else than pairs"),
        ("local_sgd + gossip", "both own the outer step"),
    ],
)
def test_refusals(recipe, message):
    with pytest.raises(SoonerError, match=message):
        train_cluster(TASK, f"sgd + {recipe}", 0, 4, 4)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (((0, 1), (2, 3)), r"worker 2 hears nothing of worker 0 .*not connected"),
        (((0, 9),), r"\(0, 9\) is not between"),
    ],
)
def test_a_graph_that_is_not_connected_is_refused(edges, message):
    with pytest.raises(SoonerError, match=message):
        Gossip(graph=edges).check(Exchange(Layout({"x": (2,)}), Sim(4)))
    assert LocalSGD(2).check(Exchange(Layout({"x": (2,)}), Sim(4))) is None
