"""Schedule-Free rules: the average that is evaluated, its weights, and what a recipe makes of both."""

import copy
import logging
import pickle

import pytest
import references
import torch
from torch import nn

import sooner
from sooner.cluster import train_cluster
from sooner.error import SoonerError
from sooner.execute import using
from sooner.recipe import Recipe
from sooner.update import AdamW, ScheduleFreeAdamW, ScheduleFreeSGD, _schedule_free

METHODS = [
    (ScheduleFreeAdamW, references.schedule_free_adamw, {"lr": 0.02, "weight_decay": 0.2, "warmup": 3}),
    (ScheduleFreeSGD, references.schedule_free_sgd, {"lr": 0.1, "beta": 0.8}),
]
both = pytest.mark.parametrize(("method", "reference", "settings"), METHODS, ids=["adamw", "sgd"])


def parameters(dtype=torch.float64, shapes=((3, 4), (4,), ())):
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]


def give(params, step):
    generator = torch.Generator().manual_seed(step)
    for p in params:
        p.grad = (p.detach() + torch.randn(p.shape, generator=generator, dtype=torch.float64)).to(p.dtype)


def values(params):
    return [p.detach().clone() for p in params]


def shown(optimizer, params, **given):
    with optimizer.view(**given):
        return values(params)


def close(a, b, **tolerance):
    return all(torch.allclose(x.double(), y.double(), **tolerance) for x, y in zip(a, b, strict=True))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def train(optimizer, params, steps, first=1):
    for step in range(first, first + steps):
        give(params, step)
        optimizer.step()


@torch.no_grad()
def follow(reference, shadow, memory, step, start=0, **settings):
    give(shadow, step)
    reference(shadow, [p.grad for p in shadow], memory, step - start, **settings)


@pytest.mark.parametrize("executor", ["eager", "native"])
@both
def test_the_view_shows_the_average_and_gives_the_weights_back(executor, method, reference, settings):
    params, shadow = parameters(), parameters()
    optimizer, memory = method(params, **settings), [{} for _ in shadow]
    assert same(shown(optimizer, params), values(params))  # before the first step
    for step in range(1, 13):
        with using(executor):
            train(optimizer, params, 1, step)
        follow(reference, shadow, memory, step, **settings)
        before = values(params)
        assert close(shown(optimizer, params), [kept["x"] for kept in memory], rtol=1e-12, atol=1e-12)
        assert same(values(params), before)


def test_two_steps_by_hand():
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = ScheduleFreeSGD([p], lr=1.0, beta=0.5)
    p.grad = torch.full_like(p, 2.0)
    optimizer.step()  # z = x = -2
    assert p.item() == -2.0
    p.grad = torch.full_like(p, -4.0)
    optimizer.step()  # z = 2, x = half of -2 and 2 = 0, y half of both
    assert p.item() == 1.0
    assert shown(optimizer, [p])[0].item() == 0.0


def test_steps_at_higher_rates_count_for_more_and_at_lower_ones_as_much():
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = ScheduleFreeSGD([p], lr=1.0, beta=0.0)
    z, iterates, weights = 0.0, [], []
    for step, rate in enumerate([0.0, 1.0, 0.5, 3.0, 0.1, 3.0], 1):
        optimizer.param_groups[0]["lr"] = rate
        p.grad = torch.full_like(p, float(step))
        optimizer.step()
        z -= rate * step
        iterates.append(z)
        weights.append(max([rate, *(w**0.5 for w in weights)]) ** 2)
        average = sum(w * z for w, z in zip(weights, iterates, strict=True)) / (sum(weights) or 1.0)
        assert shown(optimizer, [p])[0].item() == pytest.approx(average)
        assert p.item() == pytest.approx(z)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.7, 1e-3])
def test_at_a_constant_rate_all_steps_count_alike(dtype, rate):
    params = parameters(dtype)
    optimizer = ScheduleFreeSGD(params, lr=rate)
    train(optimizer, params, 9)
    assert all(optimizer.state[p]["averaged"].item() == 9.0 for p in params)


