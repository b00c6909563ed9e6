"""Optimizers that evaluate the loss themselves: Sophia, normalized logistic descent, gradient-normalized smoothness."""

import copy
import io
import itertools
import pickle

import numpy as np
import pytest
import references_second_order as references
import torch
from torch import nn
from torch.nn import functional as F

import sooner
from sooner.objective import Objective
from sooner.task import from_module
from sooner.update import SGD, GradNormSmooth, NormalizedLogisticGD, SophiaG, SophiaH
from sooner.update._curvature import conjugate_gradient, gauss_newton, hessian
from sooner.workloads import charlm

SOPHIAS = [SophiaG, SophiaH]
ALL = [*SOPHIAS, NormalizedLogisticGD, GradNormSmooth]
every_method = pytest.mark.parametrize("method", ALL, ids=lambda m: m.__name__)


def data(n=24, features=5, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, classes, (n,), generator=generator)


def network(seed=0, *, hidden=False, dtype=torch.float64):
    torch.manual_seed(seed)
    layers = [nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)] if hidden else [nn.Linear(5, 3)]
    return nn.Sequential(*layers).to(dtype)


def cross_entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def train(optimizer, model, steps, first=0, loss=cross_entropy):
    for step in range(first, first + steps):
        batch = data(seed=step)
        batch = batch[0].to(next(model.parameters()).dtype), batch[1]
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step(lambda batch=batch: loss(model, batch))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def saved(optimizer):
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def frequent(method):
    return {"every": 2} if method in SOPHIAS else {}


# what every one of them promises


