"""Rounded weights against plain Python, what the soft clip does, and a model that stays an ordinary one."""

import copy
import io
import logging
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import sooner
from sooner.error import SoonerError
from sooner.precision import FourBit, convert, packed_bytes
from sooner.precision._rounded import Rounded, rounded


def by_hand(values, levels):
    """The paper's code with Python's own numbers (round half to even, as torch rounds)."""
    scale = (max(abs(v) for v in values) + 1e-8) / levels
    return [min(max(round(v / scale), -levels), levels) * scale for v in values]


@settings(max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8), st.integers(2, 8))
def test_it_rounds_as_the_paper_does(values, bits):
    levels = 2 ** (bits - 1) - 1
    w = torch.tensor(values, dtype=torch.float64)
    assert rounded(w, levels).tolist() == pytest.approx(by_hand(values, levels), rel=1e-14, abs=1e-300)


def test_the_gradient_goes_through_without_a_mask():
    w = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad((rounded(w, 7) * torch.arange(9.0)).sum(), w)
    assert slope.tolist() == list(range(9))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_there_are_exactly_fifteen_values_in_every_precision(dtype):
    w = torch.randn(4096).to(dtype).requires_grad_()
    found = rounded(w, 7)
    assert found.dtype is dtype
    assert len(found.unique()) == 15
    assert found.abs().max() == w.abs().max() or dtype.itemsize > 2
    assert not rounded(torch.zeros(3, dtype=dtype), 7).any()


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()), nn.Linear(4 * 4 * 4, 3)
    )


IMAGES = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_every_layer_computes_with_its_rounded_weight():
    plain, model = net(), net()
    part = FourBit(model)
    assert part.layers == ["0", "4"]
    with torch.no_grad():
        for i in (0, 4):
            w = plain[i].weight
            w.copy_(torch.tensor(by_hand(w.double().flatten().tolist(), 7)).view_as(w))
    assert torch.allclose(plain(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 7, 7), (2, 3, 5, 5, 5)])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_all_convolutions(shape, mode):
    kind = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[len(shape)]
    layer = kind(3, 6, 3, padding=1, stride=2, groups=3, padding_mode=mode)
    x = torch.randn(shape)
    plain = copy.deepcopy(layer)
    plain.weight.data = rounded(plain.weight.data, 7)
    FourBit(layer)
    assert torch.equal(layer(x), plain(x))


def test_the_soft_clip_is_the_paper_s_and_a_cubic_decay():
    model = nn.Linear(3, 2, dtype=torch.float64)
    part = FourBit(model, clip=3.0)
    w, bias = model.weight.detach().clone(), model.bias.detach().clone()
    part.after_step()
    expected = [3 * math.tanh(v / 3) for v in w.flatten().tolist()]
    assert model.weight.flatten().tolist() == pytest.approx(expected, rel=1e-14)
    assert model.weight.detach().sub(w - w**3 / 27).abs().max() < 1e-3
    assert torch.equal(model.bias, bias)
    FourBit(other := nn.Linear(3, 2), clip=None).after_step()
    assert torch.equal(other.weight, copy.deepcopy(other).weight)


def test_weights_of_half_precision_are_bent_once_and_small_ones_rest():
    model = nn.Linear(64, 64).to(torch.bfloat16)
    part = FourBit(model)
    before = model.weight.detach().clone()
    for _ in range(20):
        part.after_step()
    assert torch.equal(model.weight, before)  # w^3 / 27 is less than half of the last bit: rounding thrice would drift
    with torch.no_grad():
        model.weight.fill_(2.0)
    part.after_step()
    assert model.weight[0, 0].item() == torch.tensor(3 * math.tanh(2 / 3)).to(torch.bfloat16).item()


