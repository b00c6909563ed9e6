"""Many models at once: the same losses, gradients and steps as one model after the other."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import sooner.update
from sooner.error import SoonerError
from sooner.foundation.lanes import Lanes, Stacked, elementwise, remembers

N = 4


class Tied(nn.Module):
    """A weight used twice, one that is not trained, a scalar, a buffer and one that the loss does not see."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3)
        self.two.weight = self.one.weight
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("shift", torch.tensor([0.1, 0.2, 0.3]))
        self.double()

    def forward(self, x):
        return self.scale * self.two(torch.tanh(self.frozen(self.one(x)))) + self.shift


def loss(model, batch):
    return (model(batch["x"]) - batch["y"]).square().mean() * batch["times"]


def batch(seed, rows=5):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, rows, 3, generator=generator, dtype=torch.float64)
    return {"x": x, "y": y, "times": 2.0}


def tied(seed=0):
    torch.manual_seed(seed)
    return Tied()


def lanes_of(batched, model=None, loss=loss):
    lanes = Lanes(model or tied(), N, loss, batched=batched)
    lanes.weights.add_(0.1 * torch.randn(lanes.weights.shape, dtype=torch.float64))
    return lanes


def by_hand(lanes, weights, one):
    """Losses and gradients from a copy of the model and `backward`."""
    model = copy.deepcopy(lanes.model)
    lanes.write(weights, model)
    value = loss(model, one)
    value.backward()
    named = {n: p.grad if p.grad is not None else torch.zeros_like(p) for n, p in model.named_parameters()}
    return value.detach(), lanes.layout.flatten({n: named[n] for n in lanes.layout.shapes})


@pytest.mark.parametrize("batched", [True, False, None])
@pytest.mark.parametrize("rows", [(5, 5, 5, 5), (5, 2, 5, 1)], ids=["alike", "of several sizes"])
@pytest.mark.parametrize("same", [False, True], ids=["own weights", "same weights"])
def test_losses_and_gradients_are_those_of_single_models(batched, rows, same):
    lanes = lanes_of(batched)
    weights = lanes.weights[0] if same else lanes.weights
    batches = [batch(i, count) for i, count in enumerate(rows)]
    losses, gradients = lanes(weights, batches)
    for i, one in enumerate(batches):
        value, gradient = by_hand(lanes, weights if same else weights[i], one)
        torch.testing.assert_close(losses[i], value, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(gradients[i], gradient, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(lanes.losses(weights, batches), losses, rtol=1e-12, atol=1e-14)


@settings(max_examples=10)
@given(order=st.permutations(range(N)))
def test_a_lane_knows_nothing_of_the_others(order):
    lanes = lanes_of(True)
    batches = [batch(i) for i in range(N)]
    losses, gradients = lanes(lanes.weights, batches)
    shuffled = lanes(lanes.weights[list(order)], [batches[i] for i in order])
    torch.testing.assert_close(shuffled[0], losses[list(order)], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(shuffled[1], gradients[list(order)], rtol=1e-10, atol=1e-14)


def test_fewer_lanes_than_workers_and_batches_without_tensors():
    lanes = lanes_of(True)
    losses, gradients = lanes(lanes.weights[1:3], [batch(0), batch(1)])
    assert losses.shape == (2,)
    assert gradients.shape == (2, lanes.layout.size)
    constant = Lanes(tied(), 3, lambda model, times: times * model.scale.square(), batched=True)
    assert constant(constant.start, [2.0, 3.0, 3.0])[0].tolist() == [4.5, 6.75, 6.75]


def test_examples_are_measured_one_by_one():
    for batched in (True, False):
        lanes = lanes_of(batched)
        whole = batch(3, 6)
        found = lanes.example_losses(lanes.weights[0], whole)
        alone = [{"x": whole["x"][i : i + 1], "y": whole["y"][i : i + 1], "times": 2.0} for i in range(6)]
        expected = torch.stack([by_hand(lanes, lanes.weights[0], one)[0] for one in alone])
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
        assert lanes.batched is batched


def test_chance_differs_between_lanes_and_repeats_with_the_seed():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 1)).double()
    lanes = Lanes(model, N, lambda m, x: m(x).square().sum(), batched=True)
    same = [torch.ones(3, 8, dtype=torch.float64)] * N
    torch.manual_seed(5)
    first = lanes.losses(lanes.start, same)
    torch.manual_seed(5)
    again = lanes.losses(lanes.start, same)
    assert torch.equal(first, again)
    assert len(set(first.tolist())) == N


def test_contexts_are_entered_around_the_loss():
    entered = []

    class Context:
        def __enter__(self):
            entered.append(1)

        def __exit__(self, *_):
            pass

    lanes = lanes_of(True)
    lanes.around = [Context]
    lanes.losses(lanes.weights, [batch(i) for i in range(N)])
    assert entered


def picky(model, one):
    """A loss that looks at its value, which no batched program can."""
    value = loss(model, one)
    return value * 2 if value.item() > 0 else value


def test_what_cannot_be_batched_runs_one_by_one_and_says_so():
    lanes = lanes_of(None, loss=picky)
    with pytest.warns(UserWarning, match=r"can't be evaluated for all workers at once .* one after the other; .*item"):
        losses, gradients = lanes(lanes.weights, [batch(i) for i in range(N)])
    for i in range(N):
        value, gradient = by_hand(lanes, lanes.weights[i], batch(i))
        torch.testing.assert_close(losses[i], 2 * value)
        torch.testing.assert_close(gradients[i], 2 * gradient)
    lanes(lanes.weights, [batch(i) for i in range(N)])  # without another warning
    with pytest.raises(SoonerError, match="pass batched=False"):
        lanes_of(True, loss=picky).losses(lanes.weights, [batch(i) for i in range(N)])


def test_a_wrong_loss_is_reported_as_itself():
    with pytest.raises(ZeroDivisionError):
        lanes_of(None, loss=lambda m, b: 1 / 0).losses(torch.zeros(N, 22, dtype=torch.float64), [batch(0)] * N)


@pytest.mark.parametrize(
    ("model", "workers", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), 2, r"1 is a BatchNorm1d.*use torch\.nn\.GroupNorm"),
        (nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2).double()]), 2, "float32 on cpu, torch.float64 on cpu"),
        (nn.Linear(2, 2), 0, "0 workers can't train"),
        (nn.Linear(2, 2).requires_grad_(False), 2, "no parameters"),
    ],
)
def test_models_that_have_no_lanes_are_refused(model, workers, message):
    with pytest.raises(SoonerError, match=message):
        Lanes(model, workers, loss)


