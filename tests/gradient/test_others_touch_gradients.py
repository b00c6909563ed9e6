"""GradScaler, skipped steps, wrapped and copied optimizers, workers, edited groups: rules see the right gradients."""

import copy
import io
import json
import math
import pickle
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from wrapped_optimizers import Accelerated, Lightning

import sooner
from sooner.foundation import hooks
from sooner.gradient import ClipAdaptive, ClipNorm, ClipValue, PerpGrad
from sooner.recipe.training import Training
from sooner.schedule.refined import NormLog

RULES = {
    "clip_norm": lambda o: ClipNorm(o, max_norm=1.0),
    "clip_value, fixed": lambda o: ClipValue(o, fraction=None, value=0.1),
    "clip_value": lambda o: ClipValue(o, fraction=0.3, refresh=2),
    "clip_adaptive": lambda o: ClipAdaptive(o, clipping=0.1),
    "perpgrad": PerpGrad,
    "two of them": lambda o: [PerpGrad(o), ClipNorm(o, max_norm=0.01)][1],
}
OURS_AND_TORCHS = [torch.optim.SGD, sooner.update.SGD]


def step(p, optimizer, gradient):
    """Take a step with a gradient of equal entries, and return how far the parameter has moved."""
    before = p.detach().clone()
    p.grad = torch.full_like(p, gradient)
    optimizer.step()
    return float((before - p.detach()).double().norm())


def single(make=torch.optim.SGD, **settings):
    p = nn.Parameter(torch.zeros(4))
    return p, make([p], lr=1.0, momentum=0.0, **settings)


def scaled_run(make, rule, how):
    """Train six steps, the fourth with an infinity, and return weights, logged norms, counted steps and the scale."""
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    optimizer = make(net.parameters(), fused="fused" in how)
    part, log = RULES[rule](optimizer), NormLog(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=3000.0, growth_interval=2, enabled=how != "plain")
    for number in range(6):
        torch.manual_seed(number)
        x = torch.randn(5, 4) * (math.inf if number == 3 else 1.0)
        if number == 3 and how == "plain":
            continue
        scaler.scale(net(x).square().sum()).backward()
        if "unscale_" in how:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        assert not hasattr(optimizer, "grad_scale")
        scaler.update()
        optimizer.zero_grad()
    weights = torch.cat([p.detach().flatten() for p in net.parameters()])
    return weights, log.norms(), torch.tensor(part.steps), scaler.get_scale()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