def test_frozen_and_shared_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = nn.Embedding(5, 4)
            self.head = nn.Linear(4, 5, bias=False)
            self.again = nn.Linear(4, 5, bias=False)
            self.rests = nn.Linear(4, 4)
            self.head.weight = self.again.weight = self.look.weight
            self.rests.requires_grad_(False)

        def forward(self, x):
            h = self.rests(self.look(x))
            return self.head(h) + self.again(h)

    model = Tied()
    part = FourBit(model)
    assert part.left == ["look"]
    rests, look = model.rests.weight.clone(), model.look.weight.detach().clone()
    part.after_step()
    assert torch.equal(model.rests.weight, rests)
    assert torch.allclose(model.look.weight, 3 * torch.tanh(look / 3), rtol=1e-6)  # once, not twice
    x = torch.arange(5)
    expected = model(x)
    assert packed_bytes(model) == 5 * 4 // 2 + 4 + 16 // 2 + 4 + 4 * 4 + 5 * 4 * 4
    plain = convert(copy.deepcopy(model))
    assert torch.equal(plain(x), expected)
    assert torch.equal(plain.look.weight, model.look.weight)
    assert plain.head.weight is plain.again.weight
    assert plain.head.weight is not plain.look.weight


def test_the_model_stays_an_ordinary_one():
    model = net()
    names, places = list(model.state_dict()), list(model.parameters())
    part = FourBit(model)
    assert list(model.state_dict()) == names
    assert all(a is b for a, b in zip(model.parameters(), places, strict=True))
    assert isinstance(model[4], nn.Linear)
    assert "values=15" in repr(model)
    model.eval()
    expected = model(IMAGES)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(IMAGES), expected)
        assert isinstance(twin[0], Rounded)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = net(seed=5).eval()
    FourBit(fresh)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(IMAGES), expected)
    assert model.double()(IMAGES.double()).dtype is torch.float64
    part.after_step()
    compiled = torch.compile(model.float(), backend="eager")
    assert torch.allclose(compiled(IMAGES), model(IMAGES))
    with torch.autocast("cpu", torch.bfloat16):
        assert len(model[4].rounded_weight().unique()) <= 15
        assert model(IMAGES).isfinite().all()
    meta = FourBit(net()).model.to("meta")
    assert meta(IMAGES.to("meta")).shape == (5, 3)


def test_a_copied_part_follows_the_copied_model():
    model = net()
    part = FourBit(model)
    twin, follower = copy.deepcopy((model, part))
    before, theirs = model[4].weight.detach().clone(), twin[4].weight.detach().clone()
    follower.after_step()
    assert torch.equal(model[4].weight, before)
    assert not torch.equal(twin[4].weight, theirs)
    alone = copy.deepcopy(part)
    alone.after_step()
    assert not torch.equal(model[4].weight, before)
    twin, follower = pickle.loads(pickle.dumps((model, part)))
    before = twin[4].weight.detach().clone()
    follower.after_step()
    assert not torch.equal(twin[4].weight, before)


def test_an_optimizer_s_hook_calls_it():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    part = FourBit(model, clip=1.0)
    optimizer.register_step_post_hook(lambda *_: part.after_step())
    before = model.weight.detach().clone()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.allclose(model.weight, torch.tanh(before))


def test_encoder_layers_of_pytorch_take_no_way_around_their_layers():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    part = FourBit(model)
    assert {name.rpartition(".")[2] for name in part.layers} == {"linear1", "linear2"}
    assert all(name.endswith(("self_attn", "out_proj")) for name in part.left)
    x = torch.randn(2, 5, 8)
    expected = model(x)
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), expected, atol=1e-6)
        model.layers[0].linear1.weight.mul_(1.3)
        assert not torch.allclose(model(x), expected, atol=1e-3)


