"""Groups, parameters and state that somebody edits between two steps, in every executor."""

import copy
import io

import pytest
import torch
from torch import nn

from sooner.error import SoonerError
from sooner.execute import using
from sooner.update import SGD, AdaGradNorm, AdamP, AdamW, Muon, NormalizedGD

every_executor = pytest.mark.parametrize("executor", ["eager", "native"])


@pytest.fixture
def stepping(executor):
    with using(executor):
        yield


def parameter(*shape, value=0.0, dtype=torch.float32):
    return nn.Parameter(torch.full(shape, value, dtype=dtype))


def step(optimizer, *params, gradient=1.0):
    """Step with constant gradients and return by how much each parameter moved."""
    before = [p.detach().clone() for p in params]
    for p in params:
        p.grad = torch.full_like(p, gradient)
    optimizer.step()
    return [(p.detach() - b).double().mean().item() for p, b in zip(params, before, strict=True)]


@pytest.mark.usefixtures("stepping")
@every_executor
@pytest.mark.parametrize("edit", ["remove", "reverse", "regroup", "rates"])
def test_settings_stay_with_their_own_parameters(executor, edit):
    a, b = parameter(4, 5), parameter(4, 5)
    optimizer = AdamW([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.001}], weight_decay=0)
    step(optimizer, a, b)
    groups = optimizer.param_groups
    if edit == "remove":
        del groups[0]
        expected = 0.0, -0.001
    elif edit == "reverse":
        groups.reverse()
        expected = -0.1, -0.001
    elif edit == "regroup":
        groups[0]["params"], groups[1]["params"] = [b], [a]
        expected = -0.001, -0.1
    else:
        groups[1]["lr"] = 0.1
        expected = -0.1, -0.1
    assert step(optimizer, a, b) == pytest.approx(expected, rel=1e-5, abs=1e-12)


@pytest.mark.usefixtures("stepping")
@every_executor
def test_a_parameter_put_in_the_place_of_another_trains(executor):
    p, q = parameter(4, 5), parameter(6, 5)
    optimizer = AdamW([p], lr=0.1, weight_decay=0)
    step(optimizer, p)
    optimizer.param_groups[0]["params"][0] = q
    assert step(optimizer, q) == pytest.approx([-0.1], rel=1e-5)
    assert int(optimizer.state[q]["step"]) == 1


@pytest.mark.usefixtures("stepping")
@every_executor
@pytest.mark.parametrize("method", [AdaGradNorm, NormalizedGD, AdamW, AdamP, SGD])
def test_state_moved_to_another_parameter_goes_on(executor, method):
    p, q = parameter(4, 5), parameter(6, 5)
    optimizer = method([p])
    step(optimizer, p)
    moved = optimizer.state.pop(p)
    optimizer.state[q] = {
        slot: torch.cat([t, torch.zeros(2, 5)]) if t.ndim == 2 else t for slot, t in moved.items()
    }  # as Gaussian splatting does when it makes more
    optimizer.param_groups[0]["params"][0] = q
    step(optimizer, q)
    assert int(optimizer.state[q]["step"]) == 2
    assert q.abs().max() > 0


@pytest.mark.usefixtures("stepping")
@every_executor
@pytest.mark.parametrize("method", [AdamW, AdamP, SGD, Muon])
@pytest.mark.parametrize("rows", [200, 600])
def test_a_parameter_resized_under_its_state_is_refused_by_name_and_nothing_moves(executor, method, rows):
    p, other = nn.Parameter(torch.randn(400, 5)), nn.Parameter(torch.randn(400, 5))
    optimizer = method([("a.weight", p), ("b.weight", other)])
    step(optimizer, p, other)
    p.data = torch.zeros(rows, 5)
    p.grad, kept, before = torch.ones(rows, 5), other.detach().clone(), p.detach().clone()
    with pytest.raises(SoonerError, match=r"parameter 'a.weight' of shape .* has .* of shape \(400, 5\)"):
        optimizer.step()
    assert torch.equal(other, kept)
    assert torch.equal(p, before)
    assert int(optimizer.state[other]["step"]) == 1
    del optimizer.state[p]
    step(optimizer, p, other)
    assert int(optimizer.state[p]["step"]) == 1


@pytest.mark.usefixtures("stepping")
@every_executor
def test_a_gradient_of_the_old_shape_is_refused(executor):
    p = nn.Parameter(torch.zeros(400, 5))
    optimizer = SGD([p], momentum=0.0)
    step(optimizer, p)
    p.data = torch.zeros(200, 5)  # the gradient stays as it was
    with pytest.raises(SoonerError, match="gradient of shape"):
        optimizer.step()


