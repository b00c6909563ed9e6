"""Gradient release: the steps of ordinary training, gradients that are never together, and what can't go along."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

import sooner
from sooner.cluster import train_cluster
from sooner.error import SoonerError
from sooner.execute import using
from sooner.gradient import ClipNorm, ClipValue
from sooner.memory import GradientRelease, LazySaver, LowBitState
from sooner.task import from_file
from sooner.update import (
    SGD,
    AdamP,
    AdamW,
    Adan,
    AdEMAMix,
    Lion,
    Muon,
    NormalizedGD,
    SGDSaI,
    SophiaG,
)
from sooner.watch import Watch
from sooner.weights import EMA


class Net(nn.Module):
    """Tied, frozen and unused parameters, and matrices of equal shape, which step together where they can."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 96)
        self.blocks = nn.ModuleList(nn.Linear(96, 96) for _ in range(3))
        self.norm = nn.LayerNorm(96)
        self.unused = nn.Linear(3, 3)
        self.frozen = nn.Parameter(torch.ones(96), requires_grad=False)
        self.head = nn.Linear(96, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        h = self.embedding(x)
        for block in self.blocks:
            h = h + block(torch.relu(self.norm(h))) * self.frozen
        return self.head(h)


def net(kind=Net, dtype=torch.float32):
    torch.manual_seed(0)
    return kind().to(dtype)


def loss_of(model, step):
    generator = torch.Generator().manual_seed(step)
    x, y = (torch.randint(50, (16,), generator=generator) for _ in "xy")
    return nn.functional.cross_entropy(model(x).float(), y)


def train(model, optimizer, first, last):
    for step in range(first, last):
        torch.autograd.backward(loss_of(model, step))
        optimizer.step()
        optimizer.zero_grad()


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def released(method=AdamW, model=None, **options):
    model = net() if model is None else model
    optimizer = method(model, **options)
    GradientRelease(optimizer)
    return model, optimizer


METHODS = [
    (AdamW, {"lr": 0.01}),
    (AdamW, {"lr": 0.01, "decay": "matrices", "cautious": True}),
    (AdamW, {"lr": 0.01, "state_bits": 8}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (Lion, {"lr": 1e-3}),
    (Adan, {"lr": 0.01}),
    (AdEMAMix, {"lr": 0.01}),
    (AdamP, {"lr": 0.01}),
    (SGDSaI, {"lr": 0.01}),
    (Muon, {"lr": 0.01}),
    (Muon, {"lr": 0.01, "state_bits": 4}),
]


@pytest.mark.parametrize(("method", "options"), METHODS, ids=lambda value: getattr(value, "__name__", str(value)))
@pytest.mark.parametrize("executor", ["eager", "native"])
def test_the_steps_are_those_without_it_to_the_bit(method, options, executor):
    plain = net()
    reference = method(plain, **options)
    model, optimizer = released(method, **options)
    with using(executor):
        train(plain, reference, 0, 4)
        train(model, optimizer, 0, 4)
    assert same(plain, model)
    for p, q in zip(plain.parameters(), model.parameters(), strict=True):
        ours, theirs = optimizer.state.get(q, {}), reference.state.get(p, {})
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[slot], theirs[slot]) for slot in theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    plain, model = net(dtype=dtype), net(dtype=dtype)
    train(plain, AdamW(plain, lr=0.01, master_weights=True), 0, 3)
    train(*released(model=model, lr=0.01, master_weights=True), 0, 3)
    assert same(plain, model)


@pytest.mark.parametrize("release", [True, False])
def test_gradients_are_never_there_together(release):
    model, memory, most = net(), {}, []

    def noted(p):
        memory[p] = StorageWeakRef(p.grad.untyped_storage())
        most.append(sum(not one.expired() for one in memory.values()))

    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.register_post_accumulate_grad_hook(noted)
    optimizer = AdamW(model)
    if release:
        GradientRelease(optimizer)
    train(model, optimizer, 0, 2)
    assert len(most) == 2 * (len(trained) - 2)  # all but the unused ones
    assert max(most) == (1 if release else len(trained) - 2)
    assert all(one.expired() for one in memory.values())


def test_nothing_is_kept_alive():
    model, optimizer = released()
    train(model, optimizer, 0, 1)
    gone = [weakref.ref(model), weakref.ref(optimizer), weakref.ref(model.norm.weight)]
    del model, optimizer
    gc.collect()
    assert [one() for one in gone] == [None] * 3


def test_schedules_averages_and_checkpoints_go_along(tmp_path):
    def run(release):
        model = net()
        optimizer = AdamW(model, lr=0.01)
        if release:
            GradientRelease(optimizer)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        average = EMA(model)
        with LazySaver(optimizer) as saver:
            for step in range(4):
                if step == 2:
                    saver.save(tmp_path / "a.pt", model=model)
                train(model, optimizer, step, step + 1)
                schedule.step()
                average.after_step()
        with average.view():
            shown = [p.detach().clone() for p in model.parameters()]
        return model, shown, torch.load(tmp_path / "a.pt")["model"]

    (plain, theirs, before), (model, ours, saved) = run(False), run(True)
    assert same(plain, model)
    assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))
    assert all(torch.equal(before[key], saved[key]) for key in before)