def test_rules_and_logs_see_unscaled_gradients_and_count_no_step_that_a_scaler_leaves_out(make, rule):
    plain = scaled_run(make, rule, "plain")
    for how in ("scaler", "scaler, unscale_", "fused", "fused, unscale_"):
        found = scaled_run(make, rule, how)
        for a, b in zip(plain[:3], found[:3], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        assert found[3] == 3000.0 * 2 * 0.5 * 2  # grown after two steps, halved at the infinity, grown again


def test_a_scale_that_somebody_set_is_found_again_and_gradients_as_the_fused_step_leaves_them():
    p, optimizer = single(fused=True)
    RULES["clip_norm"](optimizer)
    optimizer.grad_scale = torch.tensor(8.0)
    assert step(p, optimizer, 4.0) == pytest.approx(1.0, abs=1e-5)  # entries of 1/2
    assert float(optimizer.grad_scale) == 8.0  # as who set it would find it
    assert float(p.grad[0]) == 0.5  # as the fused step of torch leaves it


def test_float16_gradients_keep_their_scale_or_are_refused():
    p = nn.Parameter(torch.zeros(4, dtype=torch.float16))
    optimizer = torch.optim.SGD([p], lr=1.0, fused=True)
    ClipNorm(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((p * 5).sum()).backward()
    with pytest.raises(sooner.SoonerError, match=r"SGD: float16 gradients lose their small entries .* use autocast"):
        scaler.step(optimizer)


@pytest.mark.parametrize("fused", [False, True])
def test_optimizers_that_share_a_norm_unscale_first_or_are_told(fused):
    for unscaled in (True, False):
        (a, first), (b, second) = single(fused=fused), single(fused=fused)
        ClipNorm([first, second], max_norm=1.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        scaler.scale((5 * a + 5 * b).sum()).backward()
        if unscaled:
            scaler.unscale_(first)
            scaler.unscale_(second)
            scaler.step(first)
            scaler.step(second)
            assert float(torch.cat([a, b]).detach().norm()) == pytest.approx(1.0)
            continue
        scaler.step(first)
        with pytest.raises(sooner.SoonerError, match="clip_norm: the gradients of SGD have changed since the step of"):
            scaler.step(second)


@pytest.mark.parametrize("make", OURS_AND_TORCHS)
def test_optimizers_that_share_a_norm_need_no_context(make):
    (a, first), (b, second) = single(make), single(make)
    part = ClipNorm([first, second], max_norm=1e-3)
    raw = [torch.ones(4), torch.ones(4)]
    for _ in range(2):
        a.data.zero_(), b.data.zero_()
        a.grad, b.grad = raw
        first.step()
        assert b.grad is raw[1]
        second.step()
        assert float(torch.cat([a, b]).norm().detach()) == pytest.approx(1e-3, rel=1e-3)
        assert a.grad is raw[0]
    assert part.steps == 2


def test_shared_rules_follow_one_another_over_all_their_optimizers():
    weights = [nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.tensor([1.0, 0.0]))]
    before = [p.detach().clone() for p in weights]
    optimizers = [torch.optim.SGD([p], lr=1.0) for p in weights]
    for one in optimizers:
        PerpGrad(one)
    ClipNorm(optimizers, max_norm=1.0)
    for p in weights:
        p.grad = torch.tensor([1.0, 1.0])
    for one in reversed(optimizers):
        one.step()
    moved = [old - p.detach() for old, p in zip(before, weights, strict=True)]
    for found, direction in zip(moved, ([0.8, -0.6], [0.0, 1.0]), strict=True):  # each as long as before, 2 ** 0.5
        torch.testing.assert_close(found, torch.tensor(direction) * 0.5**0.5, rtol=1e-5, atol=1e-6)


def test_gradients_that_come_one_after_the_other_are_clipped_as_they_come():
    (a, first), (b, second) = single(), single()
    ClipNorm([first, second], max_norm=1.0)
    for p, one in ((a, first), (b, second), (a, first), (b, second)):
        assert step(p, one, 5.0) == pytest.approx(1.0)
        one.zero_grad()


def test_an_optimizer_that_rests_for_a_round_keeps_its_gradients():
    (a, first), (b, second) = single(), single()
    ClipNorm([first, second], max_norm=1.0)
    a.grad, b.grad = torch.full((4,), 3.0), torch.full((4,), 4.0)
    first.step()
    first.zero_grad()
    a.grad = torch.full((4,), 3.0)
    b.grad += 0  # as if another backward pass had added to it
    first.step()
    second.step()
    assert float(b.detach().norm()) == pytest.approx(0.8)
    assert float(b.grad[0]) == 4.0


@pytest.mark.parametrize("left_out", [True, False])
def test_a_step_that_the_optimizer_leaves_out_counts_for_nobody(left_out):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = sooner.update.SGD(net.parameters(), lr=1.0, non_finite="skip")
    part = ClipAdaptive(optimizer, skip_last=left_out, model=net)
    clamp, log = ClipValue(optimizer, fraction=None, value=0.1), NormLog(optimizer)  # hides infinities
    schedule = sooner.schedule.Linear(optimizer, 10, warmup=0.0)
    for entry in (1.0, math.inf, math.nan, 1.0):
        before = [p.detach().clone() for p in net.parameters()]
        for p in net.parameters():
            p.grad = torch.full_like(p, entry)
        optimizer.step()
        schedule.step()
        same = [torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)]
        assert optimizer.last_step_taken is math.isfinite(entry) is not all(same)
    assert schedule.last_epoch == len(log.norms()) == 2
    assert part.steps == clamp.steps == (2 if left_out else 0)  # where rules join the chains, these count
    assert optimizer.non_finite_steps == 2


def test_a_schedule_made_after_a_step_that_was_left_out_starts():
    p, optimizer = single(sooner.update.SGD, non_finite="skip")
    step(p, optimizer, math.nan)
    schedule = sooner.schedule.Linear(optimizer, 4, warmup=0.0)
    assert schedule.last_epoch == 0


@pytest.mark.parametrize("wrapper", [Accelerated, Lightning])
@pytest.mark.parametrize("make", OURS_AND_TORCHS)
def test_parts_on_a_wrapped_optimizer_hang_on_the_real_one(make, wrapper):
    p, optimizer = single(make)
    wrapped = wrapper(optimizer)
    part, log = ClipNorm(wrapped, max_norm=1.0), NormLog(wrapped)
    assert part.optimizers == [optimizer]
    assert step(p, wrapped, 5.0) == pytest.approx(1.0)
    assert log.norms().tolist() == [10.0]
    assert log.kind == sooner.schedule.refined.Refined(wrapped, 10).kind == "sgd"


def test_the_classes_of_accelerate_and_lightning_themselves():
    accelerate = pytest.importorskip("accelerate")
    fabric = pytest.importorskip("lightning.fabric")
    p, real = single()
    wrapped = accelerate.Accelerator(cpu=True).prepare(real)
    ClipNorm(wrapped, max_norm=1.0)
    assert step(p, wrapped, 5.0) == pytest.approx(1.0)
    _, wrapped = fabric.Fabric(accelerator="cpu", devices=1).setup(nn.Linear(1, 1), torch.optim.SGD([p], lr=1.0))
    ClipNorm(wrapped, max_norm=1.0)
    assert step(p, wrapped, 5.0) == pytest.approx(1.0)


def test_what_has_no_hooks_is_refused():
    class Bare(torch.optim.Optimizer):
        def __init__(self):
            pass

    with pytest.raises(sooner.SoonerError, match="Bare has no hooks for its step, so nothing can be attached to it"):
        ClipNorm(Bare())
    _, optimizer = single()
    with pytest.raises(sooner.SoonerError, match="clip_norm: an optimizer is listed twice; list every one once"):
        ClipNorm([optimizer, Accelerated(optimizer)])


def test_hooks_registered_later_still_come_before_the_rules():
    p, optimizer = single()
    ClipNorm(optimizer, max_norm=1.0)

    def enlarge(*_):
        p.grad.mul_(100.0)

    handle = optimizer.register_step_pre_hook(enlarge)
    assert step(p, optimizer, 5.0) == pytest.approx(1.0)
    assert float(p.grad[0]) == 500.0
    handle.remove()
    assert step(p, optimizer, 0.25) == pytest.approx(0.5)


def pickled(optimizer):
    return pickle.loads(pickle.dumps(optimizer))


def saved(optimizer):
    file = io.BytesIO()
    torch.save(optimizer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, saved])
