"""Local parts against independent transcriptions of their equations, worker by worker, in double precision."""

import heterogeneous_task
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.cluster import train_cluster
from sooner.communication import SAM, FedSpeed, Proximal
from sooner.communication._local import Place
from sooner.error import SoonerError
from sooner.foundation.generators import generator_at
from sooner.task import derived_seed, from_module

TASK = from_module(heterogeneous_task, "heterogeneous_task")
WORKERS, H, ROUNDS, RATE, DECAY, SEED = 5, 4, 3, 0.3, 0.01, 1


def vector(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def gradient(model, weights, batch):
    """The gradient of a batch at some weights, in the order of the model's parameters."""
    position = 0
    for p in model.parameters():
        p.data = weights[position : position + p.numel()].view_as(p).clone()
        position += p.numel()
    model.zero_grad()
    heterogeneous_task.loss(model, batch).backward()
    return torch.cat([p.grad.reshape(-1) for p in model.parameters()])


def clients():
    seed = derived_seed(SEED, "order")
    return [heterogeneous_task.shards(i, WORKERS, seed) for i in range(WORKERS)]


def chosen(count):
    """Who takes part in each round, as `sampled` draws them."""
    seed = derived_seed(SEED, "cohort")
    orders = [torch.randperm(WORKERS, generator=generator_at(seed, r)) for r in range(1, ROUNDS + 1)]
    return [sorted(order[:count].tolist()) for order in orders]


def federated(direction, taking_part, after=lambda w, moved, active: w):
    """FedAvg with some direction in place of the gradient: w <- w - lr (d + decay w), then the mean of the active."""
    model = heterogeneous_task.model(derived_seed(SEED, "init"))
    w, data = vector(model), clients()
    for number, active in enumerate(taking_part):
        arrived = {}
        for i in active:
            y = w.clone()
            for step in range(number * H, (number + 1) * H):
                d = direction(i, y, w, lambda there, b=data[i][step]: gradient(model, there, b))
                y = y - RATE * (d + DECAY * y)
            arrived[i] = y
        mean = sum(arrived.values()) / len(arrived)
        w = after(mean, {i: y - w for i, y in arrived.items()}, active)
    return w


def ours(parts):
    recipe = f"sgd(lr={RATE}, momentum=0.0, weight_decay={DECAY}) + local_sgd(every={H}) + {parts}"
    run = train_cluster(TASK, recipe, SEED, ROUNDS * H, WORKERS, evaluate_at=[])
    return vector(run.model), run


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_fedavg_and_fedprox(share):
    active = chosen(round(share * WORKERS))
    cohort = f"sampled(share={share})"
    same(ours(cohort)[0], federated(lambda i, y, w, grad: grad(y), active))
    same(ours(f"{cohort} + proximal(mu=0.3)")[0], federated(lambda i, y, w, grad: grad(y) + 0.3 * (y - w), active))


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_fedsam_goes_uphill_by_the_norm_of_all_parameters_on_the_same_batch(share):
    def direction(i, y, w, grad):
        g = grad(y)
        return grad(y + 0.2 * g / (g.norm() + 1e-12))

    found, run = ours(f"sampled(share={share}) + sam(rho=0.2)")
    same(found, federated(direction, chosen(round(share * WORKERS))))
    assert run.gradients == 2
    assert run.worker_steps == ROUNDS * H * round(share * WORKERS)


@pytest.mark.parametrize("share", [1.0, 0.4])
@pytest.mark.parametrize("clip", [10.0, 0.4, None])
@pytest.mark.parametrize("blend", [1.0, 0.3])
def test_fedspeed(share, clip, blend):
    h = torch.zeros(WORKERS, len(vector(heterogeneous_task.model(0))), dtype=torch.float64)

    def direction(i, y, w, grad):
        g1 = grad(y)
        g2 = grad(y + 0.1 * g1 / (g1.norm() + 1e-7))
        inner = (1 - blend) * g1 + blend * g2 + 0.2 * (h[i] - w)
        if clip is not None and inner.norm() > clip:
            inner = inner * clip / inner.norm()
        return inner + 0.2 * y  # the pull to zero is not clipped

    def after(mean, moved, active):
        for i in active:
            h[i] += moved[i]  # with a plus
        return mean + h.mean(0)  # over all clients, also those that were never asked

    found, run = ours(f"sampled(share={share}) + fedspeed(pull=0.2, rho=0.1, clip_norm={clip}, blend={blend})")
    same(found, federated(direction, chosen(round(share * WORKERS)), after))
    assert run.gradients == 2


def test_clipping_before_the_decay_is_not_clipping_after_it():
    """The trap: both orders differ as soon as clipping is at work."""
    place = Place(
        torch.full((1, 3), 2.0), torch.zeros(1, 3), torch.full((1, 3), 4.0), lambda w: torch.full((1, 3), 4.0), {}
    )
    place.state["correction"] = torch.zeros(1, 3)
    found = FedSpeed(pull=0.5, clip_norm=1.0).direction(place)
    same(found.double(), (torch.full((1, 3), 3**-0.5) + 0.5 * 2.0).double())
    assert float(found.norm()) > 1


@settings(max_examples=25)
@given(
    rho=st.floats(0, 10), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99), lead=st.sampled_from([(), (3,), (1,)])
)
def test_sam_looks_exactly_rho_away_whatever_the_gradient(rho, scale, seed, lead):
    generator = torch.Generator().manual_seed(seed)
    weights, g = torch.randn(2, *lead, 7, generator=generator, dtype=torch.float64)
    asked = []
    SAM(rho).direction(Place(weights, weights, scale * g, lambda w: asked.append(w) or w, {}))
    distances = (asked[0] - weights).norm(dim=-1)
    torch.testing.assert_close(distances, torch.full_like(distances, rho), rtol=1e-6, atol=1e-9)


def test_a_gradient_of_zero_leads_nowhere():
    zero = torch.zeros(2, 3)
    place = Place(zero, zero, zero, lambda w: w, {"correction": zero})
    for part in (SAM(), FedSpeed(), Proximal()):
        assert torch.equal(part.direction(place), zero)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SAM(-1), "sam: rho=-1"),
        (lambda: Proximal(float("nan")), "proximal: mu=nan"),
        (lambda: FedSpeed(blend=2), "fedspeed: blend=2"),
        (lambda: FedSpeed(clip_norm=-1), "fedspeed: clip_norm=-1"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(SoonerError, match=message):
        make()


@pytest.mark.parametrize("part", ["proximal", "fedspeed"])
def test_what_needs_windows_is_refused_without(part):
    with pytest.raises(SoonerError, match=f"{part} needs workers that take steps of their own.*local_sgd"):
        train_cluster(TASK, f"sgd + {part}", 0, 2, 2)
    assert train_cluster(TASK, "sgd + sam", 0, 2, 2).gradients == 2