@pytest.mark.usefixtures("stepping")
@every_executor
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_part_of_a_model_may_change_its_precision(executor, dtype):
    model = nn.ModuleList([nn.Linear(30, 20, bias=False) for _ in range(2)])
    optimizer = AdamW(model, lr=0.125, weight_decay=0)
    step(optimizer, *model.parameters())
    model[1].to(dtype)
    moved = step(optimizer, *model.parameters())
    assert moved == pytest.approx([-0.125] * 2, rel=1e-2)
    (state,) = (optimizer.state[p] for p in model[1].parameters())
    assert state["exp_avg"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert int(state["step"]) == 2


@pytest.mark.usefixtures("stepping")
@every_executor
@pytest.mark.parametrize("how", ["in place", "fill", "a number", "another tensor"])
def test_a_step_count_reset_by_hand_counts(executor, how):
    p, other = parameter(3), parameter(3)
    optimizer = AdamW([p, other], lr=1.0, weight_decay=0)
    for _ in range(3):
        step(optimizer, p, other)
    for slot in ("exp_avg", "exp_avg_sq"):
        optimizer.state[p][slot].zero_()
    if how == "in place":
        optimizer.state[p]["step"].zero_()
    elif how == "fill":
        optimizer.state[p]["step"].fill_(0)
    else:
        optimizer.state[p]["step"] = 0 if how == "a number" else torch.tensor(0.0)
    assert step(optimizer, p, other) == pytest.approx([-1.0, -1.0], rel=1e-5)
    assert [int(optimizer.state[q]["step"]) for q in (p, other)] == [1, 4]


@pytest.mark.usefixtures("stepping")
@every_executor
def test_momentum_that_rests_is_not_forgotten(executor):
    p = parameter(1)
    optimizer = SGD([p], lr=1.0, momentum=0.9)
    moved = []
    for momentum in (0.9, 0.0, 0.9):
        optimizer.param_groups[0]["momentum"] = momentum
        moved += step(optimizer, p)
        loaded = SGD([p], lr=1.0)
        loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        optimizer = loaded
    assert moved == pytest.approx([-1.0, -1.0, -1.9])


def test_momentum_that_rests_is_saved_too():
    p = parameter(4)
    optimizer = NormalizedGD([p], momentum=0.9)
    step(optimizer, p)
    optimizer.param_groups[0]["momentum"] = 0.0
    NormalizedGD([p]).load_state_dict(copy.deepcopy(optimizer.state_dict()))


@pytest.mark.usefixtures("stepping")
@every_executor
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["plain", "transposed"])
@pytest.mark.parametrize("method", [SGD, AdamP])
def test_parameters_that_share_memory_step_one_after_the_other(executor, dtype, layout, method):
    torch.manual_seed(0)
    start, first, second = torch.randn(3, 4, 4).to(dtype)
    p, q = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = method([p, q], lr=0.1)
    step(optimizer, p, q)  # each by itself
    p.data = start.clone().mT.contiguous().mT if layout == "transposed" else start.clone()
    q.data = p.data
    alone = nn.Parameter(start.clone())
    for own, gradient in ((p, first), (q, second)):
        one = method([alone], lr=0.1)
        one.load_state_dict(
            {
                "state": {0: {k: v.clone() for k, v in optimizer.state[own].items()}},
                "param_groups": [{**optimizer.param_groups[0], "params": [0]}],
            }
        )
        alone.grad = gradient
        one.step()
    p.grad, q.grad = first, second
    optimizer.step()
    assert torch.equal(p, alone)
    assert torch.equal(q, alone)


@pytest.mark.usefixtures("stepping")
@every_executor
def test_gradients_of_several_precisions_are_taken_exactly(executor):
    a, b = parameter(4, value=1.0, dtype=torch.bfloat16), parameter(4, value=1.0, dtype=torch.bfloat16)
    b.grad_dtype = torch.float32
    a.grad, b.grad = torch.ones(4, dtype=torch.bfloat16), torch.full((4,), 1 + 2.0**-12)
    optimizer = SGD([a, b], lr=1e-9)
    optimizer.step()
    assert optimizer.state[b]["momentum_buffer"].tolist() == [1 + 2.0**-12] * 4


@pytest.mark.usefixtures("stepping")
@every_executor
def test_gradients_that_are_negated_views_are_read_as_they_are(executor):
    p = parameter(4)
    p.grad = torch._neg_view(torch.full((4,), -1.0))
    SGD([p], lr=1.0, momentum=0.0).step()
    assert p.tolist() == [-1.0] * 4


@pytest.mark.usefixtures("stepping")
@every_executor
def test_autograd_notices_that_a_step_changed_what_it_saved(executor):
    p = parameter(4, value=1.0)
    optimizer = SGD([p], lr=1.0)
    loss = (p * p).sum()
    step(optimizer, p)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.usefixtures("stepping")