@every_method
@pytest.mark.parametrize("kind", ["plain", "objective"])
def test_gradients_are_the_same_tensors_with_the_same_bits_afterwards(method, kind):
    model = network(hidden=True)
    optimizer = method(model, **({"every": 1} if method in SOPHIAS else {}))
    for step in range(3):
        batches = [data(seed=step), data(n=7, seed=step + 10)]
        objective = Objective(model, cross_entropy, batches)
        optimizer.zero_grad()
        objective().backward()
        held = [p.grad for p in model.parameters()]
        before = [g.clone() for g in held]

        def rude():
            optimizer.zero_grad()  # as closures of PyTorch's own optimizers do
            return objective()

        optimizer.step(objective if kind == "objective" else rude)
        assert all(p.grad is g for p, g in zip(model.parameters(), held, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(before, held, strict=True))


@every_method
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_go_on_alike_and_apart(method, duplicate):
    model = network(hidden=True)
    optimizer = method(model, **frequent(method))
    train(optimizer, model, 3)
    other, clone = duplicate((model, optimizer))
    train(optimizer, model, 3, first=3)
    assert not same(model, other)
    train(clone, other, 3, first=3)
    assert same(model, other)


@every_method
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_saved_and_loaded_it_goes_on_bit_for_bit(method, dtype):
    model = network(hidden=True, dtype=dtype)
    optimizer = method(model, **frequent(method))
    train(optimizer, model, 3)
    again = copy.deepcopy(model)
    torch.manual_seed(99)
    resumed = method(again, lr=0.5, **frequent(method))
    resumed.load_state_dict(saved(optimizer))
    train(optimizer, model, 3, first=3)
    train(resumed, again, 3, first=3)
    assert same(model, again)
    assert all(p.dtype == dtype for p in again.parameters())
    assert not same(model, network(hidden=True, dtype=dtype))


@every_method
def test_what_is_no_closure_is_named(method):
    model = network()
    optimizer = method(model, **({"every": 1} if method in SOPHIAS else {}))
    name = method.name()
    with pytest.raises(
        sooner.SoonerError, match=rf"{name} needs a closure: optimizer.step\(lambda: loss_of\(batch\)\)"
    ):
        optimizer.step()
    cross_entropy(model, data()).backward()
    for loss, shown in (
        (lambda: 3.0, "a float"),
        (lambda: cross_entropy(model, data()).detach(), "a tensor without its graph"),
        (lambda: model(data()[0]), r"a tensor of shape \(24, 3\)"),
    ):
        with pytest.raises(sooner.SoonerError, match=f"{name}: the closure returned {shown}; return the 0-d loss"):
            optimizer.step(loss)


@pytest.mark.parametrize("method", [SophiaG, NormalizedLogisticGD, GradNormSmooth])
def test_a_loss_without_cross_entropy_is_refused(method):
    model = network()
    optimizer = method(model, **({"every": 1} if method is SophiaG else {}))
    with pytest.raises(sooner.SoonerError, match=f"{method.name()} sees no cross-entropy in the loss"):
        train(optimizer, model, 1, loss=lambda model, batch: model(batch[0]).square().mean())


@every_method
def test_a_parameter_that_the_loss_does_not_reach_stays(method):
    model = nn.ModuleDict({"used": network(), "idle": nn.Linear(2, 2).double()})
    optimizer = method(model.parameters(), **frequent(method))
    before = model["idle"].weight.detach().clone()
    train(optimizer, model, 3, loss=lambda model, batch: cross_entropy(model["used"], batch))
    assert torch.equal(before, model["idle"].weight)
    assert not torch.equal(model["used"][0].weight, network()[0].weight)


@pytest.mark.parametrize(
    ("method", "bad", "sentence"),
    [
        (SophiaG, {"lr": -1.0}, "sophia_g: lr=-1.0"),
        (SophiaG, {"rho": -1}, "sophia_g: rho=-1"),
        (SophiaG, {"betas": 0.9}, "sophia_g: betas=0.9 is not a pair"),
        (SophiaH, {"betas": (0.9, 1.0)}, r"sophia_h: betas\[1\]=1.0"),
        (SophiaH, {"weight_decay": -1}, "sophia_h: weight_decay=-1"),
        (SophiaH, {"eps": -1}, "sophia_h: eps=-1"),
        (SophiaH, {"every": 0}, "sophia_h: every=0 is not a whole number"),
        (NormalizedLogisticGD, {"eps": -1}, "normalized_logistic_gd: eps=-1"),
        (GradNormSmooth, {"gamma": 0}, "grad_norm_smooth: gamma=0"),
        (GradNormSmooth, {"curvature": "hesian"}, r"curvature='hesian' \(did you mean 'hessian'\?\) is not one of"),
        (GradNormSmooth, {"dense_limit": 1.5}, "grad_norm_smooth: dense_limit=1.5"),
        (GradNormSmooth, {"iterations": 0}, "grad_norm_smooth: iterations=0"),
        (GradNormSmooth, {"tolerance": 1.0}, "grad_norm_smooth: tolerance=1.0"),
    ],
)
def test_a_bad_hyper_parameter_is_named(method, bad, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        method(network(), **bad)


# Sophia


def halves(seed):
    """Two micro-batches of different size, with answers that do not count."""
    first, second = data(n=12, seed=seed), data(n=9, seed=seed + 50)
    first[1][:3] = -100
    return [first, second]


def numbers(optimizer, step):
    """What the estimate after this step draws from: a function of the seed and the step, which every state file has."""
    return torch.Generator().manual_seed((optimizer.param_groups[0]["seed"] * 1_000_003 + step) % 2**63)


def test_sophia_g_follows_the_paper_step_by_step():
    model, shadow = network(hidden=True), network(hidden=True)
    hyper = {"lr": 0.01, "betas": (0.9, 0.8), "rho": 0.3, "weight_decay": 0.1}
    optimizer = SophiaG(model, every=3, **hyper)
    memory = [{} for _ in shadow.parameters()]
    params = list(shadow.parameters())
    for step in range(10):
        batch = data(n=20, seed=step)
        batch[1][:4] = -100
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step(lambda batch=batch: cross_entropy(model, batch))
        gradients = torch.autograd.grad(cross_entropy(shadow, batch), params)
        with torch.no_grad():
            references.sophia(params, gradients, memory, step, denominator=lambda h: h + 1e-15, **hyper)
        if step % 3 == 2:
            logits = shadow(batch[0])
            generator = numbers(optimizer, step + 1)
            waits = torch.empty(20, 3).exponential_(generator=generator)
            drawn = (logits.float().exp() / waits).argmax(1)
            counted = batch[1] != -100
            mean = -logits.log_softmax(1)[counted, drawn[counted]].mean()
            found = torch.autograd.grad(mean, params)
            references.refresh(memory, [16 * g * g for g in found], 0.8)
    for p, q, kept in zip(model.parameters(), params, memory, strict=True):
        assert torch.allclose(optimizer.state[p]["hessian"], kept["h"], rtol=1e-12, atol=1e-18)
        assert torch.allclose(p, q, rtol=1e-11, atol=1e-14)


def test_sophia_h_follows_the_paper_step_by_step():
    model, shadow = network(), network()
    hyper = {"lr": 0.01, "betas": (0.9, 0.8), "rho": 0.3, "weight_decay": 0.1}
    optimizer = SophiaH(model, every=2, eps=1e-3, **hyper)
    memory = [{} for _ in shadow.parameters()]
    params = list(shadow.parameters())
    for step in range(8):
        objective = Objective(model, cross_entropy, halves(step))
        optimizer.zero_grad()
        objective().backward()
        optimizer.step(objective)

        def loss(weight, bias, step=step):
            return sum(F.cross_entropy(x @ weight.T + bias, y) for x, y in halves(step)) / 2

        gradients = torch.autograd.grad(loss(*params), params)
        with torch.no_grad():
            references.sophia(params, gradients, memory, step, denominator=lambda h: h.clamp(min=1e-3), **hyper)
        if step % 2 == 1:
            generator = numbers(optimizer, step + 1)
            signs = [torch.randint(0, 2, p.shape, generator=generator) * 2.0 - 1 for p in params]
            blocks = torch.autograd.functional.hessian(loss, tuple(p.detach() for p in params))
            products = [
                sum(torch.tensordot(block, u.double(), u.ndim) for block, u in zip(row, signs, strict=True))
                for row in blocks
            ]
            references.refresh(memory, [u * product for u, product in zip(signs, products, strict=True)], 0.8)
    assert all(torch.allclose(p, q, rtol=1e-11, atol=1e-14) for p, q in zip(model.parameters(), params, strict=True))


OPTIONS = {
    "mean, some ignored": (
        lambda z, y: F.cross_entropy(z, y, ignore_index=1),
        lambda y: (y != 1) / (y != 1).sum(),
    ),
    "sum over n": (lambda z, y: F.cross_entropy(z, y, reduction="sum") / len(y), lambda y: torch.full((30,), 1 / 30)),
    "masked by hand": (
        lambda z, y: (F.cross_entropy(z, y, reduction="none") * (y > 0)).sum() / (y > 0).sum(),
        lambda y: (y > 0) / (y > 0).sum(),
    ),
    "class weights": (
        lambda z, y: F.cross_entropy(z, y, weight=torch.tensor([1.0, 2.0, 5.0]).double()),
        lambda y: torch.tensor([1.0, 2.0, 5.0])[y] / torch.tensor([1.0, 2.0, 5.0])[y].sum(),
    ),
    "smoothed": (lambda z, y: F.cross_entropy(z, y, label_smoothing=0.3), lambda y: torch.full((30,), 1 / 30)),
    "soft targets": (
        lambda z, y: F.cross_entropy(z, F.one_hot(y, 3) * 0.5 + 0.5 / 3),
        lambda y: torch.full((30,), 1 / 30),
    ),
    "two terms": (
        lambda z, y: F.cross_entropy(z, y) + 0.5 * F.cross_entropy(z[:10], y[:10]),
        lambda y: 1 / 30 + 0.05 * (torch.arange(30) < 10),
    ),
    "pixels": (
        lambda z, y: F.cross_entropy(z.view(6, 5, 3).transpose(1, 2), y.view(6, 5)),
        lambda y: torch.full((30,), 1 / 30),
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_estimate_of_sophia_g_is_unbiased_however_the_loss_counts(name):
    loss, shares = OPTIONS[name]
    x, y = data(n=30)
    model = network()
    params = list(model.parameters())
    optimizer = SophiaG(model)
    found = [optimizer.estimate(lambda: loss(model(x), y), params) for _ in range(800)]
    exact = references.gauss_newton_diagonal(x, model[0].weight.detach(), model[0].bias.detach(), shares(y).double())
    for i, expected in enumerate(exact):
        draws = torch.stack([one[i] for one in found])
        error = draws.std(0) / len(found) ** 0.5
        assert ((draws.mean(0) - expected).abs() < 5 * error).all()
        assert (error < 0.1 * expected).all()
    # and the same weights make Gauss-Newton products exact: logits are linear here, so it is the Hessian
    assert torch.allclose(
        gauss_newton("x", lambda: loss(model(x), y), params).matrix(),
        hessian("x", lambda: loss(model(x), y), params).matrix(),
        atol=1e-15,
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"reduction": "sum"},
        {"pos_weight": torch.tensor(3.0).double()},
        {"weight": torch.linspace(0, 1, 24).double()},
    ],
)
def test_binary_answers_count_as_two_classes(more):
    x, y = data(classes=2)
    model = nn.Linear(5, 1).double()
    params = list(model.parameters())

    def loss():
        return F.binary_cross_entropy_with_logits(model(x)[:, 0], y.double(), **more)

    exact = hessian("x", loss, params).matrix()
    assert torch.allclose(gauss_newton("x", loss, params).matrix(), exact, rtol=1e-12, atol=1e-14)
    optimizer = SophiaG(params)
    draws = torch.stack([torch.cat([h.flatten() for h in optimizer.estimate(loss, params)]) for _ in range(800)])
    assert torch.allclose(draws.mean(0), exact.diagonal(), rtol=0.25)


def test_micro_batches_are_averaged_before_squaring():
    model = network()
    params = list(model.parameters())
    x, y = data(n=30)
    parts = [(x[:10], y[:10]), (x[10:20], y[10:20]), (x[20:], y[20:])]
    optimizer = SophiaG(model)
    found = [optimizer.estimate(Objective(model, cross_entropy, parts), params)[0] for _ in range(800)]
    shares = torch.full((30,), 1 / 30).double()
    exact = references.gauss_newton_diagonal(x, model[0].weight.detach(), model[0].bias.detach(), shares)[0]
    assert torch.allclose(torch.stack(found).mean(0), exact, rtol=0.2)


def bowl(curvatures, start=1.0):
    point = nn.Parameter(torch.full((len(curvatures),), start, dtype=torch.float64))
    return point, lambda: (curvatures * point.square()).sum() / 2


def test_the_estimate_of_sophia_h_is_exact_for_a_diagonal_quadratic():
    curvatures = torch.logspace(0, 4, 30, dtype=torch.float64)
    curvatures[::5] *= -1
    point, loss = bowl(curvatures)
    assert torch.equal(SophiaH([point]).estimate(loss, [point])[0], curvatures)
    up = SophiaH([point], maximize=True)
    assert torch.equal(up.estimate(loss, [point])[0], -curvatures)


def test_a_linear_loss_has_no_curvature():
    point = nn.Parameter(torch.ones(3))
    optimizer = SophiaH([point], every=1)
    point.grad = torch.ones(3)
    optimizer.step(lambda: point.sum())
    assert torch.equal(optimizer.state[point]["hessian"], torch.zeros(3))


def test_the_number_of_steps_does_not_depend_on_the_condition_number():
    def steps(method, condition, lr, **hyper):
        curvatures = torch.logspace(0, condition, 20, dtype=torch.float64)
        point, loss = bowl(curvatures)
        optimizer = method([point], lr=lr, **hyper)
        start = loss().item()
        for step in range(2000):
            if loss() < 1e-3 * start:
                return step
            optimizer.zero_grad()
            loss().backward()
            optimizer.step(loss)
        return step

    sophia = {
        "lr": 0.05,
        "rho": 2.0,
        "betas": (0.5, 0.5),
        "every": 1,
        "weight_decay": 0.0,
    }  # never clipped but at first
    counts = [steps(SophiaH, condition, **sophia) for condition in (0, 2, 4)]
    assert min(counts) > 20
    assert max(counts) <= 1.1 * min(counts)
    descent = [steps(SGD, condition, lr=1.5 / 10**condition, momentum=0.0) for condition in (0, 2)]
    assert descent[1] > 10 * descent[0]


def test_before_the_first_estimate_every_coordinate_moves_by_the_learning_rate():
    model = network()
    optimizer = SophiaG(model, lr=0.01, weight_decay=0.0, every=10)
    start = copy.deepcopy(model)
    train(optimizer, model, 1)
    for p, q in zip(model.parameters(), start.parameters(), strict=True):
        assert torch.allclose((p - q).abs(), torch.full_like(p, 0.01))
    assert optimizer.win_rate == 0
    train(optimizer, model, 8, first=1)
    assert all(not optimizer.state[p]["hessian"].any() for p in model.parameters())
    train(optimizer, model, 1, first=9)
    assert all((optimizer.state[p]["hessian"] > 0).all() for p in model.parameters())
    filled = [optimizer.state[p]["hessian"].clone() for p in model.parameters()]
    train(optimizer, model, 5, first=10)  # not decayed between estimates
    kept = [optimizer.state[p]["hessian"] for p in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(filled, kept, strict=True))


def test_win_rate_rises_with_rho():
    rates = []
    for rho in (1e-3, 1.0, 1e3):
        model = network()
        optimizer = SophiaG(model, rho=rho, every=1)
        assert optimizer.win_rate == 0
        train(optimizer, model, 3)
        rates.append(optimizer.win_rate.item())
    assert rates[0] < rates[1] < rates[2] == 1


def test_no_true_label_enters_the_estimate():
    model = network()
    params = list(model.parameters())
    x, y = data()
    a, b = SophiaG(model), SophiaG(model)
    first = a.estimate(lambda: F.cross_entropy(model(x), y), params)
    second = b.estimate(lambda: F.cross_entropy(model(x), (y + 1) % 3), params)
    assert all(torch.equal(f, s) for f, s in zip(first, second, strict=True))


@pytest.mark.parametrize("method", SOPHIAS)
def test_it_takes_part_of_a_model_with_attention(method):
    task = from_module(charlm, "charlm")
    run = sooner.train(task, f"{method.name()}(on='blocks*', every=2) + sgd(on='rest')", steps=3)
    assert run.diverged_at is None
    assert torch.isfinite(run.losses).all()


@pytest.mark.parametrize("method", SOPHIAS)
def test_a_step_that_is_skipped_estimates_nothing(method):
    model = network()
    optimizer = method(model, every=1, non_finite="skip")
    before = copy.deepcopy(model)
    train(optimizer, model, 1, loss=lambda model, batch: cross_entropy(model, batch) * float("nan"))
    assert same(model, before)
    assert (optimizer.non_finite_steps, optimizer.steps_taken) == (1, 0)
    train(optimizer, model, 1)
    assert optimizer.steps_taken == 1


def test_the_state_of_another_method_is_refused():
    model = network()
    optimizer = SophiaG(model, every=1)
    train(optimizer, model, 2)
    content = optimizer.state_dict()
    del content["param_groups"][0]["steps_taken"]
    with pytest.raises(sooner.SoonerError, match="sophia_g: the state holds no 'steps_taken'; it was saved by another"):
        optimizer.load_state_dict(content)


def test_files_of_older_versions_load():
    model = network()
    optimizer = SophiaG(model, every=2)
    train(optimizer, model, 5)
    former = optimizer.state_dict()
    for group in former["param_groups"]:
        del group["steps_taken"], group["seed"]
    former["curvature"] = {"steps_taken": 5, "generator": torch.Generator().manual_seed(3).get_state()}
    before = copy.deepcopy(former)
    weights, runs = copy.deepcopy(model.state_dict()), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        again = network()
        again.load_state_dict(weights)
        resumed = SophiaG(again, every=2)
        resumed.load_state_dict(former)
        assert resumed.steps_taken == 5
        assert all(
            torch.equal(resumed.state[p]["hessian"], optimizer.state[q]["hessian"])
            for p, q in zip(again.parameters(), model.parameters(), strict=True)
        )
        train(resumed, again, 4, first=5)
        runs.append(again)
    assert same(*runs)
    assert former["curvature"].keys() == before["curvature"].keys()


# normalized logistic gradient descent


def worst_case(n):
    points, labels = np.full((n, 2), [-0.5, -1.0]), -np.ones(n)
    points[0, 0], labels[0] = 0.5, 1.0
    return points, labels


def iterations(make, points, labels, loss):
    x, y = torch.from_numpy(points), torch.from_numpy(labels)
    theta = nn.Parameter(torch.zeros(x.shape[1], dtype=torch.float64))
    optimizer = make([theta])
    for t in range(2000):
        if bool((y * (x @ theta) > 0).all()):
            return t
        optimizer.zero_grad()
        loss(x @ theta, y).backward()
        optimizer.step(lambda: loss(x @ theta, y))
    return t


def binary(logits, labels):
    return F.binary_cross_entropy_with_logits(logits, (labels + 1) / 2)


def two_classes(logits, labels):
    return F.cross_entropy(torch.stack([-logits / 2, logits / 2], 1), (labels > 0).long())


@pytest.mark.parametrize("loss", [binary, two_classes])
@pytest.mark.parametrize(("n", "plain", "normalized"), [(1000, 308, [157, 16, 2, 2]), (5000, 1540, [189, 19, 2, 2])])
def test_the_worst_case_of_the_paper_is_reproduced_exactly(loss, n, plain, normalized):
    rates = [0.1, 1.0, 10.0, 100.0]
    points, labels = worst_case(n)
    found = [iterations(lambda p, lr=lr: NormalizedLogisticGD(p, lr=lr), points, labels, loss) for lr in rates]
    assert found == normalized
    assert [references.normalized_logistic_gd(points, labels, lr) for lr in rates] == normalized
    assert references.plain_logistic_gd(points, labels, 100.0) == plain
    if n == 1000:
        descent = iterations(lambda p: torch.optim.SGD(p, lr=100.0), points, labels, loss)
        assert descent == plain


def test_beta_is_the_inverse_of_the_mean_probability_of_being_wrong():
    model = network()
    optimizer = NormalizedLogisticGD(model)
    assert optimizer.beta == 1
    parts = halves(0)
    objective = Objective(model, cross_entropy, parts)
    objective().backward()
    with torch.no_grad():
        wrong = []
        for x, y in parts:
            p = model(x).softmax(1)
            counted = y >= 0
            wrong.append(1 - p[counted, y[counted]].mean())
    start = copy.deepcopy(model)
    optimizer.step(objective)
    assert torch.allclose(optimizer.beta, 2 / sum(wrong))
    for p, q in zip(model.parameters(), start.parameters(), strict=True):
        assert torch.allclose(p, q - 0.1 * optimizer.beta * p.grad)


def test_beta_stays_exact_where_probabilities_round_to_one():
    z = nn.Parameter(torch.tensor([[40.0, 0.0, 0.0]]))
    optimizer = NormalizedLogisticGD([z], lr=1.0, eps=0.0)

    def loss():
        return F.cross_entropy(z, torch.tensor([0]))

    loss().backward()
    optimizer.step(loss)
    assert 1 / optimizer.beta.item() == pytest.approx(2 * np.exp(-40.0), rel=1e-5)
    floored = NormalizedLogisticGD([nn.Parameter(z.detach())], eps=1e-3)
    floored.step(lambda: F.cross_entropy(floored.param_groups[0]["params"][0], torch.tensor([0])))
    assert floored.beta.item() == pytest.approx(1e3)


def test_on_rare_digits_it_needs_the_right_learning_rate_less_than_plain_descent_does():
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    chosen = np.r_[np.flatnonzero(digits == 3), np.flatnonzero(digits == 5)[:9]]  # 95 : 5
    points, labels = np.c_[images[chosen] / 16, np.ones(len(chosen))], np.where(digits[chosen] == 5, 1.0, -1.0)
    rates = (0.1, 1.0, 10.0, 100.0)
    plain = [references.plain_logistic_gd(points, labels, lr) for lr in rates]
    found = [iterations(lambda p, lr=lr: NormalizedLogisticGD(p, lr=lr), points, labels, binary) for lr in rates]
    assert found == [references.normalized_logistic_gd(points, labels, lr) for lr in rates]
    assert max(found) < 0.05 * max(plain)
    assert min(found) < 0.8 * min(plain)


# gradient-normalized smoothness


def logistic(n=40, seed=0):
    x, y = data(n=n, classes=2, seed=seed)
    a = (x * torch.tensor([1.0, 3.0, 0.1, 1.0, 10.0])).numpy()
    s = 2.0 * y.numpy() - 1

    def value(w):
        return np.logaddexp(0, -s * (a @ w)).mean() + 0.005 * w @ w

    def gradient(w):
        return -(a.T @ (s / (1 + np.exp(s * (a @ w))))) / n + 0.01 * w

    def exact(w):
        p = 1 / (1 + np.exp(a @ w))
        return (a.T * (p * (1 - p))) @ a / n + 0.01 * np.eye(5)

    w = nn.Parameter(torch.zeros(5, dtype=torch.float64))

    def loss():
        targets = torch.from_numpy((s + 1) / 2)
        return F.binary_cross_entropy_with_logits(torch.from_numpy(a) @ w, targets) + 0.005 * w.square().sum()

    return w, loss, (value, gradient, exact), lambda w: exact(w) - 0.01 * np.eye(5)


@pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("dense_limit", [2000, 0])
@pytest.mark.parametrize("gamma", [1.0, 1e3, 1e-4])
def test_it_follows_the_paper_step_by_step(curvature, dense_limit, gamma):
    w, loss, (value, gradient, exact), without_penalty = logistic()
    optimizer = GradNormSmooth([w], gamma, curvature=curvature, dense_limit=dense_limit, tolerance=1e-13)
    x, radius, trials, steps = np.zeros(5), gamma, 0, 0
    while np.linalg.norm(gradient(x)) > 1e-6:
        before = loss().item()
        assert optimizer.step(loss).item() == pytest.approx(before)
        x, radius, more = references.grad_norm_smooth(
            value, gradient, exact if curvature == "hessian" else without_penalty, x, radius
        )
        trials += more
        assert not optimizer.stuck
        assert np.allclose(w.detach().numpy(), x, rtol=1e-8, atol=1e-10)
        assert optimizer.param_groups[0]["gamma"] == radius
        steps += 1
    assert 3 < steps < 40
    assert gamma != 1e3 or trials > steps  # some trials failed


def test_it_solves_in_a_few_steps_what_gradient_descent_does_not_in_many():
    w, loss, *_ = logistic()
    optimizer = GradNormSmooth([w])
    values = [optimizer.step(loss).item() for _ in range(30)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))
    loss().backward()
    assert w.grad.norm() < 1e-9
    sizes = []
    for lr in (0.01, 0.1):  # the largest curvature is about 25
        v, other, *_ = logistic()
        descent = torch.optim.SGD([v], lr=lr)
        for _ in range(600):
            descent.zero_grad()
            other().backward()
            descent.step()
        sizes.append(v.grad.norm().item())
    assert min(sizes) > 1e-6


@pytest.mark.parametrize("hidden", [False, True])
def test_its_curvature_is_the_matrix_of_the_textbook(hidden):
    model = network(hidden=hidden)
    params = list(model.parameters())
    names = [name for name, _ in model.named_parameters()]
    x, y = data()

    def logits(*values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x,))

    jacobians = torch.autograd.functional.jacobian(logits, tuple(p.detach() for p in params))
    jacobian = torch.cat([j.reshape(24, 3, -1) for j in jacobians], 2)
    p = references.softmax(model(x).detach())
    middle = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    textbook = torch.einsum("nad,nab,nbe->de", jacobian, middle, jacobian) / 24
    found = gauss_newton("x", lambda: F.cross_entropy(model(x), y), params)
    assert torch.allclose(found.matrix(), textbook, atol=1e-15)
    vector = torch.randn(len(textbook), dtype=torch.float64)
    assert torch.allclose(found.product(vector, False), textbook @ vector, atol=1e-14)

    blocks = torch.autograd.functional.hessian(
        lambda *values: F.cross_entropy(logits(*values), y), tuple(p.detach() for p in params)
    )
    sizes = [p.numel() for p in params]
    whole = torch.cat(
        [
            torch.cat([b.reshape(m, n) for b, n in zip(row, sizes, strict=True)], 1)
            for row, m in zip(blocks, sizes, strict=True)
        ]
    )
    assert torch.allclose(hessian("x", lambda: F.cross_entropy(model(x), y), params).matrix(), whole, atol=1e-14)


