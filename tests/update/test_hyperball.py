"""Hyperball: its paper's step around any optimizer, stacks, what stays, what is refused, and that it goes on."""

import copy

import pytest
import torch
from torch import nn

from sooner.error import SoonerError
from sooner.update import SGD, AdamW, Hyperball, Muon


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 6)
        self.hidden = nn.Linear(6, 8)
        self.experts = nn.Parameter(torch.randn(3, 8, 4))
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        h = torch.tanh(self.hidden(self.embedding(x)))
        return self.head(torch.einsum("bi,eij->bj", h, self.experts))


def net(dtype=torch.float64):
    torch.manual_seed(0)
    return Net().to(dtype)


def train(model, optimizer, ball=None, steps=3, first=0):
    for step in range(first, first + steps):
        x, y = (torch.randint(5, (7,), generator=torch.Generator().manual_seed(n + 10 * step)) for n in (1, 2))
        nn.functional.cross_entropy(model(x), y).backward()
        if ball is None:
            optimizer.step()
        else:
            with ball.around_step():
                optimizer.step()
        optimizer.zero_grad()


def unit(matrix):
    return matrix / matrix.norm()


MAKE = {
    "adamw": lambda model: AdamW(model, lr=0.1, weight_decay=0.0),
    "muon": lambda model: Muon(model, lr=0.1),
    "torch": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("name", list(MAKE))
def test_the_step_is_the_papers(name):
    model = net()
    optimizer = MAKE[name](model)
    ball = Hyperball(model, optimizer)
    radii = [model.hidden.weight.norm().item(), *(one.norm().item() for one in model.experts)]
    for step in range(4):
        plain, before = copy.deepcopy((model, optimizer)), copy.deepcopy(model)
        train(*plain, steps=1, first=step)
        train(model, optimizer, ball, steps=1, first=step)
        pairs = [(before.hidden.weight, plain[0].hidden.weight, model.hidden.weight)]
        pairs += list(zip(before.experts, plain[0].experts, model.experts, strict=True))
        for radius, (was, proposed, now) in zip(radii, pairs, strict=True):
            expected = radius * unit(was + 0.1 * radius * unit(proposed - was))
            torch.testing.assert_close(now, expected, rtol=1e-10, atol=1e-12)
        for one in ("embedding.weight", "hidden.bias", "head.weight", "head.bias"):
            assert torch.equal(model.get_parameter(one), plain[0].get_parameter(one)), one


def test_a_matrix_that_does_not_move_stays_to_the_bit():
    model = net(torch.float32)
    optimizer = SGD(model, lr=0.1)
    ball = Hyperball(model, optimizer)
    model.experts.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    with ball.around_step():
        optimizer.step()  # nothing has a gradient
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    train(model, optimizer, ball)
    assert torch.equal(model.experts, before["experts"])
    assert not torch.equal(model.hidden.weight, before["hidden.weight"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_norm_too(dtype):
    model = net(dtype)
    ball = Hyperball(model, optimizer := AdamW(model, lr=0.05))
    radius = model.hidden.weight.float().norm()
    train(model, optimizer, ball, steps=5)
    assert model.hidden.weight.dtype == dtype
    torch.testing.assert_close(model.hidden.weight.float().norm(), radius, rtol=5e-3, atol=0.0)


def test_nan_is_not_hidden():
    model = net()
    ball = Hyperball(model, optimizer := SGD(model, lr=0.1))
    model.hidden.weight.grad = torch.full_like(model.hidden.weight, torch.nan)
    with ball.around_step():
        optimizer.step()
    assert model.hidden.weight.isnan().all()


def test_it_goes_on_with_the_norms_that_were_saved():
    straight, model = net(), net()
    optimizer = AdamW(straight, lr=0.1)
    ball = Hyperball(straight, optimizer)
    train(straight, optimizer, ball, steps=2)
    saved = copy.deepcopy((straight.state_dict(), optimizer.state_dict(), ball.state_dict()))
    resumed = AdamW(model, lr=0.1)
    around = Hyperball(model, resumed)
    for one, state in zip((model, resumed, around), saved, strict=True):
        one.load_state_dict(state)
    for some in ((straight, optimizer, ball), (model, resumed, around)):
        train(*some, steps=2, first=2)
    assert all(torch.equal(p, q) for p, q in zip(straight.parameters(), model.parameters(), strict=True))


def test_weights_loaded_before_the_first_step_say_the_norm():
    model = net()
    ball = Hyperball(model, optimizer := SGD(model, lr=0.1))
    with torch.no_grad():
        model.hidden.weight.mul_(3.0)
    radius = model.hidden.weight.norm().item()
    train(model, optimizer, ball)
    assert model.hidden.weight.norm().item() == pytest.approx(radius)


def test_what_has_no_norm_to_keep_is_refused():
    model = net()
    with pytest.raises(SoonerError, match="hyperball finds no hidden weight matrix in the model; leave it out"):
        Hyperball(model.head, SGD(model.head))
    ball = Hyperball(model, optimizer := SGD(model))
    with torch.no_grad():
        model.experts[1].zero_()
    with (
        pytest.raises(SoonerError, match="hyperball: experts is zero or not finite at the first step"),
        ball.around_step(),
    ):
        optimizer.step()
    other = net()
    ball = Hyperball(other, optimizer := SGD(other))
    ball.load_state_dict({"radii": {"experts": torch.ones(2, 1, 1)}})
    with (
        pytest.raises(SoonerError, match=r"experts has norms of shape \(2, 1, 1\), not \(3, 1, 1\); begin anew"),
        ball.around_step(),
    ):
        optimizer.step()
