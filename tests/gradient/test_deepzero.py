"""Gradients from forward passes alone: against backpropagation, against a plain loop, and across a restart."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import sooner
from sooner.gradient._queries import Queries
from sooner.gradient.deepzero import DeepZero
from sooner.objective import Objective
from sooner.recipe import Recipe
from sooner.task import from_file

TINY = Path(__file__).parents[1] / "loop" / "tiny_task.py"


class Quadratic(nn.Module):
    """x.Hx / 2 + c.x with a matrix and a vector of parameters."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.w = nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
        self.v = nn.Parameter(torch.randn(4, dtype=torch.float64))
        self.fixed = nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)
        root = torch.randn(10, 10, dtype=torch.float64)
        self.h, self.c = root @ root.T, torch.randn(10, dtype=torch.float64)

    def forward(self, scale):
        x = torch.cat([self.w.flatten(), self.v]) * scale
        return x @ self.h @ x / 2 + self.c @ x


def quadratic_objective(model, scales=(1.0,)):
    return Objective(model, lambda m, scale: m(scale), list(scales))


def exact(model, objective):
    return torch.autograd.grad(objective(), [p for p in model.parameters() if p.requires_grad])


@settings(max_examples=20)
@given(seed=st.integers(0, 2**20), mu=st.floats(1e-6, 1e-1))
def test_coordinate_wise_differences_of_a_quadratic_are_off_by_half_mu_times_the_curvature(seed, mu):
    model = Quadratic(seed)
    objective = quadratic_objective(model, (1.0, 0.5))
    before = [p.detach().clone() for p in model.parameters()]
    loss = DeepZero(mu=mu).backward(objective)
    torch.testing.assert_close(loss, objective().detach())
    curvature = model.h.diagonal() * (1 + 0.25) / 2
    found = torch.cat([model.w.grad.flatten(), model.v.grad])
    wanted = torch.cat([g.flatten() for g in exact(model, objective)])
    torch.testing.assert_close(found, wanted + mu / 2 * curvature, rtol=1e-6, atol=1e-6 + 1e-12 / mu)
    assert model.fixed.grad is None
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))


def test_random_directions_give_the_gradient_on_average():
    model = Quadratic(3)
    objective = quadratic_objective(model)
    part = DeepZero("rge", directions=20_000, mu=1e-6)
    part.backward(objective)
    found = torch.cat([model.w.grad.flatten(), model.v.grad])
    wanted = torch.cat([g.flatten() for g in exact(model, objective)])
    assert float((found - wanted).norm() / wanted.norm()) < 0.05  # about sqrt(d / q) = 0.022
    assert part.queries == 20_001 + 2  # the base, the directions, and the check on the first step


def small(kind):
    torch.manual_seed(0)
    layers = {
        "plain": [nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)],
        "normalised": [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 3)],
        "branching": [nn.Linear(4, 6), Branching(), nn.Linear(6, 3)],
        "recurrent": [Recurrent(), nn.Linear(5, 3)],
        "tied": [Tied(), nn.Linear(4, 3)],
        "hiding": [Hiding(), nn.Linear(4, 3)],
    }
    return nn.Sequential(*layers[kind])


class Branching(nn.Module):
    """Looks at numbers, which torch.func can't batch."""

    def forward(self, x):
        return x * 2 if float(x.detach().sum()) > 0 else x * 3


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5)

    def forward(self, x):
        return self.lstm(x)[0]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.other = nn.Linear(4, 4)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.other(torch.tanh(self.one(x)))


