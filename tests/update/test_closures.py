"""How loops of all kinds give the loss to the optimizers that evaluate it: closures, `observe`, and what they leave."""

import copy
import functools
import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import sooner
from sooner import Recipe
from sooner.error import SoonerError
from sooner.foundation.intercept import BackwardHeld
from sooner.objective import Objective
from sooner.part import load, names
from sooner.update import SGD, GradNormSmooth, NormalizedLogisticGD, SoftmaxGhosts, SophiaG, SophiaH

METHODS = {
    "sophia_g": functools.partial(SophiaG, every=3),
    "sophia_h": functools.partial(SophiaH, every=3),
    "normalized_logistic_gd": NormalizedLogisticGD,
    "grad_norm_smooth": GradNormSmooth,
    "hessian_products": functools.partial(GradNormSmooth, curvature="hessian", dense_limit=0),
}
every_method = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
reading = pytest.mark.parametrize("make", list(METHODS.values())[:3], ids=list(METHODS)[:3])


def data(seed=0, n=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator), torch.randint(0, 3, (n,), generator=generator)


def network(*, noisy=True):
    torch.manual_seed(0)
    between = [nn.BatchNorm1d(6), nn.Dropout(0.3)] if noisy else []
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), *between, nn.Linear(6, 3))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Lightning:
    """The closure of Lightning's automatic optimization: the loss comes back detached; None skips the batch."""

    def __init__(self, optimizer, training_step, parameters):
        self.optimizer, self.training_step, self.parameters = optimizer, training_step, parameters
        self.loss = None

    def __call__(self):
        loss = self.training_step()
        self.optimizer.zero_grad()
        if loss is None:
            return None
        self.loss = loss.detach().clone()
        (loss / 1).backward()
        return self.loss


def wrapped(closure, parameters):  # as Lightning's precision plugins: clip behind the closure
    found = closure()
    nn.utils.clip_grad_norm_(parameters, 1e9)
    return found


def take_step(kind, optimizer, model, loss):
    """Take one step of a training loop of this kind."""

    def backward_inside():
        optimizer.zero_grad()
        found = loss()
        found.backward()
        return found

    def in_two_parts():
        model.zero_grad()
        found = loss()
        (found / 2).backward(retain_graph=True)
        torch.autograd.backward([found], [torch.tensor(0.5)])  # and returns nothing

    def scaled():
        optimizer.zero_grad()
        scaler, found = torch.amp.GradScaler("cpu", init_scale=2.0**10), loss()
        scaler.scale(found).backward()
        scaler.unscale_(optimizer)
        return found

    if kind in ("closure", "observe", "objective"):
        optimizer.zero_grad()
        loss().backward()
    if kind == "observe":
        optimizer.observe(loss)
        optimizer.step()
    elif kind == "objective":
        optimizer.step(Objective(model, lambda model, batch: loss(), [None]))
    elif kind == "lightning":
        parameters = list(model.parameters())
        optimizer.step(closure=functools.partial(wrapped, Lightning(optimizer, loss, parameters), parameters))
    else:
        optimizer.step({"inside": backward_inside, "parts": in_two_parts, "scaled": scaled}.get(kind, loss))


def run(make, kind, steps=7):
    model = network()
    optimizer = make(model)
    torch.manual_seed(5)
    for step in range(steps):
        x, y = data(step)
        take_step(kind, optimizer, model, lambda x=x, y=y: F.cross_entropy(model(x), y))
    return model, optimizer, torch.get_rng_state()


@reading
@pytest.mark.parametrize("kind", ["observe", "objective", "inside", "lightning", "alone", "parts", "scaled"])
def test_every_loop_takes_the_same_steps_bit_for_bit(make, kind):
    """Dropout, running statistics and random numbers included: an evaluation more leaves no trace."""
    model, optimizer, random = run(make, kind)
    expected, _, as_random = run(make, "closure")
    assert same(model, expected)
    assert not same(model, network())
    assert torch.equal(random, as_random)
    assert model[2].num_batches_tracked == 7
    assert (kind == "alone") == all(p.grad is None for p in model.parameters())
    assert getattr(optimizer, "steps_taken", 7) == 7


@pytest.mark.parametrize("make", list(METHODS.values())[3:], ids=list(METHODS)[3:])
@pytest.mark.parametrize("kind", ["inside", "lightning", "parts", "scaled"])
def test_what_finds_its_gradients_itself_needs_none_and_leaves_none(make, kind):
    model, _, random = run(make, kind)
    expected, _, as_random = run(make, "alone")
    assert same(model, expected)
    assert torch.equal(random, as_random)
    assert all(p.grad is None for p in model.parameters())
    assert model[2].num_batches_tracked == 7  # however many trials a step takes