def test_conjugate_gradients_solve_and_notice_a_matrix_that_is_not_positive():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    right = torch.randn(8, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(8)
    x = conjugate_gradient(lambda v: matrix @ v, right, 100, 1e-12)
    assert torch.allclose(matrix @ x, right)
    assert conjugate_gradient(lambda v: -matrix @ v, right, 100, 1e-12) is None
    one = conjugate_gradient(lambda v: matrix @ v, right, 1, 1e-12)
    assert torch.allclose(one, right * (right @ right) / (right @ matrix @ right))


@pytest.mark.parametrize("dense_limit", [2000, 0])
def test_where_the_hessian_is_not_positive_the_damping_grows_until_it_is(dense_limit):
    point = nn.Parameter(torch.tensor([0.1, 2.0], dtype=torch.float64))
    weights = torch.tensor([-1.0, 1.0], dtype=torch.float64)

    def saddle():
        return (weights * point.square()).sum() + point[0] ** 4

    optimizer = GradNormSmooth([point], 1e6, curvature="hessian", dense_limit=dense_limit)
    values = [optimizer.step(saddle).item() for _ in range(40)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))
    assert point[0].item() == pytest.approx(0.5**0.5, rel=1e-6)
    assert abs(point[1].item()) < 1e-6


@pytest.mark.parametrize("dense_limit", [2000, 0])
def test_where_all_trials_fail_nothing_moves_and_it_says_so(dense_limit):
    w, loss, *_ = logistic()
    optimizer = GradNormSmooth([w], dense_limit=dense_limit)
    optimizer.step(loss)
    calls = []

    def noisy():  # as a fresh mini-batch at every call may be
        calls.append(1)
        return loss() + len(calls)

    before, gamma = w.detach().clone(), optimizer.param_groups[0]["gamma"]
    optimizer.step(noisy)
    assert optimizer.stuck
    assert len(calls) > 40
    assert torch.equal(before, w)
    assert optimizer.param_groups[0]["gamma"] == gamma
    optimizer.step(loss)
    assert not optimizer.stuck
    assert not torch.equal(before, w)


def test_at_a_stationary_point_it_rests_without_being_stuck():
    point, loss = bowl(torch.ones(3, dtype=torch.float64), start=0.0)
    optimizer = GradNormSmooth([point], curvature="hessian")
    optimizer.step(loss)
    assert not optimizer.stuck
    assert not point.any()


def test_micro_batches_make_one_loss():
    parts, whole = network(hidden=True), network(hidden=True)
    x, y = data(n=30)
    a, b = GradNormSmooth(parts), GradNormSmooth([{"params": [p]} for p in whole.parameters()])
    for _ in range(4):
        a.step(Objective(parts, cross_entropy, [(x[:15], y[:15]), (x[15:], y[15:])]))
        b.step(lambda: cross_entropy(whole, (x, y)))
    assert all(torch.allclose(p, q, rtol=1e-9) for p, q in zip(parts.parameters(), whole.parameters(), strict=True))
    assert len({group["gamma"] for group in b.param_groups}) == 1
    assert a.param_groups[0]["gamma"] == b.param_groups[0]["gamma"]
