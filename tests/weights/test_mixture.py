"""Mixtures of snapshots: the coefficients of both searches, what the view shows, and what may happen to the model."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies
from torch import nn
from torch.nn import functional as F

import sooner
from sooner.objective import Objective
from sooner.recipe import Recipe
from sooner.task import from_file
from sooner.weights import Mixture, _mixing


def linear(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return nn.Linear(6, 2).to(dtype)


def numbers(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def filled(net, rows, **settings):
    """Return a mixture whose snapshots are the rows."""
    mix = Mixture(net, every=1, **settings)
    for row in rows:
        nn.utils.vector_to_parameters(row.to(next(net.parameters())).clone(), net.parameters())
        mix.after_step()
    return mix


def quadratic(net, target):
    return lambda: (torch.cat([p.flatten() for p in net.parameters()]) - target).square().sum()


@settings(deadline=None, max_examples=15)
@given(k=strategies.integers(2, 6), seed=strategies.integers(0, 1000))
def test_the_search_by_gradients_finds_the_affine_combination_that_least_squares_gives(k, seed):
    net = linear()
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(k, 14, generator=generator, dtype=torch.float64)
    target = torch.randn(14, generator=generator, dtype=torch.float64)
    mix = filled(net, rows, keep=k)
    before = numbers(net)
    value = mix.search(quadratic(net, target), 200)
    free = torch.linalg.lstsq((rows[:-1] - rows[-1]).T, target - rows[-1]).solution
    coefficients = torch.cat([free, 1 - free.sum(0, keepdim=True)])
    torch.testing.assert_close(torch.tensor(mix.coefficients, dtype=torch.float64), coefficients, rtol=1e-5, atol=1e-5)
    assert value == pytest.approx(float((coefficients @ rows - target).square().sum()), rel=1e-8)
    assert torch.equal(numbers(net), before)
    with mix.view():
        torch.testing.assert_close(numbers(net), coefficients @ rows, rtol=1e-5, atol=1e-5)
    assert torch.equal(numbers(net), before)


def test_the_evolution_gets_close_without_gradients_and_is_the_same_every_time():
    rows, target = torch.eye(6, 14, dtype=torch.float64), torch.zeros(14, dtype=torch.float64)
    target[:6] = torch.tensor([0.9, -0.6, 0.4, 0.2, 0.5, -0.4])
    found = []
    for seed in (0, 0, 1):
        net = linear()
        mix = filled(net, rows)
        asked = quadratic(net, target)
        value = mix.search(lambda asked=asked: float(asked().detach()), 1500, seed=seed)
        assert sum(mix.coefficients) == pytest.approx(1.0)
        found.append((value, mix.coefficients))
    assert found[0] == found[1] != found[2]
    assert max(value for value, _ in found) < 0.03  # the best uniform average has 1.5


def test_it_is_never_worse_than_the_averages_it_begins_with():
    net = linear()
    rows = torch.randn(7, 14, dtype=torch.float64)
    mix, target = filled(net, rows, keep=5), rows[-5:].mean(0)
    for method in ("gradient", "evolution"):
        assert mix.search(quadratic(net, target), 12, method=method) < 1e-20  # the uniform average of the last five
    assert mix.coefficients == pytest.approx([0.2] * 5)


def test_a_check_ends_the_search_before_it_fits_noise(monkeypatch):
    net = linear()
    rows, target = torch.randn(12, 14, dtype=torch.float64), torch.randn(14, dtype=torch.float64)
    mix, metric = filled(net, rows), quadratic(net, target)
    check = quadratic(net, rows.mean(0))  # rises as soon as the search leaves the average
    for method in ("gradient", "evolution"):
        monkeypatch.setattr(_mixing, "CHECKED", 5)
        before = mix.evaluations
        assert mix.search(metric, 5000, check=check, method=method) < 15
        assert mix.evaluations - before < 300


def test_coefficients_stay_in_bounds():
    net = linear()
    rows = torch.zeros(2, 14, dtype=torch.float64)
    rows[1] = 0.01  # the target would need a coefficient of 100
    for method in ("gradient", "evolution"):
        mix = filled(net, rows)
        mix.search(quadratic(net, torch.ones(14, dtype=torch.float64)), 300, method=method)
        assert max(map(abs, mix.coefficients)) <= 10


def test_before_a_search_it_is_the_uniform_average_of_what_is_kept_and_later_the_mixture_stays():
    net = linear()
    mix = Mixture(net, every=2, keep=3)
    with mix.view():
        assert torch.equal(numbers(net), numbers(linear()))
    history = []
    for step in range(1, 10):
        with torch.no_grad():
            net.weight.fill_(step)
        mix.after_step()
        history.append(numbers(net))
    assert mix.kept == 3
    with mix.view():
        assert net.weight.unique().tolist() == [6.0]  # of steps 4, 6 and 8
    assert torch.equal(mix.ordered()[:, 0], torch.tensor([4.0, 6.0, 8.0], dtype=torch.float64))
    mix.search(lambda: (net.weight - 7).square().sum(), 50)
    for step in range(10, 20):
        with torch.no_grad():
            net.weight.fill_(step)
        mix.after_step()
    with mix.view():
        torch.testing.assert_close(net.weight.detach(), torch.full_like(net.weight, 7.0))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm, self.drop, self.b = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 4)
        self.c = nn.Linear(4, 4)
        self.c.weight = self.b.weight

    def forward(self, x):
        return self.c(torch.tanh(self.b(self.drop(self.norm(self.a(x))))))


def train(net, mix, steps, first=0):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for step in range(first, first + steps):
        torch.manual_seed(step)
        net(torch.randn(8, 3).to(net.a.weight.dtype)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        mix.after_step()


def test_statistics_of_batch_normalization_are_measured_for_the_mixture():
    net, x = Normed(), torch.randn(40, 3)
    mix = Mixture(net, every=1, keep=4)
    train(net, mix, 6)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    metric = lambda: F.mse_loss(net(x), torch.ones(40, 4))  # noqa: E731
    with pytest.raises(sooner.SoonerError, match=r"running statistics, .* give refresh=lambda"):
        mix.search(metric, 30)
    net.eval()
    value = mix.search(metric, 30, refresh=lambda: [net(part) for part in x.split(20)])
    assert not net.training
    assert all(torch.equal(now, kept[name]) for name, now in net.state_dict().items())
    with mix.view():
        assert float(metric().detach()) == pytest.approx(value, rel=1e-5)
        halves = [net.a(part) for part in x.split(20)]
        torch.testing.assert_close(net.norm.running_mean, torch.stack([h.mean(0) for h in halves]).mean(0))
        torch.testing.assert_close(net.norm.running_var, torch.stack([h.var(0) for h in halves]).mean(0))
    assert net.norm.momentum == 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_may_be_moved_cast_wrapped_and_assigned(dtype):
    net = Normed()
    mix = Mixture(torch.compile(net, backend="eager"), every=1, keep=4)
    train(net, mix, 2)
    net.to(dtype)
    net.load_state_dict({name: value.clone() for name, value in net.state_dict().items()}, assign=True)
    net.c.weight = net.b.weight
    train(net, mix, 1, first=2)
    expected = mix.ordered()[:3].mean(0)
    with mix.view():
        assert net.a.weight.dtype == dtype
        tolerance = 1e-6 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(
            net.a.weight.detach().flatten().float(), expected[:12], rtol=tolerance, atol=tolerance
        )
        net.double()
    assert net.a.weight.dtype == torch.float64
    net.a = nn.Linear(3, 5)
    with pytest.raises(sooner.SoonerError, match=r"no a.weight of shape \[4, 3\] any more, .*; make a new Mixture"):
        mix.after_step()


def test_frozen_weights_are_left_and_what_is_frozen_later_still_has_its_gradient():
    net = linear()
    net.bias.requires_grad_(False)
    mix = Mixture(net, every=1, keep=3)
    for value in (1.0, 2.0):
        with torch.no_grad():
            net.weight.fill_(value)
        mix.after_step()
    net.weight.requires_grad_(False)
    bias = net.bias.clone()
    assert mix.search(lambda: (net.weight - 1.25).square().sum(), 30) < 1e-12
    assert not net.weight.requires_grad
    assert torch.equal(net.bias, bias)


@pytest.mark.parametrize("how", ["deepcopy", "mixture first", "pickle", "alone", "state"])
def test_copies_and_states_go_on_alike(how):
    net = Normed()
    mix = Mixture(net, every=1, keep=3)
    train(net, mix, 5)
    x = torch.ones(4, 3)
    search = {"evaluations": 20}
    mix.search(lambda: net(x).square().mean(), refresh=lambda: net(x), **search)
    if how == "deepcopy":
        other, made = copy.deepcopy((net, mix))
    elif how == "mixture first":
        made, other = copy.deepcopy((mix, net))
    elif how == "pickle":
        other, made = pickle.loads(pickle.dumps((net, mix)))
    elif how == "alone":
        other, made = net, copy.deepcopy(mix)
    else:
        other = copy.deepcopy(net)
        made = Mixture(nn.DataParallel(other), every=1, keep=3)
        made.load_state_dict(mix.state_dict())
    assert made.model is other
    before = {name: value.clone() for name, value in net.state_dict().items()}
    train(net, mix, 2, first=5)
    if how == "alone":
        net.load_state_dict(before)
    train(other, made, 2, first=5)
    assert torch.equal(mix.ordered(), made.ordered())
    for one, model in ((mix, net), (made, other)):
        with one.view():
            torch.testing.assert_close(model.state_dict(), before | model.state_dict())
            shown = numbers(model)
        one.found = shown
    assert torch.equal(mix.found, made.found)
    assert mix.coefficients == made.coefficients


def test_what_can_not_work_is_refused():
    net = linear()
    for setting in ({"every": 0}, {"keep": 1}, {"probes": 0}):
        with pytest.raises(sooner.SoonerError, match=f"mixture: {next(iter(setting))}=. is not a whole number in"):
            Mixture(net, **setting)
    with pytest.raises(sooner.SoonerError, match="no parameter of the model requires gradients"):
        Mixture(linear().requires_grad_(False))
    with pytest.raises(sooner.SoonerError, match="on the meta device, and snapshots need whole weights"):
        Mixture(nn.Linear(2, 2, device="meta"))
    mix = Mixture(net, every=1)
    mix.after_step()
    with pytest.raises(sooner.SoonerError, match="there are 1 snapshots so far, and a search needs two"):
        mix.search(lambda: 0.0)
    mix.after_step()
    with pytest.raises(sooner.SoonerError, match=r"method='gradients' \(did you mean 'gradient'\?\)"):
        mix.search(lambda: 0.0, method="gradients")
    with pytest.raises(sooner.SoonerError, match="returns no tensor with a gradient, which method='gradient' needs"):
        mix.search(lambda: 0.0, method="gradient")
    with pytest.raises(sooner.SoonerError, match="not a finite number for any average"):
        mix.search(lambda: float("nan"), 30)
    with mix.view():
        with pytest.raises(sooner.SoonerError, match=r"a step was taken inside view\(\)"):
            mix.after_step()
        with pytest.raises(sooner.SoonerError, match="leave the view to copy it"):
            copy.deepcopy(mix)
    with pytest.raises(sooner.SoonerError, match="this is no state of a Mixture"):
        mix.load_state_dict({"steps": 3})
    with pytest.raises(sooner.SoonerError, match="of another model or another keep"):
        Mixture(nn.Linear(3, 3)).load_state_dict(mix.state_dict())


def test_a_full_disk_is_told_when_it_is_made(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(sooner.SoonerError, match=r"31 x 14 numbers don't fit into .* \(No space left on device\)"):
        Mixture(linear())


def test_in_a_recipe_it_searches_on_held_out_batches_once_for_every_snapshot():
    net = linear(dtype=torch.float32)
    training = Recipe("sgd(lr=0.1) + mixture(every=2, keep=4, probes=2)").build(net, 8, {"held-out loss"})
    (mix,) = training.others
    targets = [torch.full((1, 2), float(i)) for i in range(20)]

    def loss(model, batch):
        return F.mse_loss(model(torch.ones(1, 6)), batch)

    for step in range(8):
        objective = Objective(net, loss, [targets[step]], held_out=lambda step=step: targets[10 + step])
        training.backward(objective)
        training.step(objective)
        training.zero_grad()
        with training.view():
            shown, asked = numbers(net), mix.evaluations
        with training.view():
            assert torch.equal(numbers(net), shown)
        assert mix.evaluations == asked
    assert [float(b[0, 0]) for b in mix._batches] == [15.0, 17.0]
    assert 0 < mix.evaluations < 3 * 50
    with pytest.raises(
        sooner.SoonerError, match="mixture needs held-out loss, which this training loop does not provide"
    ):
        Recipe("sgd + mixture").build(net, 8)
    with pytest.raises(sooner.SoonerError, match="ema and mixture both own the evaluation weights"):
        Recipe("sgd + ema + mixture")


def test_a_run_of_the_loop_resumes_bit_for_bit(tmp_path):

    task = from_file(Path(__file__).parents[1] / "loop" / "tiny_task.py")
    recipe = "sgd(lr=0.1) + mixture(every=1, keep=3, probes=2)"
    straight = sooner.train(task, recipe, 3)

    class Stopped(Exception):
        pass

    def stop(at, value):
        if at > 6:
            raise Stopped

    with pytest.raises(Stopped):
        sooner.train(task, recipe, 3, checkpoint=tmp_path / "a", save_every=6, progress=stop)
    resumed = sooner.train(task, recipe, 3, checkpoint=tmp_path / "a")
    assert resumed.values == straight.values
    assert torch.equal(resumed.losses, straight.losses)
    without = sooner.train(task, "sgd(lr=0.1)", 3)
    assert torch.equal(without.losses, straight.losses)  # it leaves training alone, random numbers too
    assert without.values != straight.values
