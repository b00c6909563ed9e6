"""A recipe driven by others: a GradScaler, a Trainer, wrapped optimizers; steps that are left out count for nobody."""

import copy
import math

import pytest
import torch
import toy_parts
from torch import nn

import sooner
from sooner.objective import Objective
from sooner.recipe import Recipe, slot
from sooner.recipe.training import Training
from sooner.schedule.refined import NormLog

TWO = "sgd(lr=1, momentum=0, on='weight') + torch.optim.SGD(lr=1, on='bias')"


def start(recipe, *slots, steps=10):
    torch.manual_seed(0)
    net = nn.Linear(2, 1)
    return net, Recipe(recipe, *slots).build(net, steps=steps)


def lose(net, number, factor=1.0):
    torch.manual_seed(100 + number)
    return (net(torch.randn(4, 2)) * factor - 1).square().mean()


def flat(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def counts(training):
    return [s.last_epoch for s in training.schedules], training.others[-1].steps


@pytest.mark.parametrize("kind", ["sgd(lr=1, momentum=0, non_finite='skip')", "torch.optim.SGD(lr=1)"])
def test_neither_schedule_nor_average_counts_a_step_that_is_left_out(kind):
    net, training = start(f"clip_norm(max_norm=1.0) + {kind} + linear(warmup=0) + ema(decay=0.5)")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled="torch" in kind)
    log = NormLog(training.optimizers[0])
    for entry in (1.0, math.nan, math.nan, 1.0):
        for p in net.parameters():
            p.grad = torch.full_like(p, entry * scaler.get_scale())
        scaler.scale(torch.zeros(()))
        scaler.step(training)
        scaler.update()
        training.zero_grad()
    assert counts(training) == ([2], 2)
    torch.testing.assert_close(log.norms(), torch.full((2,), 3**0.5))


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_steps_a_training_as_it_would_without(fused):
    more = ", fused=True" if fused else ""
    text = f"clip_norm(max_norm=0.1) + torch.optim.AdamW(lr=0.1{more}) + linear + ema"
    (plain, by_hand), (net, training) = start(text), start(text)
    scaler = torch.amp.GradScaler("cpu", init_scale=3000.0, growth_interval=2)
    for number in range(5):
        lose(plain, number).backward()
        by_hand.step()
        by_hand.zero_grad()
        scaler.scale(lose(net, number)).backward()
        if number == 2:
            scaler.unscale_(training)
        scaler.step(training)
        scaler.update()
        training.zero_grad()
    torch.testing.assert_close(flat(net), flat(plain))
    assert counts(training) == counts(by_hand) == ([5], 5)
    assert scaler.get_scale() == 12000.0


def test_one_infinity_leaves_out_the_step_of_all_optimizers():
    net, training = start(f"clip_norm + {TWO} + linear(warmup=0) + ema")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for number, bad in enumerate((False, True, False)):
        scaler.scale(lose(net, number)).backward()
        if bad:
            net.bias.grad.fill_(math.inf)
        before = flat(net)
        scaler.step(training)
        assert torch.equal(before, flat(net)) is bad
        scaler.update()
        training.zero_grad()
    assert counts(training) == ([2, 2], 2)
    assert scaler.get_scale() == 1.0


def test_a_schedule_follows_its_own_optimizer_and_the_average_any_of_them():
    recipe = "sgd(on='weight', non_finite='skip') + sgd(on='bias', non_finite='skip') + linear(warmup=0) + ema"
    net, training = start(recipe)
    for bad in ("weight", "bias", "both", "none"):
        for name, p in net.named_parameters():
            p.grad = torch.full_like(p, math.nan if bad in (name, "both") else 1.0)
        training.step()
    assert counts(training) == ([2, 2], 3)


class Counting(toy_parts.RunningMean):
    """Counts how often the code behind a step runs."""

    steps = 0

    def around_step(self, objective):
        return self._context()

    def after_step(self):
        pass

    import contextlib

    @contextlib.contextmanager
    def _context(self):
        yield
        self.steps += 1


def test_contexts_around_a_step_that_is_left_out_do_nothing_behind_it():
    for attached in (False, True):
        net, training = start("sgd(non_finite='skip')", slot(Counting, rate=0.5))
        step = training.step
        if attached:
            optimizer, schedule = training.attach()
            assert schedule is None
            step = optimizer.step
        for entry in (1.0, math.nan, 1.0):
            for p in net.parameters():
                p.grad = torch.full_like(p, entry)
            step()
        assert training.others[0].steps == 2


def test_a_wrapper_that_does_not_step_counts_for_nobody():
    class Accumulating(torch.optim.Optimizer):
        """As Accelerate's, which steps only when enough micro-batches were seen."""

        def __init__(self, optimizer):
            self.optimizer, self.calls = optimizer, 0
            self.param_groups = optimizer.param_groups

        def step(self, closure=None):
            self.calls += 1
            if self.calls % 2 == 0:
                self.optimizer.step()

    net, training = start("clip_norm + sgd + linear(warmup=0) + ema")
    training.optimizers[0] = Accumulating(training.optimizers[0])
    for number in range(6):
        lose(net, number).backward()
        training.step()
    assert counts(training) == ([3], 3)