@pytest.mark.parametrize("make", OURS_AND_TORCHS)
def test_a_copy_of_an_optimizer_has_its_parts_once(make, copied):
    for twice in (False, True):
        p, optimizer = single(make)
        part, log = ClipNorm(optimizer, max_norm=1.0), NormLog(optimizer)
        assert step(p, optimizer, 5.0) == pytest.approx(1.0)
        other = copied(copied(optimizer) if twice else optimizer)
        (q,) = other.param_groups[0]["params"]
        assert step(q, other, 5.0) == pytest.approx(1.0)
        ClipNorm(other, max_norm=0.5)
        other.register_step_pre_hook(lambda *_: None)
        assert step(q, other, 5.0) == pytest.approx(0.5)
        assert step(p, optimizer, 5.0) == pytest.approx(1.0)
        assert len(hooks.hooks_of(other).attachments) == 2
        assert len(log.norms()) == 2  # its own are another's
        assert part.optimizers == [optimizer]


def test_a_model_its_optimizer_and_its_parts_are_copied_together():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    part, log = ClipAdaptive(optimizer, clipping=1e-3, skip_last=True, model=net), NormLog(optimizer)
    net, optimizer, part, log = copy.deepcopy((net, optimizer, part, log))
    assert part.optimizers == [optimizer]
    before = [p.detach().clone() for p in net.parameters()]
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    moved = [float((old - p.detach()).abs().max()) for old, p in zip(before, net.parameters(), strict=True)]
    assert max(moved[:2]) < 0.01 < 0.99 < min(moved[2:])
    assert part.steps == len(log.norms()) == 1