@every_executor
def test_what_can_not_be_stepped_is_refused(executor):
    expanded, twice = parameter(3), parameter(3)
    expanded.data = torch.ones(1).expand(3)
    optimizer = SGD([expanded])
    expanded.grad = torch.ones(3)
    with pytest.raises(SoonerError, match="expanded view"):
        optimizer.step()
    optimizer = SGD([twice])
    optimizer.param_groups[0]["params"].append(twice)
    with pytest.raises(SoonerError, match="listed twice"):
        step(optimizer, twice)
    optimizer = SGD([parameter(3, dtype=torch.float16)], stochastic_rounding=True)
    with pytest.raises(SoonerError, match="float16, which stochastic_rounding does not serve"):
        step(optimizer, *optimizer.param_groups[0]["params"])


@pytest.mark.usefixtures("stepping")
@every_executor
def test_what_was_refused_is_stepped_once_it_is_mended(executor):
    p = parameter(3)
    optimizer = SGD([p], lr=1.0, momentum=0.0)
    optimizer.step()
    optimizer.param_groups[0]["params"].append(p)
    with pytest.raises(SoonerError, match="listed twice"):
        step(optimizer, p)
    optimizer.param_groups[0]["params"].pop()
    assert step(optimizer, p) == [-1.0]


@pytest.mark.usefixtures("stepping")
@every_executor
def test_switches_may_be_thrown_between_two_steps(executor):
    p = parameter(3, value=1.0, dtype=torch.bfloat16)
    optimizer = SGD([p], lr=1e-4, momentum=0.0)
    step(optimizer, p)
    optimizer.param_groups[0]["master_weights"] = True
    for _ in range(100):
        step(optimizer, p)
    assert p.tolist() == pytest.approx([0.99] * 3, rel=4e-3)
    optimizer.param_groups[0]["maximize"] = True
    for _ in range(200):
        step(optimizer, p)
    assert p.tolist() == pytest.approx([1.01] * 3, rel=4e-3)
    p.data = p.data.half()
    optimizer.param_groups[0]["stochastic_rounding"] = True
    with pytest.raises(SoonerError, match="float16"):
        step(optimizer, p)


@pytest.mark.usefixtures("stepping")
@every_executor
def test_state_that_is_a_negated_view_is_read_as_it_is(executor):
    p, q = parameter(3), parameter(3)
    one, other = SGD([p], lr=1.0), SGD([q], lr=1.0)
    step(one, p)
    step(other, q)
    one.state[p]["momentum_buffer"] = torch._neg_view(-one.state[p]["momentum_buffer"])
    assert step(one, p) == step(other, q)


def test_an_optimizer_without_groups_does_nothing():
    optimizer = SGD([parameter(3)])
    del optimizer.param_groups[0]
    optimizer.step()
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.usefixtures("stepping")
@every_executor
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_master_weights_lose_nothing_and_follow_who_sets_the_parameter(executor, dtype):
    p, exact = parameter(64, value=1.0, dtype=dtype), parameter(64, value=1.0)
    optimizer, reference = (AdamW([q], lr=1e-4, weight_decay=0.1, master_weights=True) for q in (p, exact))
    for t in range(60):
        step(optimizer, p, gradient=1.0 + t)
        step(reference, exact, gradient=1.0 + t)
        if t == 40:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = AdamW([p], master_weights=True)
            optimizer.load_state_dict(saved)
    assert torch.equal(optimizer.state[p]["master_weights"], exact)
    assert torch.equal(p, exact.to(dtype))
    with torch.no_grad():
        p.fill_(2.0)
        exact.fill_(2.0)
    step(optimizer, p)
    step(reference, exact)
    assert torch.equal(optimizer.state[p]["master_weights"], exact)


def test_the_state_of_one_layer_takes_its_own_bytes():
    model = nn.ModuleList([nn.Linear(64, 64, bias=False) for _ in range(20)])
    optimizer = AdamW(model.parameters())
    step(optimizer, *model.parameters())
    file = io.BytesIO()
    torch.save(optimizer.state[model[0].weight], file)
    assert len(file.getvalue()) < 1.1 * 2 * 4 * 64 * 64


# state files


def test_state_is_matched_by_name():
    a, b = parameter(3), parameter(3)
    optimizer = AdamW([("a", a), ("b", b)])
    a.grad, b.grad = torch.ones(3), -torch.ones(3)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    other = AdamW([("b", b), ("a", a)])
    assert other.load_state_dict(saved) == ([], [])
    assert torch.equal(other.state[a]["exp_avg"], optimizer.state[a]["exp_avg"])
    assert other.param_groups[0]["param_names"] == ["b", "a"]
    wrapped = AdamW([("module._orig_mod.b", b), ("module._orig_mod.a", a)])
    wrapped.load_state_dict(saved)
    assert torch.equal(wrapped.state[b]["exp_avg"], optimizer.state[b]["exp_avg"])


