"""StableMax against the published formula, its options against PyTorch's, and what lives on where softmax is dead."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import sooner
from sooner.loss.stablemax import StableMax, collapsed, log_s
from sooner.objective import Objective

Y = torch.tensor([0, 2, 1, 2])


def logits(*shape, scale=3.0, dtype=torch.float64):
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)).to(dtype)


def published(z, y):
    """One sample at a time, with Python's own numbers."""

    def s(x):
        return x + 1 if x >= 0 else 1 / (1 - x + 1e-30)

    losses = [-math.log(s(row[k]) / sum(map(s, row))) for row, k in zip(z.tolist(), y.tolist(), strict=True)]
    return sum(losses) / len(losses)


def test_it_is_the_published_loss():
    z = logits(4, 3)
    assert StableMax()(z, Y).item() == pytest.approx(published(z, Y), rel=1e-14)
    zero = torch.zeros(4, 3)
    assert StableMax()(zero, Y).item() == pytest.approx(math.log(3))
    assert StableMax(dtype=torch.float64)(zero, Y).item() == pytest.approx(math.log(3), rel=1e-15)


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.integers(0, 2))
def test_its_gradient_is_the_published_one(row, k):
    z = torch.tensor([row], dtype=torch.float64, requires_grad=True)
    StableMax()(z, torch.tensor([k])).backward()
    s = [x + 1 if x >= 0 else 1 / (1 - x) for x in row]
    slope = [1.0 if x >= 0 else 1 / (1 - x) ** 2 for x in row]
    expected = [slope[j] * (1 / sum(s) - (1 / s[j] if j == k else 0)) for j in range(3)]
    assert z.grad[0].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-15)


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=6, unique=True))
def test_the_order_of_the_classes_is_kept(row):
    z = torch.tensor(sorted(row), dtype=torch.float64)
    assert (log_s(z).diff() >= 0).all()  # what is less than a denormal apart may come out equal


def test_it_passes_gradcheck_also_at_zero():
    z = logits(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: StableMax()(x, Y), z)
    at_zero = torch.zeros(1, requires_grad=True)
    log_s(at_zero).backward()
    assert at_zero.grad.item() == 1.0


OPTIONS = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"weight": torch.tensor([0.5, 2.0, 1.0])},
    {"ignore_index": 2},
    {"label_smoothing": 0.2},
    {"weight": torch.tensor([0.5, 2.0, 1.0]), "label_smoothing": 0.2, "ignore_index": 1},
    {"weight": torch.tensor([0.5, 2.0, 1.0]), "label_smoothing": 0.2, "reduction": "sum"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2), (4, 3, 2, 5), (3,)], ids=str)