@pytest.mark.parametrize("rule", ["clip_norm", "clip_value, fixed", "clip_adaptive", "perpgrad"])
def test_a_rule_follows_whatever_is_done_to_the_parameters(rule):
    p, optimizer = single()
    RULES[rule](optimizer)

    def same_as_anew():
        (q,) = optimizer.param_groups[0]["params"]
        fresh = nn.Parameter(q.detach().clone())
        other = torch.optim.SGD([fresh], lr=1.0)
        RULES[rule](other)
        g = torch.randn_like(q)
        q.grad, fresh.grad = g, g.clone()
        optimizer.step()
        other.step()
        assert torch.equal(q, fresh)
        optimizer.zero_grad()

    same_as_anew()
    for change in (torch.randn(3, 2), torch.randn(3, 2).double(), torch.randn(3, 2).bfloat16(), torch.randn(7)):
        p.data = change
        same_as_anew()
    optimizer.param_groups[0]["params"][0] = nn.Parameter(torch.randn(2, 2))
    same_as_anew()
    p.grad = None
    late = nn.Parameter(torch.ones(3))
    optimizer.add_param_group({"params": [late]})
    (head,) = optimizer.param_groups[0]["params"]
    head.grad, late.grad = torch.zeros(2, 2), torch.tensor([0.0, 0.0, 9.0])
    optimizer.step()
    assert 0 < float((1 - late.detach()).norm()) < 8.99 or rule == "perpgrad"
    del optimizer.param_groups[0]
    late.grad = torch.ones(3)
    optimizer.step()


def test_a_gradient_of_another_shape_is_refused():
    p, optimizer = single()
    ClipNorm(optimizer)
    p.grad = torch.ones(4)
    p.data = torch.zeros(6)
    with pytest.raises(sooner.SoonerError, match="clip_norm: a parameter was resized after its gradient was found"):
        optimizer.step()


def test_a_replaced_output_layer_is_left_out_too():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False))
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    ClipAdaptive(optimizer, skip_last=True, model=net)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    net[1] = nn.Linear(4, 3, bias=False)
    optimizer.param_groups[0]["params"][1] = net[1].weight
    assert step(net[1].weight, optimizer, 1.0) == pytest.approx(12**0.5)