def test_rules_for_single_parameters_go_along():
    plain = net()
    reference = AdamW(plain, lr=0.01)
    ClipValue(reference, fraction=None, value=1e-3)
    model, optimizer = released(lr=0.01)
    ClipValue(optimizer, fraction=None, value=1e-3)
    train(plain, reference, 0, 3)
    train(model, optimizer, 0, 3)
    assert same(plain, model)


def test_two_optimizers_share_a_model():
    plain, model = net(), net()
    both = []
    for one in (plain, model):
        matrices = [block.weight for block in one.blocks]
        rest = [p for p in one.parameters() if not any(p is q for q in matrices)]
        both.append([Muon(matrices, model=one), AdamW(rest)])
    GradientRelease(both[1])
    for one, optimizers in zip((plain, model), both, strict=True):
        for step in range(3):
            torch.autograd.backward(loss_of(one, step))
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert same(plain, model)


def test_it_goes_on_from_a_saved_state():
    straight, optimizer = released(lr=0.01)
    train(straight, optimizer, 0, 6)
    model, first = released(lr=0.01)
    train(model, first, 0, 3)
    fresh, resumed = released(model=copy.deepcopy(model))
    resumed.load_state_dict(first.state_dict())
    train(fresh, resumed, 3, 6)
    assert same(straight, fresh)


