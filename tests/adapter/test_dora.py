"""DoRA against a dense transcription in float64 and against peft; adapters that come, train, go and are shared."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import sooner
from sooner.adapter import DoRA, factored_norm
from sooner.adapter.dora import DoRALinear
from sooner.error import SoonerError


def dense(x, w, a, b, m, s, bias):
    """The paper's layer as written: the norm is a constant, and the weight is formed."""
    changed = w + s * b @ a
    norm = changed.detach().norm(dim=1)
    return x @ (m[:, None] * changed / norm[:, None]).T + bias


@settings(max_examples=25)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.floats(-3, 3), st.integers(0, 99))
def test_the_norm_from_factors_is_the_norm(rows, columns, rank, scale, seed):
    g = torch.Generator().manual_seed(seed)
    w, a, b = (
        torch.randn(s, generator=g, dtype=torch.float64) for s in ((rows, columns), (rank, columns), (rows, rank))
    )
    expected = (w + scale * b @ a).norm(dim=1)
    assert torch.allclose(factored_norm(w, a, b, scale), expected, rtol=1e-6, atol=1e-7)
    small = w.bfloat16()
    expected = (small.double() + scale * b @ a).norm(dim=1)
    assert torch.allclose(factored_norm(small, a, b, scale), expected, rtol=1e-6, atol=1e-7)


def test_the_norm_never_forms_the_product():
    w, a, b = torch.randn(256, 256), torch.randn(8, 256), torch.randn(256, 8)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        factored_norm(w, a, b, 1.0)
    events = seen.profiler.kineto_results.events()
    assert max((e.nbytes() for e in events if e.name() == "[memory]"), default=0) <= 256 * 256 * 4 / 8


def test_a_norm_that_rounds_below_zero_is_zero():
    w, a = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]])
    assert factored_norm(w, a, torch.tensor([[-1.0]]), 1.0).item() == 0.0


def adapted(seed=0, dtype=torch.float64, **settings):
    torch.manual_seed(seed)
    layer = nn.Linear(5, 4, dtype=dtype)
    DoRA(layer, rank=3, alpha=6.0, **settings)
    with torch.no_grad():
        layer.lora_B.normal_()
        layer.magnitude.mul_(1.3)
    return layer


def test_outputs_and_gradients_are_those_of_the_dense_layer():
    layer = adapted()
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    a, b, m = (p.detach().clone().requires_grad_() for p in (layer.lora_A, layer.lora_B, layer.magnitude))
    theirs = dense(x, layer.weight, a, b, m, 2.0, layer.bias)
    ours = layer(x)
    assert torch.allclose(ours, theirs, rtol=1e-12)
    slopes = torch.autograd.grad(ours.sin().sum(), [x, layer.lora_A, layer.lora_B, layer.magnitude])
    expected = torch.autograd.grad(theirs.sin().sum(), [x, a, b, m])
    for slope, other in zip(slopes, expected, strict=True):
        assert torch.allclose(slope, other, rtol=1e-10)
    assert not layer.weight.requires_grad
    assert not layer.bias.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_at_first_nothing_changes(dtype):
    layer = nn.Linear(6, 4).to(dtype)
    x = torch.randn(3, 6).to(dtype)
    before = layer(x)
    part = DoRA(layer)
    assert part.adapted == [""]
    assert layer.magnitude.dtype is torch.float32
    assert layer(x).dtype is dtype
    assert torch.allclose(layer(x).float(), before.float(), atol=1e-2 if dtype.itemsize == 2 else 1e-6)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 7))


def test_which_layers_and_what_else_is_trained():
    model = net()
    assert DoRA(model, rank=2, layers="1", train="3.*").adapted == ["1"]
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"1.lora_A", "1.lora_B", "1.magnitude", "3.weight", "3.bias"}
    assert isinstance(model[1], nn.Linear)
    assert "rank=2" in repr(model)


def test_copies_pickles_state_files_and_casts():
    model = net()
    part = DoRA(model, rank=2)
    with torch.no_grad():
        model[1].lora_B.normal_()
    x = torch.arange(7)
    expected = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), expected)
    fresh = net()
    DoRA(fresh, rank=2)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), expected)
    assert torch.allclose(torch.compile(model, backend="eager")(x), expected)
    assert model.double()(x).dtype is torch.float64
    twin, other = copy.deepcopy((model, part))
    assert other.model is twin


def test_export_merges():
    model = net()
    part = DoRA(model, rank=2)
    with torch.no_grad():
        for layer in (model[1], model[3]):
            layer.lora_B.normal_()
    x = torch.arange(7)
    expected = model(x)
    plain = part.export(copy.deepcopy(model))
    assert [type(m) for m in plain] == [nn.Embedding, nn.Linear, nn.Tanh, nn.Linear]
    assert set(plain.state_dict()) == set(net().state_dict())
    assert torch.allclose(plain(x), expected, rtol=1e-5, atol=1e-6)


