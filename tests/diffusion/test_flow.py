"""The flow-matching loss and its distances against their definitions, the integrators against exact solutions."""

import math

import pytest
import torch

from sooner.diffusion import flow_loss, integrate, pseudo_huber, squared
from sooner.error import SoonerError

G = torch.Generator().manual_seed(0)


def some(*shape):
    return torch.randn(*shape, generator=G, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 4, 4)])
def test_the_loss_is_its_definition_example_by_example(shape):
    x0, noise, t, labels = some(*shape), some(*shape), torch.rand(5, generator=G, dtype=torch.float64), torch.arange(5)

    def model(x, times, y):
        return x * (1 + times + y).view(-1, *[1] * (x.ndim - 1)) ** 0.5

    terms = []
    for i in range(5):
        x = (1 - t[i]) * x0[i] + t[i] * noise[i]
        error = model(x[None], t[i : i + 1], labels[i : i + 1])[0] - (noise[i] - x0[i])
        terms.append((error**2).sum() / error.numel())
    torch.testing.assert_close(flow_loss(model, x0, noise, t, labels), sum(terms) / 5)
    weighted = flow_loss(model, x0, noise, t, labels, weight=lambda t: 1 - t)
    torch.testing.assert_close(weighted, sum((1 - t[i]) * terms[i] for i in range(5)) / 5)


def test_pseudo_huber_is_the_authors_formula():
    d = some(6, 2, 4)
    for c in (None, 0.3):
        corner = 0.00054 * 8 if c is None else c
        expected = [(math.sqrt(sum(v * v for v in row.flatten().tolist()) + corner**2) - corner) / 8 for row in d]
        assert pseudo_huber(d, c).tolist() == pytest.approx(expected, rel=1e-12)
    zero = torch.zeros(1, 3, requires_grad=True)
    pseudo_huber(zero).sum().backward()
    assert torch.equal(zero.grad, torch.zeros(1, 3))  # a plain norm has no gradient there
    assert squared(d).tolist() == pytest.approx([float((row**2).mean()) for row in d])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"times": torch.rand(5, 1)}, "do not belong together"),
        ({"times": torch.rand(4)}, "do not belong together"),
        ({"noise": torch.rand(5, 1)}, "do not belong together"),
        ({"model": lambda x, t: x[:, :1]}, "return a velocity like the data"),
        ({"distance": lambda d: d.square().mean()}, "one number for each of the 5 examples"),
    ],
)
def test_what_would_broadcast_in_silence_is_refused(change, said):
    given = {"model": lambda x, t: x, "x0": torch.rand(5, 3), "noise": torch.rand(5, 3), "times": torch.rand(5)}
    with pytest.raises(SoonerError, match=said):
        flow_loss(**{**given, **change})


def test_straight_flows_need_one_step_and_curved_ones_converge_at_their_order():
    noise = some(7, 3)
    velocity = some(7, 3)
    torch.testing.assert_close(integrate(lambda x, t: velocity, noise, 1, order=1), noise - velocity)

    def turning(x, t):
        return x * t[:, None]

    exact = noise * math.exp(-0.5)
    errors = [float((integrate(turning, noise, n, order=o) - exact).norm()) for o in (1, 2) for n in (20, 40)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[2] / errors[3] == pytest.approx(4, rel=0.2)
    calls = []
    integrate(lambda x, t: calls.append(float(t[0])) or x, noise, 2)
    assert calls == [1.0, 0.5, 0.5]
    for steps, order in ((0, 1), (3, 4)):
        with pytest.raises(SoonerError, match="take at least one step, of order 1 or 2"):
            integrate(turning, noise, steps, order=order)