@pytest.mark.parametrize("optimizer", ["sgd(lr=1, momentum=0)", "torch.optim.SGD(lr=1)"])
def test_an_attached_recipe_loses_nothing_in_a_loop_of_others(optimizer):
    text = f"clip_norm(max_norm=0.1) + {optimizer} + linear(warmup=0) + ema(decay=0.5)"
    (net, training), (ours, by_hand) = start(text), start(text)
    driven, schedule = training.attach()
    assert training.attach() == (driven, schedule)
    for number in range(4):
        lose(net, number).backward()
        driven.step()
        schedule.step()
        driven.zero_grad()
        lose(ours, number).backward()
        by_hand.step()
        by_hand.zero_grad()
    assert torch.equal(flat(net), flat(ours))
    assert counts(training) == counts(by_hand) == ([4], 4)
    with training.view(), by_hand.view():
        assert torch.equal(flat(net), flat(ours))
    lose(net, 4).backward()
    training.step()  # goes on as well, and nothing twice
    assert counts(training) == ([5], 5)


@pytest.mark.parametrize("fused", [False, True])
def test_an_attached_recipe_counts_no_step_that_a_scaler_leaves_out(fused):
    net, training = start(f"clip_norm + torch.optim.SGD(fused={fused}) + linear(warmup=0) + ema")
    optimizer, schedule = training.attach()
    scaler = torch.amp.GradScaler("cpu")
    for number in range(4):
        scaler.scale(lose(net, number, math.inf if number in (0, 2) else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()  # as loops do that don't look
        optimizer.zero_grad()
    assert counts(training) == ([2], 2)


@pytest.mark.filterwarnings("ignore:Seems like")  # torch leaves its own mark on steps behind
def test_an_attached_recipe_is_copied_with_its_model():
    net, training = copy.deepcopy(_attached())
    lose(net, 0).backward()
    training.optimizers[0].step()
    training.schedules[0].step()
    assert counts(training) == ([1], 1)


def _attached():
    net, training = start("clip_norm + torch.optim.SGD(lr=1) + linear(warmup=0) + ema")
    training.attach()
    return net, training


def test_what_others_cannot_do_is_refused():
    for text, sentence in {
        f"{TWO} + ema": r"attach: this recipe has 2 optimizers, and others step one; call training.step\(\)",
        "deepzero + sgd": "attach: deepzero works on the loss of a step, which a loop of others doesn't show",
        "leap_verify + sgd": "attach: leap_verify works on the loss of a step",
        "softmax_ghosts + sgd": "attach: softmax_ghosts works on the loss of a step",
    }.items():
        training = Recipe(text).build(nn.Linear(2, 1), 5, {"closure", "held-out loss", "losses"})
        with pytest.raises(sooner.SoonerError, match=sentence):
            training.attach()


def test_a_training_has_what_others_ask_of_an_optimizer():
    net, training = start(f"clip_norm(max_norm=1e-3) + {TWO} + linear(warmup=0)")
    assert [group["params"] for group in training.param_groups] == [[net.weight], [net.bias]]
    assert training.defaults["lr"] == 1
    seen = []
    before = training.register_step_pre_hook(lambda one, args, kwargs: seen.append(float(net.bias.grad)))
    training.register_step_post_hook(lambda one, args, kwargs: seen.append(one))

    def closure():
        training.zero_grad(set_to_none=False)
        loss = net(torch.ones(1, 2)).sum()
        loss.backward()
        return loss

    net.weight.grad = torch.full((1, 2), 9.0)
    start_at = flat(net)
    assert float(training.step(closure=closure).detach()) == pytest.approx(float(start_at.sum()))
    assert seen == [1.0, training]
    assert float((flat(net) - start_at).norm()) == pytest.approx(1e-3, rel=1e-3)
    assert float(training.gradient_norm) == pytest.approx(3**0.5)
    assert set(training.state) <= {net.weight, net.bias}
    before.remove()
    training.step(closure)
    assert seen[2:] == [training]


def test_an_optimizer_that_asks_gets_the_closure_itself():
    calls = []

    def closure():
        calls.append(1)
        optimizer.zero_grad()
        loss = (net(torch.ones(1, 2)) - 1).square().sum()
        loss.backward()
        return loss

    net = nn.Linear(2, 1)
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=1)
    training = Training(net, [optimizer], [])
    assert training.step(closure) is not None
    assert len(calls) == 1
    training.step(Objective(net, lambda model, batch: (model(batch) - 1).square().sum(), [torch.ones(1, 2)]))
    assert len(calls) == 1