@every_method
def test_the_step_returns_what_a_closure_with_backward_returns(make):
    model = network(noisy=False)
    optimizer = make(model)
    x, y = data()

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    expected = F.cross_entropy(model(x), y).item()
    assert optimizer.step(closure).item() == expected
    assert optimizer.step(closure) < expected


@every_method
def test_a_batch_that_lightning_skips_moves_nothing(make):
    model = network(noisy=False)
    optimizer = make(model)
    before = copy.deepcopy(model)
    for _ in range(3):
        assert optimizer.step(Lightning(optimizer, lambda: None, [])) is None
    assert same(model, before)
    optimizer.step(Lightning(optimizer, lambda: F.cross_entropy(model(data()[0]), data()[1]), []))
    moved = copy.deepcopy(model)
    assert not same(model, before)
    for _ in range(3):
        optimizer.step(Lightning(optimizer, lambda: None, []))
    assert same(model, moved)


@every_method
def test_it_refuses_at_the_first_step(make):
    model = network(noisy=False)
    optimizer = make(model)
    before, name = copy.deepcopy(model), optimizer.name()
    for bad, sentence in (
        (None, "needs a closure: .* or before the step optimizer.observe"),
        (lambda: None, r"closure returned (None|a NoneType)"),
        (lambda: F.cross_entropy(model(data()[0]), data()[1]).detach(), "closure returned a tensor without its graph"),
    ):
        F.cross_entropy(model(data()[0]), data()[1]).backward()
        with pytest.raises(sooner.SoonerError, match=f"{name}.* {sentence}"):
            optimizer.step(bad)
    with pytest.raises(sooner.SoonerError, match=f"{name}: observe takes a function"):
        optimizer.observe(torch.zeros(()))
    optimizer.observe(lambda: None)
    with pytest.raises(sooner.SoonerError, match=f"{name}: the closure returned a NoneType"):
        optimizer.step()
    assert same(model, before)
    optimizer.observe(lambda: F.cross_entropy(model(data()[0]), data()[1]))
    optimizer.step()
    assert not same(model, before)


@reading
def test_micro_batches_that_a_closure_adds_to_are_refused_and_observed(make):
    """Lightning's accumulation: the closure of the last micro-batch alone would be measured at a fraction."""

    def trained(observe):
        model = network(noisy=False)
        optimizer = make(model)
        for step in range(4):
            x, y = data(step, n=16)

            def loss(x=x, y=y):
                return F.cross_entropy(model(x), y)

            def last(x=x, y=y):
                half = F.cross_entropy(model(x[8:]), y[8:]) / 2
                half.backward()
                return half.detach()

            optimizer.zero_grad()
            (F.cross_entropy(model(x[:8]), y[:8]) / 2).backward()
            if observe:
                optimizer.observe(loss)
            optimizer.step(last)
        return model

    with pytest.raises(sooner.SoonerError, match="closure adds to gradients that were accumulated before it"):
        trained(observe=False)
    assert not same(trained(observe=True), network(noisy=False))


@reading
def test_a_closure_may_observe_the_batch_of_its_own_step(make):
    """As the training_step of a Lightning module does, which runs inside the closure."""

    def trained(inside):
        model = network(noisy=False)
        optimizer = make(model)
        for step in range(5):
            x, y = data(step)

            def loss(x=x, y=y):
                return F.cross_entropy(model(x), y)

            def closure(loss=loss):
                if inside:
                    optimizer.observe(loss)
                optimizer.zero_grad()
                loss().backward()

            optimizer.step(closure)
        return model

    assert same(trained(inside=True), trained(inside=False))


@every_method
def test_what_is_observed_is_not_copied(make):
    model = network(noisy=False)
    optimizer = make(model)
    optimizer.observe(lambda: F.cross_entropy(model(data()[0]), data()[1]))
    optimizer.step()
    _, other = copy.deepcopy((model, optimizer))
    with pytest.raises(sooner.SoonerError, match="needs a closure"):
        other.step()


@reading
def test_those_who_change_gradients_hear_when_they_are_there(make):
    model = network(noisy=False)
    optimizer = make(model)
    seen = []
    optimizer.gradients_ready = lambda: seen.append([p.grad is not None for p in model.parameters()])
    for kind in ("closure", "observe", "objective", "inside", "alone"):
        optimizer.observe(None)
        optimizer.zero_grad()
        take_step(kind, optimizer, model, lambda: F.cross_entropy(model(data()[0]), data()[1]))
    assert seen == [[True] * 4] * 5


