"""PowerSGD against the paper's algorithm, and what low rank promises."""

import numpy as np
import pytest
import references_communication as references
import torch
from test_codecs import vectors

from sooner.communication import EF, Exchange, Layout, PowerSGD, Sim
from sooner.communication._codec import Moment

WORKERS = 3


def send(codec, layout, v, state, step=1):
    return codec.send(v, Sim(len(v)), state, Moment(step, layout, len(v)))


@pytest.mark.parametrize("warm_start", [True, False])
def test_matrices_of_several_shapes_go_as_the_paper_says(warm_start):
    shapes = {"a": (9, 12), "b": (9, 12), "c": (10, 2, 4), "v": (5,)}
    layout, codec = Layout(shapes), PowerSGD(2, warm_start=warm_start)
    rounds = vectors(4, WORKERS, layout.size, dtype=torch.float64)
    state = codec.buffers(layout, rounds)
    starts = {name: {} for name in shapes}
    for step in range(5):
        drawn = state["q"] if step == 0 else codec._random(layout, rounds, step)
        factors = codec._factors(drawn, codec._divided(layout)[0])
        starts["c"][step], starts["a"][step], starts["b"][step] = _by_shape(layout, codec, factors)
    views = [layout.views(v) for v in rounds]
    expected = {
        name: list(
            references.powersgd(
                [[m.reshape(m.shape[0], -1).numpy() for m in one[name]] for one in views],
                starts[name][0],
                warm_start,
                starts[name].get,
            )
        )
        for name in ("a", "b", "c")
    }
    for step, v in enumerate(rounds):
        made = send(codec, layout, v, state, step + 1)
        mean, own = layout.views(made.mean), layout.views(made.own)
        for name, rule in expected.items():
            np.testing.assert_allclose(mean[name].reshape(shapes[name][0], -1), rule[step][0], rtol=1e-8, atol=1e-10)
            for i in range(WORKERS):
                found = own[name][i].reshape(shapes[name][0], -1)
                np.testing.assert_allclose(found, rule[step][1][i], rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(mean["v"], layout.views(v)["v"].mean(0))
        torch.testing.assert_close(made.own.mean(0), made.mean)


def _by_shape(layout, codec, factors):
    blocks = [b.shape for b in codec._divided(layout)[0]]
    both, other = factors[blocks.index((9, 12))], factors[blocks.index((10, 2, 4))]
    return other[0].numpy(), both[0].numpy(), both[1].numpy()


@pytest.mark.parametrize("rank", [3, 5])
def test_a_mean_of_no_more_than_the_rank_arrives_whole(rank):
    layout = Layout({"w": (20, 30)})
    left, right = vectors(20, 3, dtype=torch.float64), vectors(WORKERS, 3, 30, seed=1, dtype=torch.float64)
    v = (left @ right).reshape(WORKERS, -1)
    made = send(PowerSGD(rank), layout, v, PowerSGD(rank).buffers(layout, v))
    torch.testing.assert_close(made.mean, v.mean(0), rtol=1e-9, atol=1e-9)


def test_a_warm_start_finds_the_best_approximation_of_a_matrix_that_stays():
    layout, v = Layout({"w": (20, 30)}), vectors(1, 600, dtype=torch.float64)
    exchange = Exchange(layout, Sim(1), PowerSGD(2))
    for _ in range(200):
        mean = exchange(v)
    values = torch.linalg.svdvals(v.view(20, 30))
    assert float((mean - v[0]).norm()) == pytest.approx(float(values[2:].norm()), rel=1e-6)


@pytest.mark.parametrize("size", [1e-20, 1e25])
def test_the_size_of_gradients_makes_no_difference(size):
    layout, v = Layout({"w": (20, 30)}), vectors(2, 600)
    plain, scaled = (Exchange(layout, Sim(2), PowerSGD(2)) for _ in range(2))
    for _ in range(4):
        torch.testing.assert_close(scaled(v * size) / size, plain(v), rtol=1e-3, atol=1e-4)


def test_it_recovers_from_a_gradient_of_zero():
    layout = Layout({"w": (20, 30)})
    exchange = Exchange(layout, Sim(2), PowerSGD(2))
    assert (exchange(torch.zeros(2, 600)) == 0).all()
    found = [exchange(vectors(2, 600)) for _ in range(2)]
    assert found[0].norm() > 0.1
    assert found[1].norm() > 0.1


def test_what_would_not_get_smaller_goes_as_it_is():
    layout = Layout({"small": (4, 4), "column": (30, 1), "vector": (7,), "scalar": (), "empty": (0, 5)})
    v = vectors(2, layout.size)
    exchange = Exchange(layout, Sim(2), PowerSGD(2))
    assert torch.equal(exchange(v), v.mean(0)) or torch.allclose(exchange(v), v.mean(0))
    assert exchange.wire.traffic.payload_bytes / exchange.steps == 4 * layout.size
    assert exchange.wire.traffic.messages == exchange.steps


def test_an_exchange_is_two_messages_however_many_matrices_there_are():
    layout = Layout({f"w{i}": (10 + i % 3, 30) for i in range(12)})
    exchange = Exchange(layout, Sim(2), PowerSGD(1), EF())
    exchange(vectors(2, layout.size))
    assert exchange.wire.traffic.messages == 2


def test_a_shorter_side_than_the_rank_limits_the_rank():
    layout = Layout({"w": (3, 50)})
    v = vectors(2, 150, dtype=torch.float64)
    exchange = Exchange(layout, Sim(2), PowerSGD(2))
    exchange(v)
    assert exchange.state["codec"]["q"].numel() == 100
    assert Exchange(layout, Sim(2), PowerSGD(8))(v).allclose(v.mean(0))  # factors of rank 3 are larger: as it is