@both
def test_another_beta_moves_neither_the_iterate_nor_the_average(method, reference, settings):
    params, shadow = parameters(), parameters()
    optimizer, memory = method(params, **settings), [{} for _ in shadow]
    for step in range(1, 9):
        if step == 5:
            average = shown(optimizer, params)
            for group in optimizer.param_groups:
                group.update({"betas": (0.3, 0.999)} if "betas" in group else {"beta": 0.3})
            settings = {**settings, **({"betas": (0.3, 0.999)} if method is ScheduleFreeAdamW else {"beta": 0.3})}
            assert close(shown(optimizer, params), average, rtol=0, atol=0)
        train(optimizer, params, 1, step)
        follow(reference, shadow, memory, step, **settings)
    assert close(params, shadow, rtol=1e-12, atol=1e-12)


@both
def test_a_parameter_that_comes_later_has_an_average_of_its_own(method, reference, settings):
    params, shadow = parameters(), parameters()
    optimizer, memory = method(params, **settings), [{} for _ in shadow]
    for step in range(1, 13):
        give(params, step)
        if step <= 6:
            params[0].grad = None
        optimizer.step()
        give(shadow, step)
        with torch.no_grad():
            reference(shadow[1:], [p.grad for p in shadow[1:]], memory[1:], step, **settings)
            if step > 6:
                reference(shadow[:1], [shadow[0].grad], memory[:1], step - 6, **settings)
    assert close(params, shadow, rtol=1e-11, atol=1e-11)
    assert close(shown(optimizer, params), [kept["x"] for kept in memory], rtol=1e-11, atol=1e-11)


def test_groups_have_their_own_rates_and_betas():
    params, shadow = parameters(), parameters()
    groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.3, "beta": 0.5, "warmup": 4}]
    optimizer, memory = ScheduleFreeSGD(groups, lr=0.1), [{} for _ in shadow]
    for step in range(1, 8):
        train(optimizer, params, 1, step)
        give(shadow, step)
        grads = [p.grad for p in shadow]
        with torch.no_grad():
            references.schedule_free_sgd(shadow[:1], grads[:1], memory[:1], step, lr=0.1)
            references.schedule_free_sgd(shadow[1:], grads[1:], memory[1:], step, lr=0.3, beta=0.5, warmup=4)
    assert close(params, shadow, rtol=1e-12, atol=1e-12)
    assert close(shown(optimizer, params), [kept["x"] for kept in memory], rtol=1e-12, atol=1e-12)


def test_half_precision_is_averaged_from_the_master_weights():
    params, wide = parameters(torch.bfloat16), parameters(torch.bfloat16)
    wide = [nn.Parameter(p.detach().float()) for p in wide]
    optimizer, exact = ScheduleFreeSGD(params, lr=1e-3, master_weights=True), ScheduleFreeSGD(wide, lr=1e-3)
    for step in range(1, 9):
        give(params, step)
        for p, q in zip(params, wide, strict=True):
            q.grad = p.grad.float()
        optimizer.step()
        exact.step()
    expected = [x.bfloat16() for x in shown(exact, wide)]
    assert same(shown(optimizer, params), expected)


# the view


@both
def test_what_would_go_on_from_the_average_is_refused_inside_the_view(method, reference, settings):
    params = parameters()
    optimizer = method(params, **settings)
    train(optimizer, params, 3)
    before, saved = values(params), copy.deepcopy(optimizer.state_dict())
    with optimizer.view():
        for act, word in ((optimizer.step, "step"), (optimizer.state_dict, "checkpoint")):
            with pytest.raises(SoonerError, match=f"a {word} .*inside view()"):
                act()
        with pytest.raises(SoonerError, match=r"loading a state inside view\(\)"):
            optimizer.load_state_dict(saved)
        with pytest.raises(SoonerError, match=r"a step inside view\(\)"):
            optimizer.one_by_one()
        for copied in (copy.deepcopy, pickle.dumps):
            with pytest.raises(SoonerError, match=r"a copy inside view\(\)"):
                copied(optimizer)
    assert same(values(params), before)
    twin = copy.deepcopy(optimizer)
    assert twin.state_dict()["state"].keys() == optimizer.state_dict()["state"].keys()