def test_a_step_inside_a_step_counts_once():
    class Outer(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    single()  # from here on torch runs hooks in the step of SGD, and below also in that of Outer
    p, optimizer = single(Outer)
    part, log = ClipNorm(optimizer, max_norm=1.0), NormLog(optimizer)
    assert step(p, optimizer, 5.0) == pytest.approx(1.0)
    assert part.steps == len(log.norms()) == hooks.steps_taken(optimizer) == 1


@pytest.mark.parametrize("make", OURS_AND_TORCHS)
def test_norms_are_logged_once_per_step_with_a_closure(make):
    p, optimizer = single(make)
    log = NormLog(optimizer)
    ClipNorm(optimizer, max_norm=1.0)

    def closure():
        optimizer.zero_grad()
        loss = (5 * p).sum()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
        assert float(p.grad[0]) == 5.0
    assert log.norms().tolist() == [10.0, 10.0]
    p.grad = torch.full_like(p, 2.0)
    optimizer.step(lambda: None)  # Lightning passes such a closure where gradients were found before
    assert log.norms().tolist() == [10.0, 10.0, 4.0]
    assert float(p.detach().norm()) == pytest.approx(3.0)


def test_rules_that_cannot_reach_gradients_found_inside_a_step_refuse():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    optimizer = sooner.update.SophiaG(net.parameters())
    log = NormLog(optimizer)

    def closure():
        return nn.functional.cross_entropy(net(torch.ones(1, 2)), torch.tensor([1]))

    for _ in range(3):
        closure().backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in net.parameters()], 1.0)
        optimizer.step(closure)
        optimizer.zero_grad()
        torch.testing.assert_close(log.norms()[-1], norm)
    assert len(log.norms()) == 3
    ClipAdaptive(optimizer, clipping=0.0, eps=0.0, skip_last=True, model=net)  # Sophia says when they are found
    before = [p.detach().clone() for p in net.parameters()]
    for group in optimizer.param_groups:
        group["betas"], group["weight_decay"] = (0.0, 0.99), 0.0
    optimizer.step(closure)
    moved = [not torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]
    own = sooner.update.GradNormSmooth(net.parameters())
    ClipAdaptive(own, skip_last=True, model=net)
    with pytest.raises(
        sooner.SoonerError, match="clip_adaptive: GradNormSmooth finds its gradients inside its own step"
    ):
        own.step(closure)


def test_the_norm_of_the_last_step_can_be_read_for_logging():
    p, optimizer = single(sooner.update.SGD)
    ClipNorm(optimizer, max_norm=1e-3)
    step(p, optimizer, 5.0)
    optimizer.zero_grad()
    with pytest.raises(
        sooner.SoonerError, match="gradient_norm: the gradients of the last step are gone; read it once"
    ):
        optimizer.gradient_norm
    p, optimizer = single(sooner.update.SGD)
    ClipNorm(optimizer, max_norm=1e-3)
    step(p, optimizer, 5.0)
    assert float(optimizer.gradient_norm) == 10.0
    assert optimizer.gradient_norm.shape == ()
    optimizer.zero_grad()
    assert float(Lightning(optimizer).gradient_norm) == 10.0
    step(p, optimizer, 1.0)
    optimizer.zero_grad(set_to_none=False)
    assert float(optimizer.gradient_norm) == 2.0
    p.grad = torch.full_like(p, 7.0)
    assert float(optimizer.gradient_norm) == 2.0  # of the last step, not of the next
    optimizer.zero_grad()
    optimizer.step()
    assert float(optimizer.gradient_norm) == 2.0  # no gradient, no step


def test_the_norm_of_halves_is_added_up_in_single_precision():
    p = nn.Parameter(torch.zeros(4, dtype=torch.float16))
    optimizer = sooner.update.SGD([p], lr=0.0)
    p.grad = torch.full_like(p, 60000.0)
    optimizer.step()
    assert float(optimizer.gradient_norm) == pytest.approx(120000.0, rel=1e-3)
    wide, other = single(sooner.update.SGD)
    training = Training(nn.Linear(1, 1), [optimizer, other], [])
    wide.grad = torch.full_like(wide, 25000.0)
    other.step()
    assert float(training.gradient_norm) == pytest.approx(math.hypot(120000.0, 50000.0), rel=1e-3)


SCRIPT = Path(__file__).with_name("gradient_ranks.py")
CHECKS = re.findall(r"^def check_(\w+)", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def outcome(ranks):
    """Run all checks in one pair of processes, and return what failed by check and rank."""
    both = ranks([SCRIPT])
    both.codes()
    lines = [json.loads(line) for n in (0, 1) for line in both.printed(n).splitlines() if line.startswith("{")]
    return {(one["check"], one["rank"]): one["failed"] for one in lines}, both.said(0) + both.said(1)


@pytest.mark.parametrize("check", CHECKS)
def test_on_two_processes(outcome, check):
    failures, errors = outcome
    for rank in (0, 1):
        assert (check, rank) in failures, f"not reached: {errors[-2000:]}"
        assert not failures[check, rank], f"rank {rank}: {failures[check, rank]}"