class Hiding(nn.Module):
    """Keeps a second reference to its weight, so that replacing the attribute has no effect."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.hidden = [self.weight]

    def forward(self, x):
        return torch.tanh(x @ self.hidden[0])


def classify(model, batch):
    x, y = batch
    return F.cross_entropy(model(x), y)


def classification(model, count=1):
    torch.manual_seed(5)
    return Objective(model, classify, [(torch.randn(16, 4), torch.randint(3, (16,))) for _ in range(count)])


@pytest.mark.parametrize("kind", ["plain", "branching", "recurrent", "tied", "hiding"])
def test_networks_of_all_kinds_get_nearly_the_gradient_of_backpropagation(kind):
    model = small(kind)
    objective = classification(model, 2)
    part = DeepZero(mu=1e-3)
    before = [p.detach().clone() for p in model.parameters()]
    part.backward(objective)
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
    assert part.state_dict()["together"] is (kind in ("plain", "tied"))
    for p, wanted in zip(model.parameters(), exact(model, objective), strict=True):
        torch.testing.assert_close(p.grad, wanted, rtol=0, atol=1e-3)
    assert part.queries == 1 + 2 + sum(p.numel() for p in model.parameters())


def test_many_queries_at_a_time_give_what_one_at_a_time_gives():
    for kind in ("plain", "normalised", "tied"):
        model = small(kind)
        found = []
        for together in (True, False):
            torch.manual_seed(9)
            queries = Queries(classification(model), together)
            with torch.no_grad():
                stack = {p: torch.stack([p, p + 0.01, p * 2]) for p in model.parameters()}
            found.append((queries.base(), queries.at(stack)))
            assert queries.together is together
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found[0][0], found[0][1][0], rtol=1e-6, atol=1e-6)  # the same dropout mask


def test_dropout_keeps_one_mask_and_running_statistics_move_once():
    model = small("normalised")
    objective = classification(model)
    state = torch.get_rng_state()
    DeepZero(mu=1e-3).backward(objective)
    moved = model[1].running_mean.clone()
    assert int(model[1].num_batches_tracked) == 1
    found = [p.grad.clone() for p in model.parameters()]
    fresh = small("normalised")
    DeepZero()  # draws its seed
    torch.set_rng_state(state)
    DeepZero()
    loss = classification_at(fresh, objective)
    torch.testing.assert_close(moved, fresh[1].running_mean)
    for p, g in zip(fresh.parameters(), found, strict=True):
        torch.testing.assert_close(g, torch.autograd.grad(loss, p, retain_graph=True)[0], rtol=0, atol=2e-3)


def classification_at(model, objective):
    return classify(model, objective.batches[0])


def test_dropout_draws_another_mask_at_every_step():
    model = small("normalised")
    objective = classification(model)
    part = DeepZero()
    assert part.backward(objective) != part.backward(objective)


def test_in_evaluation_mode_there_is_no_noise_and_the_mode_comes_back():
    model = small("normalised")
    model[3].eval()
    objective = classification(model)
    part = DeepZero(evaluation=True)
    assert part.backward(objective) == part.backward(objective)
    assert [m.training for m in model] == [True, True, True, False, True]
    assert int(model[1].num_batches_tracked) == 0


def test_losses_are_compared_in_double_precision():
    model = small("plain")
    objective = classification(model)
    loss = DeepZero().backward(objective)
    assert loss.dtype == torch.float64
    x, y = objective.batches[0]
    torch.testing.assert_close(loss, F.cross_entropy(model(x).detach().double(), y), rtol=1e-14, atol=0)
    weight = torch.tensor([1.0, 2.0, 0.5])
    weighted = Objective(
        model, lambda m, b: F.cross_entropy(m(b[0]), F.one_hot(b[1], 3).float(), weight), objective.batches
    )
    wanted = F.cross_entropy(model(x).detach().double(), F.one_hot(y, 3).double(), weight.double())
    torch.testing.assert_close(DeepZero().backward(weighted), wanted, rtol=1e-14, atol=0)


@pytest.mark.parametrize("method", ["cge", "rge"])
def test_a_sparse_step_estimates_a_share_of_the_weights_and_all_biases(method):
    model = small("plain")
    objective = classification(model)
    before = [p.detach().clone() for p in model.parameters()]
    part = DeepZero(method, sparsity=0.5, refresh=2, directions=64)
    masks = []
    for _ in range(4):
        part.backward(objective)
        masks.append([p.grad != 0 for p in model.parameters()])
        for p in model.parameters():
            p.grad = None
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
    first, second, third, fourth = masks
    assert all(torch.equal(a, b) for a, b in zip(first + third, second + fourth, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, third, strict=True))
    kept = sum(int(m.sum()) for m in first if m.ndim > 1)
    assert abs(kept - 0.5 * (24 + 18)) <= 2  # every layer rounds for itself
    assert all(bool(m.all()) for m in first if m.ndim == 1)
    shares = part.state_dict()["shares"]
    assert shares[1] == shares[3] == 1.0
    if method == "cge":
        wanted = exact(model, objective)
        part.backward(objective)
        for p, g in zip(model.parameters(), wanted, strict=True):
            torch.testing.assert_close(p.grad, torch.where(p.grad != 0, g, 0), rtol=0, atol=6e-3)


def test_the_layers_shares_follow_the_score_of_grasp():
    """On a quadratic the score -theta * H g is known; pruning the highest scores leaves these shares."""
    model = Quadratic(1)
    model.w2 = nn.Parameter(torch.randn(5, 5, dtype=torch.float64) * 1e-3)
    objective = Objective(model, lambda m, scale: m(scale) - m.w2.square().sum() * 0, [1.0])
    part = DeepZero(sparsity=4 / 31, directions=60_000, mu=1e-5, block=4096)
    part.backward(objective)
    x = torch.cat([model.w.detach().flatten(), model.v.detach()])
    scores = (-x * (model.h @ (model.h @ x + model.c)))[:6]
    pruned = int((scores > 0).sum())  # the scores of w2 are 0
    assert 1 <= pruned <= 4
    assert part.state_dict()["shares"][0] == pytest.approx(1 - min(pruned, 4) / 6)


def test_vectors_alone_are_estimated_in_full():
    model = nn.LayerNorm(3)
    objective = Objective(model, lambda m, x: m(x).square().mean(), [torch.randn(4, 3)])
    part = DeepZero(sparsity=0.9, directions=4)
    part.backward(objective)
    assert all(bool((p.grad != 0).all()) for p in model.parameters())


def test_where_the_dtype_rounds_the_perturbation_away_the_gradient_is_zero():
    p = nn.Parameter(torch.tensor([64.0, 0.5], dtype=torch.bfloat16))
    model = nn.Module()
    model.p = p
    DeepZero(mu=5e-3).backward(Objective(model, lambda m, _: m.p.float().sum() * 3, [0]))
    assert p.grad.tolist() == [0.0, 3.0]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"method": "cgd"}, r"deepzero: method='cgd' \(did you mean 'cge'\?\) is unknown; choose cge or rge"),
        ({"directions": 0}, "deepzero: directions=0 is not a whole number"),
        ({"mu": 0.0}, "deepzero: mu=0.0 is not a number"),
        ({"mu": math.nan}, "deepzero: mu=nan"),
        ({"sparsity": 1.0}, r"deepzero: sparsity=1.0 is not a number in \[0, 1\)"),
        ({"refresh": 0}, "deepzero: refresh=0"),
        ({"block": 0.5}, "deepzero: block=0.5 is not a whole number"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(settings, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        DeepZero(**settings)


def test_a_loop_that_evaluates_no_loss_is_refused():
    with pytest.raises(sooner.SoonerError, match="deepzero needs a closure, which this training loop does not provide"):
        Recipe("deepzero + sgd").build(nn.Linear(2, 2), 5)


@pytest.mark.parametrize(
    "recipe",
    [
        "deepzero + sgd + cosine",
        "deepzero(sparsity=0.5, refresh=3, directions=16) + clip_norm + torch.optim.SGD(lr=0.1)",
        "deepzero(method='rge', directions=16) + adamw",
    ],
)
def test_the_loop_trains_with_it_and_resumes_bit_for_bit(recipe, tmp_path):
    task = from_file(TINY)
    straight = sooner.train(task, recipe, 3)
    assert straight.diverged_at is None

    def stop(step, value):
        if step > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sooner.train(task, recipe, 3, checkpoint=tmp_path / "run.pt", save_every=6, progress=stop)
    resumed = sooner.train(task, recipe, 3, checkpoint=tmp_path / "run.pt")
    assert torch.equal(straight.losses, resumed.losses)
    for a, b in zip(straight.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_it_learns_what_backpropagation_learns():
    torch.manual_seed(1)
    x = torch.randn(64, 4)
    y = (x[:, 0] * x[:, 1] > 0).long()
    ends = []
    for recipe in ("sgd(lr=0.5)", "deepzero + sgd(lr=0.5)"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        training = Recipe(recipe).build(model, 60, {"closure"})
        for _ in range(60):
            objective = Objective(model, classify, [(x, y)])
            loss = training.backward(objective)
            training.step(objective)
            training.zero_grad()
        ends.append(float(loss))
    assert ends[0] < 0.1
    assert ends[1] == pytest.approx(ends[0], rel=0.3)


def test_a_compiled_model_a_loss_that_goes_back_and_no_objective():
    def gradients(called, back):
        def loss(model, batch):
            found = F.cross_entropy(called(batch[0]), batch[1])
            if back:
                model.zero_grad()
                found.backward()
            return found

        part = DeepZero()
        part.backward(Objective(model, loss, [(x, y)]))
        found = [p.grad for p in model.parameters()]
        model.zero_grad()
        return found, part.queries

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(5, 3).double(), torch.randint(2, (5,))
    expected, queries = gradients(model, back=False)
    for called, back in ((model, True), (torch.compile(model, backend="aot_eager"), False)):
        found, same = gradients(called, back)
        assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(found, expected, strict=True))
        assert same == queries
    with pytest.raises(
        sooner.SoonerError, match=r"deepzero needs sooner.objective.Objective\(model, loss, \[batch\]\)"
    ):
        DeepZero().backward(lambda: 1.0)