def test_views_may_lie_in_each_other_and_end_by_an_exception():
    params = parameters()
    optimizer = ScheduleFreeSGD(params, lr=0.1)
    train(optimizer, params, 3)
    before, average = values(params), shown(optimizer, params)
    with optimizer.view(), optimizer.view():
        assert same(values(params), average)
        params[0].data.zero_()
    assert same(values(params), before)
    with pytest.raises(KeyboardInterrupt), optimizer.view():
        raise KeyboardInterrupt
    assert same(values(params), before)
    train(optimizer, params, 1, 4)


def test_a_model_that_is_cast_inside_the_view_gets_its_weights_back():
    net = nn.Linear(3, 2)
    optimizer = ScheduleFreeSGD(net, lr=0.1)
    train(optimizer, list(net.parameters()), 3)
    before = values(net.parameters())
    with optimizer.view():
        net.bfloat16()
        net.float()
    assert same(values(net.parameters()), before)


def test_training_goes_on_after_a_view_in_inference_mode():
    net = nn.Linear(3, 2)
    optimizer = ScheduleFreeSGD(net, lr=0.1)
    train(optimizer, list(net.parameters()), 3)
    average = shown(optimizer, list(net.parameters()))
    before = values(net.parameters())
    with torch.inference_mode(), optimizer.view():
        assert same(values(net.parameters()), average)
    assert same(values(net.parameters()), before)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()


def test_sharded_parameters_need_their_model(monkeypatch):
    params = parameters()
    optimizer = ScheduleFreeSGD(params, lr=0.1)
    train(optimizer, params, 1)
    monkeypatch.setattr(_schedule_free, "is_sharded", lambda p: True)
    with pytest.raises(SoonerError, match=r"make the optimizer of the model itself, or call view\(model\)"):
        shown(optimizer, params)
    assert len(shown(optimizer, params, model=nn.ParameterList(params))) == len(params)


def test_a_weight_that_was_resized_is_named():
    net = nn.Linear(3, 2)
    optimizer = ScheduleFreeSGD(net.named_parameters(), lr=0.1)
    train(optimizer, list(net.parameters()), 1)
    net.bias.data = torch.zeros(5)
    with pytest.raises(SoonerError, match=r"'bias' has the shape \(5,\) now and its state \(2,\)"), optimizer.view():
        pass


def test_running_statistics_are_told_of_once(caplog, monkeypatch):
    monkeypatch.setattr(_schedule_free, "_told", set())
    plain, normal = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with caplog.at_level(logging.WARNING):
        ScheduleFreeSGD(plain)
        ScheduleFreeSGD(normal.parameters())  # which are these of?
        assert not caplog.records
        ScheduleFreeSGD(normal)
        ScheduleFreeSGD(normal)
        ScheduleFreeAdamW(normal.parameters(), model=normal)
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in said] == ["schedule_free_sgd", "schedule_free_adamw"]
    assert all("update_bn" in line for line in said)


# recipes


def net_of(recipe, steps=20):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    return net, Recipe(recipe).build(net, steps)


def advance(net, training, steps, first=0):
    for step in range(first, first + steps):
        torch.manual_seed(1000 + step)
        net(torch.randn(4, 3)).square().sum().backward()
        training.step()
        training.zero_grad()


def test_a_training_evaluates_and_exports_the_average():
    net, training = net_of("schedule_free_adamw(lr=0.05)")
    advance(net, training, 4)
    before, average = values(net.parameters()), shown(training.optimizers[0], list(net.parameters()))
    assert not same(before, average)
    with training.view() as model:
        assert same(values(model.parameters()), average)
    assert same(values(training.export().parameters()), average)
    assert same(values(net.parameters()), before)
    assert training.shows_others
    assert not net_of("adamw")[1].shows_others