def test_every_option_means_what_it_means_in_torch(options, shape):
    """Cross-entropy of the logarithm of StableMax's probabilities is StableMax cross-entropy, whatever the options."""
    z = logits(*shape)
    classes = 1 if len(shape) > 1 else 0
    s = torch.where(z >= 0, z + 1, 1 / (1 - z))
    as_logits = (s / s.sum(classes, keepdim=True)).log()
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(3, [n for i, n in enumerate(shape) if i != classes], generator=generator)
    shares = torch.rand(*shape, generator=generator, dtype=torch.float64).softmax(classes)
    wide = {k: v.double() if k == "weight" else v for k, v in options.items()}
    for targets in (numbers, shares):
        if targets is shares and "ignore_index" in options:
            continue  # torch has no positions to ignore among probabilities
        expected = functional.cross_entropy(as_logits, targets, **wide)
        torch.testing.assert_close(StableMax(**options)(z, targets), expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_loss_comes_in_the_logits_precision_unless_asked_otherwise(dtype):
    z = logits(4, 3, dtype=dtype).requires_grad_()
    loss = StableMax()(z, Y)
    assert loss.dtype == dtype
    loss.backward()
    assert z.grad.dtype == dtype
    exact = StableMax()(z.detach().double(), Y)
    assert loss.item() == pytest.approx(exact.item(), rel=2 * torch.finfo(dtype).eps)
    wide = StableMax(dtype=torch.float64)(z, Y)
    assert wide.dtype == torch.float64
    assert wide.item() == exact.item()
    soft = torch.full((4, 3), 1 / 3, dtype=dtype)
    assert StableMax()(z, soft).dtype == dtype


@pytest.mark.parametrize("size", [1e4, 6e4, 1e30, 3e38])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_no_logit_is_too_large(size, dtype):
    if size > torch.finfo(dtype).max:
        size = torch.finfo(dtype).max
    z = torch.tensor([[size, -size, 0.0], [-size, size, 0.0], [size, size, size]], dtype=dtype, requires_grad=True)
    loss = StableMax()(z, torch.tensor([0, 0, 1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()
    assert loss > 0


def test_masked_classes_take_no_part():
    z = torch.tensor([[1.0, -math.inf, 2.0]], requires_grad=True)
    loss = StableMax()(z, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(2 / 5), rel=1e-6)
    assert z.grad[0, 1] == 0
    assert torch.isfinite(z.grad).all()
    assert StableMax()(z.detach(), torch.tensor([1])).item() == math.inf


def test_where_softmax_has_collapsed_it_still_learns():
    z = torch.tensor([[200.0, 0.0, -50.0], [1e6, -1e6, 3.0], [2.0, 0.0, 1.0]])
    y = torch.tensor([0, 0, 0])
    assert collapsed(z, y).item() == pytest.approx(2 / 3)
    assert collapsed(z, y, StableMax()).item() == 0.0
    z[1] = torch.tensor([20.0, 0.0, 1.0])  # the right class alone has rounded to 1
    assert collapsed(z, y).item() == pytest.approx(1 / 3)
    assert collapsed(z, y, right_class=True).item() == pytest.approx(2 / 3)
    assert collapsed(z.double(), y, right_class=True).item() == pytest.approx(1 / 3)
    assert collapsed(z, y, StableMax(), right_class=True).item() == 0.0
    given = z.clone().requires_grad_()
    StableMax()(given, y).backward()
    assert (given.grad[:, 1:] != 0).all()


def test_the_meter_counts_positions_and_leaves_out_ignored_ones():
    z = torch.zeros(2, 3, 4)  # [n, classes, positions]
    z[0, 1, :3] = 500.0
    y = torch.ones(2, 4, dtype=torch.long)
    y[1, 2:] = -100
    assert collapsed(z, y).item() == pytest.approx(3 / 6)
    assert collapsed(z, torch.full((2, 4), -100)).isnan()
    shares = functional.one_hot(torch.ones(2, 4, dtype=torch.long), 3).movedim(2, 1).float()
    for right_class in (False, True):
        assert collapsed(z, shares, right_class=right_class).item() == pytest.approx(3 / 8)
        assert collapsed(z, y, right_class=right_class).item() == pytest.approx(3 / 6)
        marked = torch.where(y < 0, 255, y)
        loss = nn.CrossEntropyLoss(ignore_index=255)
        assert collapsed(z, marked, loss, 255, right_class=right_class).item() == pytest.approx(3 / 6)
    with torch.no_grad():
        assert collapsed(z, y, StableMax()).item() == 0.0


# around the loss of a task


def task_loss(net, batch):
    return nn.CrossEntropyLoss(label_smoothing=0.1)(net(batch[0]), batch[1]) + 0.01 * net.weight.square().sum()


def test_around_a_loss_it_replaces_cross_entropy_with_the_tasks_own_options():
    net, batch = nn.Linear(5, 3), (torch.randn(4, 5), Y)
    part = StableMax()
    with part.around_loss():
        inside = task_loss(net, batch)
    expected = StableMax(label_smoothing=0.1)(net(batch[0]), Y) + 0.01 * net.weight.square().sum()
    assert inside.item() == expected.item()
    assert inside.dtype == torch.float32
    assert task_loss(net, batch).item() == pytest.approx(
        functional.cross_entropy(net(batch[0]), Y, label_smoothing=0.1).item() + 0.01 * net.weight.square().sum().item()
    )


def test_an_objective_trains_with_it():
    net, batch = nn.Linear(5, 3), (torch.randn(4, 5), Y)
    objective = Objective(net, task_loss, [batch, batch], around=[StableMax().around_loss])
    expected = StableMax(label_smoothing=0.1)(net(batch[0]), Y) + 0.01 * net.weight.square().sum()
    assert objective().item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_task_without_cross_entropy_is_refused_at_the_first_use():
    part, x = StableMax(), torch.randn(4, 3)
    with pytest.raises(sooner.SoonerError, match=r"this task's loss never calls .*cross_entropy"), part.around_loss():
        functional.mse_loss(x, x)
    with pytest.raises(KeyError), part.around_loss():  # the task's own error is not hidden
        raise KeyError
    with part.around_loss():
        functional.cross_entropy(x, Y)
    with part.around_loss():
        functional.mse_loss(x, x)  # once it was seen, a step without it is the task's business


@pytest.mark.parametrize(
    "options", [{"label_smoothing": 0.1}, {"weight": torch.ones(3)}, {"reduction": "sum"}, {"ignore_index": 0}]
)
def test_options_that_would_be_ignored_are_refused(options):
    part = StableMax(**options)
    with pytest.raises(sooner.SoonerError, match="have no effect around a task's loss"), part.around_loss():
        functional.cross_entropy(torch.randn(4, 3), Y)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"reduction": "avg"}, "reduction='avg' is not one of mean, sum, none"), ({"label_smoothing": 2}, "smoothing=2")],
)
def test_a_bad_option_is_named(options, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        StableMax(**options)


def test_in_a_recipe_it_trains_the_model():
    def train(recipe):
        torch.manual_seed(0)
        net = nn.Linear(5, 3)
        training = sooner.Recipe(recipe).build(net, steps=5)
        batch = (torch.randn(8, 5, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3)
        losses = []
        for _ in range(5):
            objective = Objective(net, task_loss, [batch])
            losses.append(training.backward(objective).item())
            training.step(objective)
            training.zero_grad()
        return losses

    ours, ordinary = train("sgd(lr=0.5) + stablemax"), train("sgd(lr=0.5)")
    assert ours == sorted(ours, reverse=True)
    assert ours[0] != ordinary[0]
    assert sooner.Recipe("stablemax + sgd").slots[0].station == "loss"