@pytest.mark.parametrize("by", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_go_on_by_themselves(by):
    model, optimizer = released(lr=0.01)
    train(model, optimizer, 0, 2)
    twin, other = by((model, optimizer))
    before = copy.deepcopy(twin)
    train(model, optimizer, 2, 5)
    assert same(before, twin)
    train(twin, other, 2, 5)
    assert same(model, twin)
    torch.autograd.backward(loss_of(twin, 5))
    assert "released" in repr(twin.norm.weight.grad)


def test_what_is_unfrozen_or_added_later_joins():
    plain, model = net(), net()
    models = (plain, AdamW(plain.blocks, lr=0.01)), released(model=model.blocks, lr=0.01)
    for one, (_, optimizer) in zip((plain, model), models, strict=True):
        one.blocks[0].requires_grad_(False)
        train(one, optimizer, 0, 2)
        one.blocks[0].requires_grad_(True)
        train(one, optimizer, 2, 4)
        optimizer.add_param_group({"params": [one.norm.weight]})
        one.norm.weight.grad = None
        train(one, optimizer, 4, 6)
        one.blocks[1].requires_grad_(False)
        train(one, optimizer, 6, 8)
    assert same(plain, model)


def test_checkpointed_segments_are_computed_again_with_the_weights_of_before():
    class Checkpointed(Net):
        def forward(self, x):
            h = self.embedding(x)
            for block in self.blocks:
                h = h + checkpoint(lambda h, b=block: b(torch.relu(self.norm(h))), h, use_reentrant=False)
            return self.head(h)

    plain, model = net(Checkpointed), net(Checkpointed)
    train(plain, AdamW(plain, lr=0.01), 0, 3)
    train(*released(model=model, lr=0.01), 0, 3)
    assert same(plain, model)


# what can't go along


def test_a_second_backward_before_the_step_is_refused():
    model, _ = released()
    torch.autograd.backward(loss_of(model, 0))
    with pytest.raises(SoonerError, match="accumulation"):
        torch.autograd.backward(loss_of(model, 1))


def test_zero_grad_in_place_of_the_step_is_refused():
    model, optimizer = released()
    torch.autograd.backward(loss_of(model, 0))
    optimizer.zero_grad()
    with pytest.raises(SoonerError, match="came before optimizer"):
        torch.autograd.backward(loss_of(model, 1))


@pytest.mark.parametrize("look", [
    lambda model, optimizer: nn.utils.clip_grad_norm_(model.parameters(), 1.0),
    lambda model, optimizer: nn.utils.clip_grad_value_(model.parameters(), 1.0),
    lambda model, optimizer: optimizer.gradient_norm,
    lambda model, optimizer: model.norm.weight.grad.norm(),
    lambda model, optimizer: optimizer.zero_grad(set_to_none=False),
])  # fmt: skip
def test_whoever_looks_at_gradients_is_told_that_they_are_gone(look):
    model, optimizer = released()
    torch.autograd.backward(loss_of(model, 0))
    with pytest.raises(SoonerError, match="used and freed inside backward"):
        look(model, optimizer)


@pytest.mark.parametrize("call", ["unscale_", "step"])
def test_a_scaled_step_is_refused(call):
    model, optimizer = released()
    scaler = torch.amp.GradScaler("cpu")
    torch.autograd.backward(scaler.scale(loss_of(model, 0)))
    with pytest.raises(SoonerError, match="a GradScaler"):
        getattr(scaler, call)(optimizer)


def test_sums_over_the_model_are_refused_before_anything_moves():
    for method, gradient in ((AdamW, ClipNorm), (NormalizedGD, None)):
        model, optimizer = released(method, lr=0.1)
        if gradient:
            gradient(optimizer)
        before = copy.deepcopy(model)
        with pytest.raises(SoonerError, match="whole model"):
            torch.autograd.backward(loss_of(model, 0))
        assert same(before, model)


def test_rules_that_several_optimizers_share_are_refused():
    model = net()
    matrices = [block.weight for block in model.blocks]
    optimizers = [SGD(matrices, lr=0.1), SGD([model.norm.weight], lr=0.1)]
    ClipValue(optimizers, fraction=None, value=1.0)
    GradientRelease(optimizers)
    with pytest.raises(SoonerError, match="needs all gradients"):
        torch.autograd.backward(loss_of(model, 0))


@pytest.mark.parametrize(("make", "said"), [
    (lambda p: torch.optim.AdamW(p), "no optimizer of sooner"),
    (lambda p: SophiaG(p), "evaluates the loss again"),
    (lambda p: AdamW(p, non_finite="skip"), "looks at all gradients"),
])  # fmt: skip
def test_optimizers_that_need_more_are_refused(make, said):
    with pytest.raises(SoonerError, match=said):
        GradientRelease(make(list(net().parameters())))


def test_several_workers_are_refused(monkeypatch):
    model, _ = released()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(SoonerError, match="workers"):
        torch.autograd.backward(loss_of(model, 0))


# recipes


@pytest.fixture(scope="module")
def task(pytestconfig):
    return from_file(pytestconfig.rootpath / "tests" / "parts" / "generous_task.py")


def test_a_recipe_trains_as_without_it(task):
    ours = sooner.train(task, "adamw + cosine + ema + gradient_release + low_bit_state", 0)
    theirs = sooner.train(task, "adamw + cosine + ema", 0)
    assert torch.equal(ours.losses, theirs.losses)
    assert ours.values == theirs.values


def test_a_run_that_is_watched_has_no_norm_to_tell(task):
    told = []

    class Listener(Watch):
        def step(self, step, numbers):
            told.append(numbers)

    sooner.train(task, "adamw + gradient_release", 0, steps=3, watch=Listener(), log_every=1)
    assert len(told) == 3
    assert all("loss" in numbers and "gradient_norm" not in numbers for numbers in told)


@pytest.mark.parametrize("other", ["clip_norm", "conadv", "softmax_ghosts", "leap_verify"])
def test_a_recipe_with_what_needs_all_gradients_is_refused(other):
    with pytest.raises(SoonerError, match="gradient_release both own"):
        sooner.Recipe(f"{other} + adamw + gradient_release")


def test_accumulation_in_the_loop_is_refused(task):
    with pytest.raises(SoonerError, match="accumulation"):
        sooner.train(task, "adamw + gradient_release", 0, steps=2, accumulate=2)
    with pytest.raises(SoonerError, match="clipping"):
        sooner.train(task, "adamw + gradient_release", 0, steps=2, clip_norm=1.0)


def test_a_simulated_cluster_refuses_it(task):
    with pytest.raises(SoonerError, match="simulated cluster"):
        train_cluster(task, "dense + sgd + gradient_release", 0, workers=2)


def test_few_bits_and_no_gradients_together():
    plain, model = net(), net()
    optimizers = AdamW(plain, lr=0.01), AdamW(model, lr=0.01)
    for one in optimizers:
        LowBitState(one)
    GradientRelease(optimizers[1])
    train(plain, optimizers[0], 0, 3)
    train(model, optimizers[1], 0, 3)
    assert same(plain, model)
