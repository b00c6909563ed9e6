"""How a rule for gradients is attached: every kind of optimizer, in every loop, and nothing left behind."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import references_gradient as references
import torch
from torch import nn

import sooner
from sooner import part
from sooner.gradient._gradient import GradientPart
from sooner.recipe import Recipe
from sooner.task import from_file
from sooner.transform import Transform

TINY = Path(__file__).parents[1] / "loop" / "tiny_task.py"
RULES = ["clip_norm", "clip_value", "clip_adaptive", "perpgrad"]
OPTIMIZERS = {
    "one of sooner": "adamw(lr=0.05, weight_decay=0.0)",
    "one of torch": "torch.optim.AdamW(lr=0.05, weight_decay=0.0)",
    "two": "adamw(lr=0.05, weight_decay=0.0, on='*.bias') + torch.optim.AdamW(lr=0.05, weight_decay=0.0, on='rest')",
    "two of sooner": "adamw(lr=0.05, weight_decay=0.0, on='*.bias') + adamw(lr=0.05, weight_decay=0.0, on='rest')",
}


def net(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 2)).to(dtype)


def lose(model, step, dtype=torch.float64):
    torch.manual_seed(100 + step)
    return (model(torch.randn(8, 4, dtype=dtype)) - 3).square().mean()


def advance(model, training, steps, first=0):
    for step in range(first, first + steps):
        lose(model, step).backward()
        held = [(p.grad, p.grad.clone()) for p in model.parameters()]
        training.step()
        assert all(p.grad is g and torch.equal(g, same) for p, (g, same) in zip(model.parameters(), held, strict=True))
        training.zero_grad()


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("rule", RULES)
def test_all_ways_to_attach_a_rule_give_the_same_steps(rule):
    setting = {"clip_norm": "(max_norm=0.05)", "clip_adaptive": "(clipping=0.01)"}.get(rule, "")
    found = []
    for optimizer in OPTIMIZERS.values():
        model = net()
        advance(model, Recipe(f"{rule}{setting} + {optimizer}").build(model, 5), 5)
        found.append(weights(model))
    plain = net()
    advance(plain, Recipe(OPTIMIZERS["one of sooner"]).build(plain, 5), 5)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    assert not any(torch.allclose(a, b) for a, b in zip(found[0], weights(plain), strict=True))


@pytest.mark.parametrize("executor", ["eager", "native"])
def test_one_norm_is_taken_over_groups_that_run_different_chains(executor):
    """Muon steps matrices and the rest by different rules; the norm is still that of the whole model."""
    seen = []
    for clip in (False, True):
        model = net()
        training = Recipe("clip_norm(max_norm=0.01) + muon(lr=0.02)" if clip else "muon(lr=0.02)").build(model, 3)
        for step in range(3):
            lose(model, step).backward()
            if not clip:
                clipped = references.clip_norm([p.grad for p in model.parameters()], None, 0.01)
                for p, g in zip(model.parameters(), clipped, strict=True):
                    p.grad = g
            with sooner.execute.using(executor):
                training.step()
            training.zero_grad()
        seen.append((weights(model), [v for s in training.optimizers[0].state.values() for v in s.values()]))
    for a, b in zip(seen[0][0] + seen[0][1], seen[1][0] + seen[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_rules_run_in_the_order_of_the_recipe_whatever_the_optimizer():
    recipe = "clip_norm(max_norm=0.05) + perpgrad + clip_value(fraction=0.4)"
    for optimizer in (
        "sgd(lr=1.0, momentum=0.0)",
        "torch.optim.SGD(lr=1.0)",
        "torch.optim.SGD(lr=1.0, on='0.*') + sgd(lr=1.0, momentum=0.0, on='rest')",
    ):
        model = net()
        before = weights(model)
        training = Recipe(f"{recipe} + {optimizer}").build(model, 5)
        lose(model, 0).backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        training.step()
        expected = references.perpgrad(gradients, before)  # projection first, then clipping, the norm last
        expected = references.clip_norm(references.clip_value(expected, before, 0.4), before, 0.05)
        for p, old, g in zip(model.parameters(), before, expected, strict=True):
            torch.testing.assert_close(old - p.detach(), g, rtol=1e-8, atol=1e-10)


def test_a_rule_that_leaves_parameters_out_keeps_its_place_among_the_others():
    for optimizer in ("sgd(lr=1.0, momentum=0.0)", "torch.optim.SGD(lr=1.0)"):
        model = net()
        before = weights(model)
        training = Recipe(f"perpgrad + clip_adaptive(clipping=0.1, skip_last=True) + {optimizer}").build(model, 5)
        lose(model, 0).backward()
        projected = references.perpgrad([p.grad for p in model.parameters()], before)
        training.step()
        expected = [*references.clip_adaptive(projected[:4], before[:4], 0.1), *projected[4:]]
        for p, old, g in zip(model.parameters(), before, expected, strict=True):
            torch.testing.assert_close(old - p.detach(), g, rtol=1e-8, atol=1e-10)


def test_without_an_output_layer_there_is_nothing_to_skip():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(3))], lr=1.0)
    for model in (None, nn.LayerNorm(3)):
        with pytest.raises(sooner.SoonerError, match="skip_last=True finds no output layer; pass the model"):
            sooner.gradient.ClipAdaptive(optimizer, skip_last=True, model=model)


@pytest.mark.parametrize("rule", RULES)
def test_in_a_users_own_loop_the_optimizers_step_is_enough(rule):
    factory = part.load(rule)
    for make in (sooner.update.SGD, torch.optim.SGD):
        model = net()
        optimizer = make(model.parameters(), lr=1.0, momentum=0.0)
        factory(optimizer)
        before = weights(model)
        loss = lose(model, 0)
        loss.backward()
        raw = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        moved = [old - p.detach() for old, p in zip(before, model.parameters(), strict=True)]
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), raw, strict=True))
        assert not all(torch.allclose(m, g) for m, g in zip(moved, raw, strict=True))


def test_an_optimizer_with_a_closure_gets_changed_gradients_from_every_evaluation():
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=1)
    sooner.gradient.ClipNorm(optimizer, max_norm=0.25)
    x = torch.ones(1, 1)
    before = float(model.weight.detach())

    def closure():
        optimizer.zero_grad()
        loss = 50 * model(x).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert before - float(model.weight.detach()) == pytest.approx(0.25, abs=1e-5)
    assert float(model.weight.grad) == 50
    other = torch.optim.SGD(model.parameters(), lr=1.0)
    sooner.gradient.ClipNorm(other, max_norm=0.25)
    before = float(model.weight.detach())
    assert float(other.step(closure=closure).detach()) == pytest.approx(50 * before)
    assert before - float(model.weight.detach()) == pytest.approx(0.25, abs=1e-5)


def test_an_optimizer_that_finds_its_own_gradients_cannot_share_a_rule():
    recipe = "clip_norm + torch.optim.LBFGS(on='0.*') + sgd(on='rest')"
    with pytest.raises(
        sooner.SoonerError, match="clip_norm: LBFGS finds its gradients inside its own step, so it can't"
    ):
        Recipe(recipe).build(net(), 5, {"closure"})


def test_a_step_that_fails_leaves_no_trace_in_the_next():
    class Failing(torch.optim.SGD):
        def step(self, closure=None):
            if fail:
                raise RuntimeError("out of memory")
            return super().step(closure)

    model = net()
    optimizer = Failing(model.parameters(), lr=1.0)
    sooner.gradient.ClipNorm(optimizer, max_norm=1e-3)
    lose(model, 0).backward()
    fail = True
    with pytest.raises(RuntimeError):
        optimizer.step()
    fail = False
    optimizer.zero_grad()
    lose(model, 1).backward()
    raw = [p.grad.clone() for p in model.parameters()]
    before = weights(model)
    optimizer.step()
    moved = torch.cat([(old - p.detach()).flatten() for old, p in zip(before, model.parameters(), strict=True)])
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), raw, strict=True))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_parameters_without_a_gradient_rest(optimizer):
    model = net()
    training = Recipe(f"clip_norm(max_norm=0.1) + perpgrad + {optimizer}").build(model, 5)
    before = weights(model)
    for _ in range(2):
        model[0](torch.ones(1, 4, dtype=torch.float64)).sum().backward()
        training.step()
    assert [torch.equal(a, b.detach()) for a, b in zip(before, model.parameters(), strict=True)] == [False] * 2 + [
        True
    ] * 4
    assert [p.grad is None for p in model.parameters()] == [False] * 2 + [True] * 4
    lose(model, 0).backward()
    training.step()
    assert not any(torch.equal(a, b.detach()) for a, b in zip(before, model.parameters(), strict=True))


def test_half_precision_gradients_are_changed_in_single_precision():
    for optimizer in ("sgd(lr=1.0, momentum=0.0)", "torch.optim.SGD(lr=1.0)"):
        model = nn.Linear(64, 64, bias=False).to(torch.bfloat16)
        model.weight.grad = torch.full_like(model.weight, 2.0**-9)
        before = model.weight.detach().clone()
        training = Recipe(f"clip_norm(max_norm={2.0**-5}) + {optimizer}").build(model, 5)
        model.weight.data.zero_()
        training.step()
        torch.testing.assert_close(model.weight.detach().float(), torch.full((64, 64), -(2.0**-11)), rtol=1e-2, atol=0)
        assert model.weight.grad.dtype == before.dtype == torch.bfloat16


def test_sparse_and_complex_gradients_are_refused():
    table = nn.Embedding(5, 2, sparse=True)
    optimizer = torch.optim.SparseAdam(list(table.parameters()))
    sooner.gradient.ClipNorm(optimizer)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(sooner.SoonerError, match="clip_norm takes no sparse gradients; build the embedding"):
        optimizer.step()
    p = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    p.grad = torch.ones_like(p)
    optimizer = torch.optim.SGD([p], lr=1.0)
    sooner.gradient.PerpGrad(optimizer)
    with pytest.raises(sooner.SoonerError, match="perpgrad takes no complex parameters"):
        optimizer.step()


def test_something_else_than_optimizers_is_refused():
    for wrong in ([], "adamw", [net()]):
        with pytest.raises(sooner.SoonerError, match=r"clip_norm: optimizer=.* is no optimizer; pass one, or a list"):
            sooner.gradient.ClipNorm(wrong)


@dataclass(frozen=True)
class Running(Transform):
    """A rule with state: adds up all gradients so far."""

    slots: ClassVar[tuple[str, ...]] = ("running",)

    def rule(self, u, state, theta, clock):
        total = state["running"] + u
        return total, {"running": total}


class RunningSum(GradientPart):
    """A part with state."""

    def __init__(self, optimizer):
        super().__init__(optimizer, Running())


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_state_of_a_rule_goes_on_bit_for_bit(optimizer):
    def start():
        model = net()
        return model, Recipe(sooner.slot(RunningSum), *Recipe(optimizer).slots).build(model, 9)

    model, training = start()
    model[4].bias.requires_grad_(False)  # joins later, so that the state is regrouped
    for step in range(3):
        lose(model, step).backward()
        training.step()
        training.zero_grad()
        model[4].bias.requires_grad_(step > 0)
    saved = copy.deepcopy((model.state_dict(), training.state_dict()))
    other, resumed = start()
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    advance(model, training, 3, first=3)
    advance(other, resumed, 3, first=3)
    assert all(torch.equal(a, b) for a, b in zip(weights(model), weights(other), strict=True))
    third, fresh = start()
    third.load_state_dict(saved[0])
    fresh.load_state_dict({**saved[1], "parts": start()[1].state_dict()["parts"]})
    advance(third, fresh, 3, first=3)
    assert not all(torch.equal(a, b) for a, b in zip(weights(model), weights(third), strict=True))


def test_the_state_of_another_model_is_refused():
    big = sooner.gradient.ClipNorm(torch.optim.SGD(net().parameters(), lr=1.0))
    small = sooner.gradient.ClipNorm(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0))
    with pytest.raises(sooner.SoonerError, match="clip_norm: the state is for 6 parameters, these optimizers have 2"):
        small.load_state_dict(big.state_dict())


@pytest.mark.parametrize(
    "optimizer", ["adamw + cosine", "muon", "torch.optim.SGD(lr=0.1, momentum=0.9)", OPTIMIZERS["two"]]
)
@pytest.mark.parametrize("rule", RULES)
def test_the_loop_trains_with_it_and_resumes_bit_for_bit(rule, optimizer, tmp_path):
    task = from_file(TINY)
    recipe = f"{rule} + {optimizer}"
    straight = sooner.train(task, recipe, 3)
    assert straight.diverged_at is None
    assert len(set(straight.losses.tolist())) == 12

    class StopError(Exception):
        pass

    def stop(step, value):
        if step > 6:
            raise StopError

    with pytest.raises(StopError):
        sooner.train(task, recipe, 3, checkpoint=tmp_path / "run.pt", save_every=6, progress=stop)
    resumed = sooner.train(task, recipe, 3, checkpoint=tmp_path / "run.pt")
    assert torch.equal(straight.losses, resumed.losses)
    for a, b in zip(straight.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