def test_in_a_recipe_it_clips_after_the_step_and_exports_a_plain_model():
    model = net()
    recipe = sooner.Recipe("clip_norm(max_norm=0.5) + four_bit(bits=4) + adamw + cosine + ema(decay=0.5)")
    training = recipe.build(model, 4)
    for _ in range(4):
        functional.cross_entropy(training.model(IMAGES), torch.tensor([0, 1, 2, 0, 1])).backward()
        training.step()
        training.zero_grad()
    with training.view():
        expected = model.eval()(IMAGES)
    plain = training.export().eval()
    assert type(plain[0]) is nn.Conv2d
    assert len(plain[0].weight.unique()) <= 15
    assert torch.equal(plain(IMAGES), expected)
    assert isinstance(model[0], Rounded)
    optimizer, _ = training.attach()
    before = model[4].weight.detach().clone()
    functional.cross_entropy(model.train()(IMAGES), torch.tensor([0, 1, 2, 0, 1])).backward()
    optimizer.step()
    assert not torch.equal(before, model[4].weight)


def test_a_step_is_adamw_on_the_rounded_gradient_and_then_the_clip():
    torch.manual_seed(0)
    model, twin = nn.Linear(3, 2, dtype=torch.float64), nn.Linear(3, 2, dtype=torch.float64)
    twin.load_state_dict(model.state_dict())
    training = sooner.Recipe("four_bit + adamw(lr=0.1)").build(model, 9)
    optimizer = sooner.create_optimizer(twin, "adamw", lr=0.1)
    x = torch.randn(4, 3, dtype=torch.float64)
    for _ in range(3):
        model(x).square().sum().backward()
        training.step()
        training.zero_grad()
        values = torch.tensor(by_hand(twin.weight.flatten().tolist(), 7), dtype=torch.float64).view(2, 3)
        out = x @ values.T + twin.bias.detach()
        twin.weight.grad, twin.bias.grad = 2 * out.T @ x, 2 * out.sum(0)
        optimizer.step()
        with torch.no_grad():
            twin.weight.copy_(3 * torch.tanh(twin.weight / 3))
        assert torch.allclose(model.weight, twin.weight, rtol=1e-12)


def test_packed_it_takes_an_eighth():
    model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256))
    whole = packed_bytes(model)
    FourBit(model)
    assert packed_bytes(model) == whole - 2 * 256 * 256 * 4 + 2 * (256 * 256 // 2 + 4)
    assert packed_bytes(model) < 0.14 * whole


@pytest.mark.parametrize(
    ("settings", "model", "sentence"),
    [
        ({"bits": 1}, nn.Linear(2, 2), r"four_bit: bits=1 is not a whole number in \[2, 8\]"),
        ({"clip": 0.0}, nn.Linear(2, 2), r"four_bit: clip=0.0 is not a number in \[0.001, inf\)"),
        ({}, nn.LayerNorm(2), "four_bit: the model has no linear layer or convolution of PyTorch's own"),
    ],
)
def test_what_can_t_be_done_is_refused(settings, model, sentence):
    with pytest.raises(SoonerError, match=sentence):
        FourBit(model, **settings)


def test_it_is_done_once_and_only_after_a_model_was_given():
    model = net()
    FourBit(model)
    with pytest.raises(SoonerError, match="round their weights already; do it once"):
        FourBit(model)
    with pytest.raises(SoonerError, match=r"four_bit has no model yet; call prepare\(model\) first"):
        FourBit().after_step()


def test_what_stays_in_full_precision_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        FourBit(nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2)))
    assert "four_bit: matrices of 0 stay in full precision" in caplog.text


def test_resume_is_bitwise(tmp_path):
    task = sooner.workload("digits")
    recipe = "four_bit + adamw + cosine"
    straight = sooner.train(task, recipe, 1, 4)

    def stop(step, value):
        if step > 2:
            raise KeyboardInterrupt

    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        sooner.train(task, recipe, 1, 4, checkpoint=file, save_every=2, progress=stop)
    again = sooner.train(task, recipe, 1, 4, checkpoint=file)
    assert torch.equal(straight.losses, again.losses)
    assert straight.values == again.values