def test_other_parameters_are_loaded_on_request_and_named():
    old, new = nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    optimizer = AdamW([("0.weight", old.weight), ("0.bias", old.bias)])
    step(optimizer, *old.parameters())
    saved = copy.deepcopy(optimizer.state_dict())
    grown = AdamW(new.named_parameters())
    with pytest.raises(SoonerError, match=r"knows nothing of 1\.weight, 1\.bias; pass strict=False"):
        grown.load_state_dict(saved)
    assert grown.load_state_dict(saved, strict=False) == (["1.weight", "1.bias"], [])
    step(grown, *new.parameters())
    assert [int(grown.state[p]["step"]) for p in new.parameters()] == [2, 2, 1, 1]
    assert AdamW([("0.bias", old.bias)]).load_state_dict(saved, strict=False) == ([], ["0.weight"])


def test_without_names_only_new_groups_are_told_apart():
    old, new = parameter(3), parameter(3)
    optimizer = AdamW([old])
    step(optimizer, old)
    saved = copy.deepcopy(optimizer.state_dict())
    grown = AdamW([{"params": [old]}, {"params": [new]}])
    with pytest.raises(SoonerError, match=r"the state is for groups of \[1\] parameters, this optimizer has \[1, 1\]"):
        grown.load_state_dict(saved)
    assert grown.load_state_dict(saved, strict=False).new == ["number 0 of group 1"]
    assert int(grown.state[old]["step"]) == 1
    with pytest.raises(SoonerError, match=r"without names it is open which is which; pass model\.named_parameters"):
        AdamW([new, old]).load_state_dict(saved, strict=False)


def test_adam_with_l2_is_another_method():
    p = parameter(1, value=10.0)
    adam = torch.optim.Adam([p], lr=0.1, weight_decay=1.0)
    step(adam, p)
    with pytest.raises(SoonerError, match=r"torch.optim.Adam with weight_decay=1.0, added to the gradient"):
        AdamW([p]).load_state_dict(adam.state_dict())
    adam.param_groups[0]["weight_decay"] = 0
    AdamW([p]).load_state_dict(adam.state_dict())


def test_keywords_of_torch_are_taken_with_one_warning(monkeypatch):
    monkeypatch.setattr("sooner.update._options._told", set())
    with pytest.warns(UserWarning, match="fused=True chooses among the implementations of torch.optim"):
        AdamW([parameter(3)], fused=True, foreach=None)
    AdamW([parameter(3)], fused=True)  # said once; warnings are errors here
    with pytest.raises(TypeError, match="has no setting 'weight_dcay'"):
        AdamW([parameter(3)], weight_dcay=0.1)


@pytest.mark.usefixtures("stepping")
@every_executor
def test_groups_of_one_setting_and_many_settings_step_alike(executor):
    """One loop for all, with numbers of their own, gives what every parameter gets alone."""
    shapes = [(3,), (2, 5), (), (7, 1), (0, 2)]
    many = [parameter(*s, value=1.0, dtype=torch.float64) for s in shapes]
    alone = [parameter(*s, value=1.0, dtype=torch.float64) for s in shapes]
    optimizer = AdamP([{"params": [p], "lr": 0.1 * (1 + i % 2), "weight_decay": 0.1 * i} for i, p in enumerate(many)])
    lone = [AdamP([p], lr=0.1 * (1 + i % 2), weight_decay=0.1 * i) for i, p in enumerate(alone)]
    for t in range(5):
        for i, (p, q) in enumerate(zip(many, alone, strict=True)):
            p.grad = None if (t + i) % 3 == 0 else torch.full_like(p, 0.5 + t)
            q.grad = None if p.grad is None else p.grad.clone()
        optimizer.step()
        for one in lone:
            one.step()
    assert all(torch.allclose(p, q, rtol=1e-14, atol=0) for p, q in zip(many, alone, strict=True))


@pytest.mark.usefixtures("stepping")
@every_executor
def test_a_sum_over_the_model_is_as_exact_as_its_most_exact_parameter(executor):
    narrow, wide = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = AdaGradNorm([narrow, wide], lr=0.1)
    for steps in range(1, 4):
        narrow.grad, wide.grad = torch.zeros(2), torch.full((2,), 0.1, dtype=torch.float64)
        optimizer.step()
        for p in (narrow, wide):
            torch.testing.assert_close(
                optimizer.state[p]["squared_norms"], torch.tensor(0.02 * steps, dtype=torch.float64), rtol=1e-14, atol=0
            )
