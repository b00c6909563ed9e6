"""Orthogonal initialisation: singular values and gains by themselves, which layers, and what stays as it was."""

import copy
import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sooner
from sooner.error import SoonerError
from sooner.model import orthogonal
from sooner.model.orthogonal import Orthogonal


def gram_error(matrix, gain):
    """Distance of the smaller Gram matrix from gain^2 times the identity, with plain sums."""
    rows = matrix.double().tolist()
    if len(rows) > len(rows[0]):
        rows = [list(column) for column in zip(*rows, strict=True)]
    return max(
        abs(sum(x * y for x, y in zip(a, b, strict=True)) - (gain**2 if i == j else 0.0))
        for i, a in enumerate(rows)
        for j, b in enumerate(rows)
    )


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 3.0), st.sampled_from([torch.float64, torch.float32]))
def test_a_linear_layer_is_a_scaled_rotation_of_its_shape(rows, columns, gain, dtype):
    layer = nn.Linear(columns, rows, dtype=dtype)
    Orthogonal(layer, gain=gain)
    assert gram_error(layer.weight, gain) < (1e-12 if dtype == torch.float64 else 1e-5)
    assert not layer.bias.any()
    assert layer.weight.dtype is dtype


def test_it_is_uniform_rather_than_what_qr_happens_to_return():
    draws = [Orthogonal(layer) and layer.weight.item() for layer in (nn.Linear(1, 1) for _ in range(64))]
    assert 15 < sum(one > 0 for one in draws) < 49  # without the fix of signs all would be alike
    twos = torch.stack(
        [Orthogonal(layer) and layer.weight[0].detach() for layer in (nn.Linear(2, 2) for _ in range(200))]
    )
    assert twos.mean(0).abs().max() < 0.2


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_a_convolution_keeps_lengths_by_the_centre_of_its_kernel(kind, kernel):
    layer = kind(3, 6, kernel, padding="same", padding_mode="circular", bias=False, dtype=torch.float64)
    Orthogonal(layer, gain=2.0)
    taps = layer.weight.flatten(2)
    used = [i for i in range(taps.shape[2]) if taps[:, :, i].any()]
    assert len(used) == 1
    assert gram_error(taps[:, :, used[0]], 2.0) < 1e-12
    x = torch.randn(1, 3, *([6] * (layer.weight.ndim - 2)), dtype=torch.float64)
    assert layer(x).norm().item() == pytest.approx(2 * x.norm().item(), rel=1e-12)


def test_a_convolution_that_must_lose_something_has_orthonormal_rows():
    layer = nn.Conv2d(6, 3, 3)
    Orthogonal(layer, gain=1.0)
    assert gram_error(layer.weight.flatten(1), 1.0) < 1e-5


def test_groups_and_attention_projections_are_drawn_each_by_itself():
    grouped = nn.Conv2d(4, 8, 3, groups=2)
    Orthogonal(grouped, gain=1.0)
    for part in grouped.weight.chunk(2):
        assert gram_error(part[:, :, 1, 1], 1.0) < 1e-5
    attention = nn.MultiheadAttention(6, 2)
    found = Orthogonal(attention).gains
    assert set(found) == {"in_proj_weight", "out_proj.weight"}
    for part in attention.in_proj_weight.chunk(3):
        assert gram_error(part, 1.0) < 1e-5
    apart = nn.MultiheadAttention(6, 2, kdim=4, vdim=3)
    assert set(Orthogonal(apart).gains) == {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"}
    assert gram_error(apart.k_proj_weight, 1.0) < 1e-5


def test_the_gain_is_that_of_the_activation_which_follows():
    net = nn.Sequential(
        *(nn.Linear(2, 2), nn.Tanh()),
        *(nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2), nn.Dropout(), nn.ReLU()),
        *(nn.Linear(2, 2), nn.LayerNorm(2), nn.LeakyReLU(0.5)),
        *(nn.Linear(2, 2), nn.GELU()),
        nn.Linear(2, 2),
    )
    found = Orthogonal(net).gains
    assert list(found.values()) == pytest.approx([1.05, math.sqrt(2), math.sqrt(2 / 1.25), 1.0, 1.0])
    assert set(Orthogonal(net, gain="relu").gains.values()) == {math.sqrt(2)}
    assert set(Orthogonal(net, gain="tanh").gains.values()) == {1.05}