def test_convolutions_and_embeddings_run_one_by_one_on_a_cpu():
    assert Lanes(nn.Sequential(nn.Conv2d(1, 2, 3)), 2, loss).batched is False
    assert Lanes(nn.Sequential(nn.Embedding(3, 2)), 2, loss).batched is False
    assert Lanes(nn.Linear(2, 2), 2, loss).batched is None
    assert Lanes(nn.Sequential(nn.Conv2d(1, 2, 3)), 2, loss, batched=True).batched is True


def test_convolutions_are_the_same_at_once_and_one_by_one():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).double()
    batches = [(torch.randn(2, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 2])) for _ in range(N)]

    def classify(m, b):
        return F.cross_entropy(m(b[0]), b[1])

    at_once, in_turn = (Lanes(model, N, classify, batched=b) for b in (True, False))
    for one, other in zip(at_once(at_once.weights, batches), in_turn(in_turn.weights, batches), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["AdamW", "SGD", "AdaBelief", "RMSprop"])
def test_one_optimizer_moves_all_lanes_as_one_each_would(name):
    kind = getattr(torch.optim if name == "RMSprop" else sooner.update, name)
    together, apart = lanes_of(True), lanes_of(True)
    apart.weights.copy_(together.weights)
    stacked = Stacked(together.weights)
    one = kind(stacked.parameters(), lr=0.01)
    assert elementwise(one)
    replicas = apart.replicas()
    each = [kind([p for p in r.parameters() if p.requires_grad], lr=0.01) for r in replicas]
    for step in range(5):
        batches = [batch(10 * step + i) for i in range(N)]
        _, stacked.weights.grad = together(together.weights, batches)
        one.step()
        _, gradients = apart(apart.weights, batches)
        for replica, optimizer, gradient in zip(replicas, each, gradients, strict=True):
            places = apart.layout.views(gradient)
            for n, p in replica.named_parameters():
                p.grad = places.get(n)
            optimizer.step()
        torch.testing.assert_close(together.weights, apart.weights, rtol=1e-9, atol=1e-12)
    assert replicas[2].one.weight.data_ptr() >= apart.weights[2].data_ptr()
    assert replicas[2].two.weight is replicas[2].one.weight


def test_which_optimizers_look_at_single_numbers_and_which_keep_state():
    def made(kind, **more):
        return kind([nn.Parameter(torch.ones(3, 4))], **more)

    torches = torch.optim
    assert elementwise(made(torches.Adam))
    assert elementwise(made(sooner.update.SGD))
    assert elementwise(made(sooner.update.AdamW))
    assert not elementwise(made(torches.Adafactor))
    assert not elementwise(made(torches.LBFGS))
    assert not elementwise(made(sooner.update.Muon))
    assert not elementwise(made(sooner.update.AdamP))
    assert not elementwise(made(sooner.update.AdamW, non_finite="skip"))
    assert not remembers(made(sooner.update.SGD, momentum=0.0))
    assert remembers(made(sooner.update.SGD, momentum=0.9))
    assert not remembers(made(torches.SGD, lr=0.1))
    assert remembers(made(torches.SGD, lr=0.1, momentum=0.9))
    assert remembers(made(torches.Adam))