@every_method
def test_other_optimizers_gradients_stay(make):
    model, other = network(noisy=False), nn.Linear(3, 3)
    optimizer, beside = make(model), torch.optim.SGD(other.parameters())
    for p in other.parameters():
        p.grad = torch.ones_like(p)
    kept = [(p.grad, p.grad.clone()) for p in other.parameters()]

    def closure():
        beside.zero_grad()
        loss = F.cross_entropy(other(model(data()[0])), data()[1])
        loss.backward()
        nn.utils.clip_grad_norm_(other.parameters(), 0.1)
        return loss

    optimizer.observe(closure)
    for _ in range(4):
        optimizer.step()
    assert all(p.grad is g and torch.equal(g, v) for p, (g, v) in zip(other.parameters(), kept, strict=True))


def test_only_the_thread_that_holds_backward_back_notices():
    p = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([p])

    def elsewhere():
        optimizer.zero_grad()
        p.sum().backward()

    with BackwardHeld() as held, BackwardHeld() as inner:
        p.square().sum().backward()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        optimizer.zero_grad()
    assert (len(held.roots), len(inner.roots), inner.zeroes) == (0, 1, True)
    assert torch.equal(p.grad, torch.ones(2))
    optimizer.zero_grad()
    assert p.grad is None


# models that are compiled, checkpointed, sparse, frozen, tied, half


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.reentrant = reentrant

    def forward(self, x):
        return self.c(checkpoint(lambda h: self.b(h).tanh(), self.a(x), use_reentrant=self.reentrant))


def eager(make):
    return functools.partial(make, every=1) if "every" in getattr(make, "keywords", {}) else make


def two_steps(make, model, loss, params=None):
    optimizer = eager(make)(model if params is None else params)
    for _ in range(2):
        take_step("inside", optimizer, model, loss)
    return optimizer


@every_method
def test_compiled_models_take_the_steps_of_the_plain_one(make):
    found = []
    x, y = data()
    for compiled in (False, True):
        model = network(noisy=False)
        called = torch.compile(model, backend="aot_eager") if compiled else model
        two_steps(make, model, lambda called=called: F.cross_entropy(called(x), y))
        found.append(model)
    assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(*(m.parameters() for m in found), strict=True))


@every_method
def test_checkpoints_work_where_they_are_not_reentrant(make):
    x, y = data()
    model = Checkpointed(reentrant=False)
    two_steps(make, model, lambda: F.cross_entropy(model(x), y))
    if make is NormalizedLogisticGD:  # looks at the logits alone
        model = Checkpointed(reentrant=True)
        two_steps(make, model, lambda: F.cross_entropy(model(x), y))
        return
    model = Checkpointed(reentrant=True)
    with pytest.raises(
        sooner.SoonerError, match="reentrant checkpointing does not allow; checkpoint with use_reentrant="
    ):
        two_steps(make, model, lambda: F.cross_entropy(model(x), y))


UPDATES = [name for name, station in names().items() if station == "update"]
OPTIMIZERS = [load(name) for name in UPDATES if issubclass(load(name), torch.optim.Optimizer)]


@pytest.mark.parametrize("method", OPTIMIZERS, ids=lambda m: m.name())
def test_sparse_gradients_are_refused_by_every_part(method):
    words, head = nn.Embedding(10, 4, sparse=True), nn.Linear(4, 3)
    ids, y = torch.arange(8), data()[1]
    optimizer = method([*words.parameters(), *head.parameters()])

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(head(words(ids)), y)
        loss.backward()
        return loss

    with pytest.raises(sooner.SoonerError, match="takes no sparse gradients; build the embedding with sparse=False"):
        optimizer.step(closure)


@every_method
def test_numbers_tied_frozen_and_half_parameters(make):
    x, y = data()
    model, temperature = network(noisy=False), nn.Parameter(torch.tensor(1.0))
    model[0].bias.requires_grad_(False)
    frozen = model[0].bias.clone()
    two_steps(make, model, lambda: F.cross_entropy(model(x) * temperature, y), [*model.parameters(), temperature])
    assert temperature != 1
    assert torch.equal(model[0].bias, frozen)
    words, head = nn.Embedding(3, 4), nn.Linear(4, 3, bias=False)
    head.weight = words.weight
    both = nn.ModuleList([words, head])
    before = copy.deepcopy(both)
    two_steps(make, both, lambda: F.cross_entropy(head(words(y)), y))
    assert not same(both, before)
    half = network(noisy=False).bfloat16()
    two_steps(make, half, lambda: F.cross_entropy(half(x.bfloat16()), y))
    assert all(p.dtype == torch.bfloat16 and p.isfinite().all() for p in half.parameters())

    def cast():
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(model(x), y)

    two_steps(make, model, cast)