def test_a_tied_weight_is_not_changed_elsewhere_by_export():
    model = net()
    model[3] = nn.Linear(6, 7, bias=False)
    model[3].weight = model[0].weight
    part = DoRA(model, rank=2, layers="3")
    with torch.no_grad():
        model[3].lora_B.normal_()
    table, expected = model[0].weight.clone(), model(torch.arange(7))
    plain = part.export(model)
    assert torch.equal(plain[0].weight, table)
    assert torch.allclose(plain(torch.arange(7)), expected, rtol=1e-5, atol=1e-6)


def test_in_a_recipe_few_weights_are_trained_and_resumed(tmp_path):
    recipe = "dora(rank=2, layers='head') + muon(on='*.lora_*') + adamw(on='rest')"
    task = sooner.workload("digits")
    straight = sooner.train(task, recipe, 1, 4)
    assert isinstance(straight.model.head, DoRALinear)
    started = sooner.Recipe(recipe).build(task.model(1), 4, seed=1)
    assert started.model.head.lora_A.requires_grad

    def stop(step, value):
        if step > 2:
            raise KeyboardInterrupt

    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        sooner.train(task, recipe, 1, 4, checkpoint=file, save_every=2, progress=stop)
    again = sooner.train(task, recipe, 1, 4, checkpoint=file)
    assert torch.equal(straight.losses, again.losses)
    assert straight.values == again.values


@pytest.mark.parametrize(
    ("model", "settings", "sentence"),
    [
        (nn.Linear(2, 2), {"rank": 0}, r"dora: rank=0 is not a whole number in \[1"),
        (net(), {"layers": "x.*"}, r"dora: layers='x.\*' matches no linear layer among 1, 3; change it"),
        (net(), {"train": "x.*"}, r"dora: train='x.\*' matches no parameter"),
        (nn.Linear(2, 2, device="meta"), {}, "dora: weight is on the meta device"),
        (nn.DataParallel(nn.Linear(2, 2)), {}, "dora: the model is inside DataParallel"),
    ],
)
def test_what_can_t_be_done_is_refused(model, settings, sentence):
    with pytest.raises(SoonerError, match=sentence):
        DoRA(model, **settings)


def with_peft(dtype=torch.float32, **settings):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    config = peft.LoraConfig(r=3, lora_alpha=6, use_dora=True, target_modules=["0", "2"], **settings)
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_()
            if "magnitude" in name:
                p.mul_(1.2)
    return model


@pytest.mark.parametrize("settings", [{}, {"lora_dropout": 0.5}, {"use_rslora": True}])
def test_peft_s_layers_give_the_same_outputs_and_gradients(settings):
    theirs = with_peft(**settings)
    ours = copy.deepcopy(theirs)
    assert sooner.adapter.factored_dora(ours) == 2
    assert sooner.adapter.factored_dora(ours) == 0
    assert list(ours.state_dict()) == list(theirs.state_dict())
    found = []
    for model in (theirs, ours):
        torch.manual_seed(5)
        x = torch.randn(4, 6, requires_grad=True)
        out = model(x)
        out.square().sum().backward()
        found.append([out, x.grad, *(p.grad for p in model.parameters() if p.requires_grad)])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=2e-5, atol=1e-6)
    pickle.loads(pickle.dumps(ours))


def test_peft_in_half_precision_is_no_worse_than_peft():
    theirs = with_peft(torch.bfloat16)
    ours = copy.deepcopy(theirs)
    sooner.adapter.factored_dora(ours)
    exact = copy.deepcopy(theirs).double()
    x = torch.randn(16, 6).bfloat16()
    truth = exact(x.double())
    error = [(model(x).double() - truth).norm() for model in (theirs, ours)]
    assert error[1] < 1.2 * error[0]


def test_our_layer_is_peft_s():
    theirs = with_peft()
    layer = theirs.base_model.model[0]
    ours = nn.Linear(6, 8)
    DoRA(ours, rank=3, alpha=6.0)
    with torch.no_grad():
        ours.weight.copy_(layer.base_layer.weight)
        ours.bias.copy_(layer.base_layer.bias)
        ours.lora_A.copy_(layer.lora_A["default"].weight)
        ours.lora_B.copy_(layer.lora_B["default"].weight)
        ours.magnitude.copy_(layer.lora_magnitude_vector["default"].weight)
    x = torch.randn(4, 6)
    assert torch.allclose(ours(x), layer(x), rtol=1e-5, atol=1e-6)


def test_a_model_without_such_layers_of_peft_is_refused():
    pytest.importorskip("peft")
    with pytest.raises(SoonerError, match="factored_dora: the model has no DoRA layer over a linear one"):
        sooner.adapter.factored_dora(nn.Linear(2, 2))


def test_functional_code_can_batch_it():
    layer = adapted()
    x = torch.randn(3, 2, 5, dtype=torch.float64)
    names = dict(layer.named_parameters())
    stacked = {n: p.detach().expand(3, *p.shape) for n, p in names.items()}
    found = torch.func.vmap(lambda p, one: torch.func.functional_call(layer, p, (one,)))(stacked, x)
    assert torch.allclose(found, layer(x))
    assert functional.mse_loss(found, layer(x)).item() < 1e-20