def test_others_show_theirs_beside_it():
    net, training = net_of("schedule_free_sgd(lr=0.1, on='0.*') + schedule_free_adamw(on='1.*')")
    advance(net, training, 3)
    first, second = training.optimizers
    average = shown(first, list(net[0].parameters())) + shown(second, list(net[1].parameters()))
    with training.view():
        assert same(values(net.parameters()), average)
    net, training = net_of("schedule_free_sgd(lr=0.1, on='0.*') + adamw(on='rest')")
    advance(net, training, 3)
    plain = values(net[1].parameters())
    with training.view():
        assert same(values(net[1].parameters()), plain)


@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        ("schedule_free_adamw + cosine", "schedule_free_adamw and cosine both own the learning rate"),
        ("schedule_free_sgd + ema", "schedule_free_sgd and ema both own the evaluation weights"),
        ("schedule_free_adamw + torch.optim.lr_scheduler.ExponentialLR(gamma=0.9)", "both own the learning rate"),
    ],
)
def test_a_schedule_and_a_second_average_are_refused(recipe, what):
    with pytest.raises(SoonerError, match=what):
        net_of(recipe)


def test_cautious_steps_are_refused():
    with pytest.raises(SoonerError, match="schedule_free_adamw: cautious=True"):
        ScheduleFreeAdamW(parameters(), cautious=True)


def quadratic_task():
    """Noisy descent to zero, with the same start and the same noise for everybody."""

    def model(seed):
        torch.manual_seed(0)
        return nn.Linear(6, 1, bias=False)

    def batches(seed, split):
        generator = torch.Generator().manual_seed(int(split == "eval"))
        return [torch.randn(6, generator=generator) for _ in range(8 if split == "train" else 1)]

    def loss(model, batch):
        return (model.weight[0] - batch * model.training).square().sum()

    return sooner.Task(model=model, batches=batches, loss=loss, steps=8, name="quadratic")


def measured_at_the_average(run):
    """Whether the run was: its last value, and that of the weights in training."""
    task = quadratic_task()
    z, x, y = (task.model(0).weight.detach()[0] for _ in range(3))
    for step, batch in enumerate(task.batches(0, "train"), 1):
        z = z - 0.2 * 2 * (y - batch)
        x = x + (z - x) / step
        y = 0.1 * z + 0.9 * x
    average, trained = (one.square().sum().item() for one in (x, y))
    assert average != pytest.approx(trained, rel=1e-3)
    return run.values[-1] == pytest.approx(average, rel=1e-5)


def test_a_run_is_measured_at_the_average():
    run = sooner.train(quadratic_task(), "schedule_free_sgd(lr=0.2)", steps=8, seed=0)
    assert measured_at_the_average(run)


@pytest.mark.parametrize("recipe", ["dense", "local_sgd(every=2)"])
def test_a_cluster_is_measured_at_the_average(recipe):
    run = train_cluster(quadratic_task(), f"{recipe} + schedule_free_sgd(lr=0.2)", steps=8, workers=2)
    assert measured_at_the_average(run)


def test_a_state_of_adamw_is_refused():
    params = parameters()
    other = AdamW(params)
    train(other, params, 1)
    with pytest.raises(SoonerError, match="schedule_free_adamw"):
        ScheduleFreeAdamW(params).load_state_dict(other.state_dict())


def test_it_goes_with_few_bits_and_with_released_gradients():
    def trained(bits, release):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 2))
        recipe = f"schedule_free_adamw(lr=0.01{f', state_bits={bits}' if bits else ''})"
        training = Recipe(recipe + (" + gradient_release" if release else "")).build(net, 4)
        for step in range(4):
            torch.manual_seed(step)
            net(torch.randn(8, 64)).square().mean().backward()
            training.step()
            training.zero_grad()
        with training.view():
            return values(net.parameters())

    plain = trained(None, release=False)
    assert same(trained(None, release=True), plain)
    short = trained(8, release=False)
    assert not same(short, plain)
    assert close(short, plain, rtol=0, atol=0.01)