def test_a_model_without_anything_to_train_is_named():
    model = network().requires_grad_(False)
    with pytest.raises(sooner.SoonerError, match="grad_norm_smooth: no parameter requires a gradient"):
        GradNormSmooth(model).step(lambda: F.cross_entropy(model(data()[0]), data()[1]))


# the guard around steps


def test_the_guard_takes_closures_with_backward_and_compiled_models():
    x, y = data()

    def moved(kind):
        model = network()
        called = torch.compile(model, backend="aot_eager") if kind == "compiled" else model
        optimizer, guard = torch.optim.SGD(model.parameters(), lr=100.0), SoftmaxGhosts(model, limit=0.1)
        torch.manual_seed(1)

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(called(x), y)
            loss.backward()
            return None if kind == "none" else loss

        closure()
        held = [p.grad for p in model.parameters()]
        with guard.around_step((lambda: F.cross_entropy(called(x), y)) if kind == "plain" else closure):
            optimizer.step()
        assert all(p.grad is g for p, g in zip(model.parameters(), held, strict=True))
        return model, guard.ratio

    expected, ratio = moved("plain")
    assert ratio > 0.1
    for kind in ("inside", "none"):
        assert same(moved(kind)[0], expected)
    assert moved("compiled")[1] == pytest.approx(ratio.item(), rel=1e-4)


def test_the_guard_tries_the_loss_before_the_first_step():
    model = network()
    before = copy.deepcopy(model)
    for loss, sentence in (
        (lambda: model(data()[0]).square().mean(), "sees no cross-entropy"),
        (None, r"needs a closure: around_step\(lambda"),
    ):
        guard = SoftmaxGhosts(model, every=5)
        with pytest.raises(sooner.SoonerError, match=sentence), guard.around_step(loss), torch.no_grad():
            model[0].weight.add_(1.0)
    assert same(model, before)


# distributed checkpoints


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
@pytest.mark.parametrize("method", OPTIMIZERS, ids=lambda m: m.name())
def test_distributed_checkpoints_resume_every_part_bit_for_bit(method, flat):
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    settings = {"every": 2} if method in (SophiaG, SophiaH) else {}

    def train(model, optimizer, first, last):
        for step in range(first, last):
            x, y = data(step)

            def loss(model=model, x=x, y=y):
                return F.cross_entropy(model(x), y)

            take_step("closure" if hasattr(optimizer, "observe") else "inside", optimizer, model, loss)

    model = network(noisy=False)
    optimizer = method(model, **settings)
    train(model, optimizer, 0, 5)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    again = copy.deepcopy(model)
    torch.manual_seed(99)
    resumed = method(again, **settings)
    set_optimizer_state_dict(again, resumed, saved, options=options)
    train(model, optimizer, 5, 9)
    train(again, resumed, 5, 9)
    assert same(model, again)


@every_method
def test_the_step_by_which_checkpoints_set_up_the_state_disturbs_nothing(make):
    found = []
    for asked in (False, True):
        model = network(noisy=False)
        optimizer = make(model)
        if asked:
            get_optimizer_state_dict(model, optimizer)
            optimizer.observe(lambda: 1 / 0)
            get_optimizer_state_dict(model, optimizer)
            optimizer.observe(None)
        for step in range(5):
            take_step("alone", optimizer, model, lambda s=step, m=model: F.cross_entropy(m(data(s)[0]), data(s)[1]))
        found.append(model)
    assert same(*found)


def test_workers_who_share_a_model_stay_together(ranks):
    ranks([Path(__file__).with_name("workers_run.py")]).succeed()


def test_a_closure_that_forgets_to_go_back_is_told():
    model = nn.Linear(3, 2)
    training = Recipe("adamw + cosine").build(model, steps=3)
    for who, step in (("training.step", training.step), ("sgd", SGD(model.parameters()).step)):
        with pytest.raises(SoonerError, match=rf"{who}: the closure returned a loss, and no parameter has a gradient"):
            step(lambda: model(torch.ones(1, 3)).sum())
    model(torch.ones(1, 3)).sum().backward()
    SGD(model.parameters()).step(lambda: model(torch.ones(1, 3)).sum())  # gradients are there: as torch does