def test_functions_can_t_be_seen_and_that_is_said(caplog, monkeypatch):
    monkeypatch.setattr(orthogonal, "_said", set())
    with caplog.at_level(logging.WARNING):
        Orthogonal(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
        Orthogonal(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    assert caplog.text.count("say so by gain='relu'") == 1
    caplog.clear()
    Orthogonal(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), gain="linear")
    Orthogonal(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
    assert not caplog.text


def test_shared_weights_are_drawn_once_and_tied_embeddings_stay():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = nn.Embedding(7, 4)
            self.one, self.two, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 7)
            self.two.weight = self.one.weight
            self.head.weight = self.look.weight

    net = Tied()
    table, bias = net.look.weight.clone(), net.head.bias.clone()
    assert set(Orthogonal(net).gains) == {"one.weight"}
    assert net.two.weight is net.one.weight
    assert torch.equal(net.look.weight, table)
    assert torch.equal(net.head.bias, bias)
    assert not net.two.bias.any()


def test_frozen_half_precision_and_strided_weights_keep_what_they_are():
    net = nn.Linear(8, 4).to(torch.bfloat16)
    net.weight.requires_grad_(False)
    net.weight.data = net.weight.data.t().contiguous().t()
    stride, place = net.weight.stride(), net.weight
    Orthogonal(net)
    assert net.weight is place
    assert net.weight.stride() == stride
    assert net.weight.dtype is torch.bfloat16
    assert gram_error(net.weight, 1.0) < 0.05


def test_the_seed_decides_and_copies_are_plain_models():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    torch.manual_seed(3)
    Orthogonal(first)
    torch.manual_seed(3)
    part = Orthogonal()
    assert part.prepare(second) is second
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(copy.deepcopy(first).weight, first.weight)


@pytest.mark.parametrize(
    ("model", "settings", "sentence"),
    [
        (nn.Linear(2, 2), {"gain": "tahn"}, r"gain='tahn' \(did you mean 'tanh'\?\)"),
        (nn.Linear(2, 2), {"gain": -1.0}, r"orthogonal: gain=-1.0 is not a number in \[0, inf\)"),
        (nn.LayerNorm(2), {}, "orthogonal: the model has no linear layer or convolution"),
        (nn.Linear(2, 2, device="meta"), {}, "orthogonal: weight is on the meta device"),
    ],
)
def test_what_can_t_be_done_is_refused(model, settings, sentence):
    with pytest.raises(SoonerError, match=sentence):
        sooner.model.Orthogonal(model, **settings)


def test_a_hundred_layers_still_carry_a_signal_both_ways():
    net = nn.Sequential(*(nn.Linear(16, 16, dtype=torch.float64) for _ in range(100)))
    Orthogonal(net, gain="linear")
    x = torch.randn(3, 16, dtype=torch.float64, requires_grad=True)
    y = net(x)
    assert y.norm(dim=1).tolist() == pytest.approx(x.norm(dim=1).tolist(), rel=1e-10)
    direction = torch.randn_like(y)
    (back,) = torch.autograd.grad(y, x, direction)
    assert back.norm(dim=1).tolist() == pytest.approx(direction.norm(dim=1).tolist(), rel=1e-10)


def test_in_a_recipe_it_changes_the_start_and_nothing_else():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    training = sooner.Recipe("orthogonal(gain='tanh') + sgd").build(net, 5, seed=4)
    assert training.model is net
    assert gram_error(net[0].weight, 1.05) < 1e-5
    assert "owns the initial weights" in sooner.explain("orthogonal + sgd")
