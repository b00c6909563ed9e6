"""SOAP, KL-Shampoo and what they are made of: eigenbases of weight matrices, and matrices cut into tiles."""

import copy
import functools
import math

import pytest
import references_matrix
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conformance import parameters, run_both
from test_matrix_methods import GPT2_SMALL, SHAPES, random_matrices, state_numbers, worst_error
from torch import nn

from sooner.update import SOAP, AdamW, KLShampoo
from sooner.update._eigenbasis import first_basis, refreshed_basis
from sooner.update._form import AS_STORED, Form
from sooner.update._tiles import Kept, Tiling


def first(matrix):
    return first_basis(matrix[None])[0]


def orthogonal(side, seed):
    return torch.linalg.qr(random_matrices(side, side, seed=seed)).Q


def matrix(*shape):
    return nn.Parameter(0.1 * random_matrices(*shape, seed=99))


def step(optimizer, p, g):
    p.grad = g.clone()
    optimizer.step()


# bases


@settings(max_examples=30)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), rank=st.integers(0, 9), blank=st.integers(0, 4))
def test_a_first_basis_is_one_of_eigenvectors_by_size_whatever_the_rank(rows, columns, rank, blank):
    rank = min(rank, rows, columns)
    g = random_matrices(rows, rank, seed=1) @ random_matrices(rank, columns, seed=2)
    g[:blank] = 0.0  # units that are dead at first
    basis = first_basis(g[None])[0]
    turned = basis.T @ g @ g.T @ basis
    eye = torch.eye(rows, dtype=torch.float64)
    torch.testing.assert_close(basis.T @ basis, eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(turned, turned.diagonal().diag(), rtol=0, atol=1e-10)
    assert (turned.diagonal().diff() < 1e-10).all()


@settings(max_examples=30)
@given(rows=st.integers(2, 9), columns=st.integers(1, 9), blank=st.integers(0, 4), seed=st.integers(0, 99))
def test_what_the_first_gradient_does_not_reach_does_not_depend_on_rounding(rows, columns, blank, seed):
    g = random_matrices(rows, columns, seed=seed)
    g[: min(blank, rows - 1)] = 0.0
    bases = first_basis(torch.stack([g, g * (1 + 1e-15), g @ orthogonal(columns, seed)]))
    bases = bases * bases.sum(1, keepdim=True).sign()  # a vector and its opposite are the same to Adam
    torch.testing.assert_close(bases, bases[:1].expand_as(bases), rtol=0, atol=1e-5)


def test_without_a_gradient_a_first_basis_is_the_weights_own_and_of_nan_it_is_nan():
    both = torch.zeros(2, 4, 3)
    both[1, 0, 0] = math.inf
    assert torch.equal(first_basis(both)[0].abs(), torch.eye(4))
    assert first_basis(both)[1].isnan().all()


def test_refreshing_a_basis_again_and_again_ends_at_eigenvectors():
    q, values = orthogonal(6, 3), 2.0 ** -torch.arange(6, dtype=torch.float64)
    moment, basis = (q * values @ q.T)[None], orthogonal(6, 4)[None]
    for _ in range(60):
        basis, _ = refreshed_basis(moment, basis)
    torch.testing.assert_close((basis[0].T @ q).abs(), torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-10)
    backwards, order = refreshed_basis(moment, q[None].flip(-1))
    assert order[0].tolist() == [5, 4, 3, 2, 1, 0]
    torch.testing.assert_close((backwards[0].T @ q).abs(), torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-12)


# tiles


@settings(max_examples=40)
@given(
    shape=st.sampled_from([(7, 4), (3, 3), (4, 3, 2), (2, 5, 7), (2, 2, 6, 4)]),
    form=st.sampled_from([AS_STORED, Form(transposed=True), Form(stacked=True), Form(stacked=True, transposed=True)]),
    block=st.sampled_from([None, 2, 3, 5, 99]),
    longest=st.integers(1, 9),
    cut=st.booleans(),
)
def test_tiles_cover_every_weight_once_and_keep_what_they_were_given(shape, form, block, longest, cut):
    if cut and (rows := form.size(shape)[1]) > 2:
        form = Form(form.stacked, form.transposed, (1, rows - 1))
    tiling = Tiling(form, block, longest)
    kept = {"square": Kept("rows"), "line": Kept("columns", square=False)}
    stack = random_matrices(3, *shape)
    state = {slot: random_matrices(3, *tiling.slot_shape(one, shape)) for slot, one in kept.items()}
    state["alike"] = 2 * stack
    seen = []

    def function(tiles, before):
        assert torch.equal(before["alike"], 2 * tiles)
        rows, columns = (0 if side > longest else side for side in tiles.shape[1:])
        assert before["square"].shape == (len(tiles), rows, rows)
        assert before["line"].shape == (len(tiles), columns)
        assert max(tiles.shape[1:]) <= (block or 99)
        seen.append(tiles.numel())
        return -tiles, {slot: value + 1 for slot, value in before.items()}

    done, after = tiling.each(stack, state, kept, function)
    assert sum(seen) == stack.numel()
    assert torch.equal(done, -stack)
    assert after.keys() == state.keys()
    assert all(torch.equal(after[slot], state[slot] + 1) for slot in state)


# SOAP


@pytest.mark.parametrize(
    "hyper",
    [
        {},
        {"interval": 7, "weight_decay": 0.3, "shampoo_beta": 0.8},
        {"max_side": 4, "betas": (0.5, 0.9), "eps": 1e-3},
        {"max_side": 1, "weight_decay": 0.0},
    ],
)
@pytest.mark.filterwarnings("ignore:soap. 11 of the weights came without names")
def test_soap_is_the_papers_step_by_step(hyper):
    params = parameters(SHAPES)
    reference = functools.partial(references_matrix.soap, lr=0.01, first=first, **hyper)
    assert worst_error(SOAP(params, lr=0.01, **hyper), params, reference) < 1e-10


def test_the_first_gradient_only_sets_the_basis():
    p = matrix(4, 4)
    before, g = p.detach().clone(), random_matrices(4, 4)
    optimizer = SOAP([{"params": [p], "soap": True}], lr=0.1, weight_decay=0.5)
    step(optimizer, p, g)
    assert torch.equal(p.detach(), before)
    kept = optimizer.state[p]
    left, right = kept["row_basis"], kept["column_basis"]
    u, sizes, vt = torch.linalg.svd(g)
    torch.testing.assert_close((u.T @ left).abs(), torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close((vt @ right).abs(), torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(kept["row_moment"], 0.05 * g @ g.T)
    step(optimizer, p, g)  # the same again is diagonal there, and Adam's first step goes by signs: all sizes become 1
    polar = -0.1 * u @ torch.diag(sizes / (sizes + 1e-8 / 0.05**0.5)) @ vt
    torch.testing.assert_close(p.detach(), (before + polar) * (1 - 0.1 * 0.5), rtol=0, atol=1e-8)


def test_a_one_sided_soap_of_rotated_gradients_is_rotated():
    """Turned by one and the same rotation, gradients lead to weights that are turned: Adam's would go elsewhere."""
    turn, moved = orthogonal(4, 5), []
    for rotation in (torch.eye(4, dtype=torch.float64), turn):
        p = nn.Parameter(torch.zeros(4, 6, dtype=torch.float64))
        optimizer = SOAP([{"params": [p], "soap": True}], lr=0.01, max_side=4, interval=3)
        for number in range(8):
            step(optimizer, p, rotation @ random_matrices(4, 6, seed=number))
        moved.append(p.detach())
    assert optimizer.state[p]["column_basis"].shape == (0, 0)
    torch.testing.assert_close(turn @ moved[0], moved[1], rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore:soap. 4 of the weights came without names")
def test_without_any_basis_soap_is_adam_a_step_later():
    shapes = [(4, 6), (3, 3), (5, 2), (2, 7)]
    params, shadow = parameters(shapes), parameters(shapes)
    ours = SOAP(params, lr=1e-2, max_side=1, weight_decay=0.0, eps=0.0)
    theirs = AdamW(shadow, lr=1e-2, betas=(0.95, 0.95), weight_decay=0.0, eps=0.0)
    assert run_both(params, shadow, lambda _: ours.step(), lambda number: number > 1 and theirs.step()) < 1e-12


@pytest.mark.parametrize("method", [SOAP, KLShampoo])
def test_blocks_step_like_blocks_alone_through_refreshes(method):
    whole = matrix(7, 5)
    places = [(slice(i, i + 3), slice(j, j + 3)) for i in (0, 3, 6) for j in (0, 3)]
    blocks = [nn.Parameter(whole.detach()[at].clone()) for at in places]
    hyper = {"lr": 0.01, "interval": 4}
    one = method([{"params": [whole], method.name(): True}], block=3, **hyper)
    many = method([{"params": blocks, method.name(): True}], **hyper)
    for number in range(10):
        g = random_matrices(7, 5, seed=number)
        for block, at in zip(blocks, places, strict=True):
            block.grad = g[at].clone()
        step(one, whole, g)
        many.step()
    for block, at in zip(blocks, places, strict=True):
        torch.testing.assert_close(whole.detach()[at], block.detach(), rtol=1e-10, atol=1e-13)
    assert f"{method.name()} (6 blocks)" in one.explain()
    of_rows, of_columns = (4 * 9 + 2 * 1,), (3 * 9 + 3 * 4,)
    own = {
        SOAP: {"exp_avg_sq": (7, 5)},
        KLShampoo: {"row_values": (4 * 3 + 2 * 1,), "column_values": (3 * 3 + 3 * 2,)},
    }
    assert {slot: tuple(kept.shape) for slot, kept in one.state[whole].items()} == {
        "step": (),
        "exp_avg": (7, 5),
        "row_moment": of_rows,
        "row_basis": of_rows,
        "column_moment": of_columns,
        "column_basis": of_columns,
        **own[method],
    }


@pytest.mark.parametrize("method", [SOAP, KLShampoo])
def test_whoever_zeroes_the_step_starts_the_momentum_afresh(method):
    """It is kept in coordinates that a first step gives up."""
    p = matrix(4, 3)
    optimizer = method([{"params": [p], method.name(): True}])
    for number in range(3):
        step(optimizer, p, random_matrices(4, 3, seed=number))
    assert optimizer.state[p]["exp_avg"].any()
    optimizer.state[p]["step"].zero_()
    before = p.detach().clone()
    step(optimizer, p, random_matrices(4, 3, seed=3))
    assert torch.equal(p.detach(), before)
    assert not optimizer.state[p]["exp_avg"].any()


def test_a_refresh_keeps_adams_moments_at_their_vectors():
    p = matrix(5, 5)
    optimizer = SOAP([{"params": [p], "soap": True}], interval=3)
    for number in range(3):
        step(optimizer, p, random_matrices(5, 5, seed=number))

    def mean():
        kept = optimizer.state[p]
        return kept["row_basis"] @ kept["exp_avg"] @ kept["column_basis"].T

    g = random_matrices(5, 5, seed=3)
    before = mean()
    bases = [optimizer.state[p][side].clone() for side in ("row_basis", "column_basis")]
    step(optimizer, p, g)  # the third one that moves
    torch.testing.assert_close(mean(), 0.95 * before + 0.05 * g)
    assert not any(torch.allclose(optimizer.state[p][s], b) for s, b in zip(("row_basis", "column_basis"), bases))


def test_a_long_side_keeps_its_own_coordinates_and_says_so():
    model = nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 3), nn.Linear(3, 2))
    optimizer = SOAP(model, max_side=5)
    told = optimizer.explain()
    assert "soap (rows as they are)" in told
    assert "soap (columns as they are)" in told
    weight = model[0].weight
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    assert optimizer.state[weight]["row_basis"].shape == (0, 0)
    again = SOAP(copy.deepcopy(model), max_side=5)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def test_state_of_soap_is_as_large_as_said():
    expected = sum(2 * m * n + 2 * (m * m + n * n) for m, n in GPT2_SMALL)
    assert state_numbers(SOAP, GPT2_SMALL) == expected
    one_sided = sum(2 * m * n + 2 * min(m, n) ** 2 for m, n in GPT2_SMALL if m != n)
    square = [shape for shape in GPT2_SMALL if shape[0] == shape[1]]
    assert state_numbers(SOAP, GPT2_SMALL, max_side=768) == one_sided + state_numbers(SOAP, square)
    assert state_numbers(SOAP, GPT2_SMALL, block=256) == 6 * sum(m * n for m, n in GPT2_SMALL)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", [SOAP, KLShampoo])
def test_a_gradient_that_is_not_finite_spoils_its_own_matrix_only(method, dtype):
    both = [nn.Parameter(torch.zeros(3, 4, dtype=dtype)) for _ in range(2)]
    optimizer = method([{"params": both, method.name(): True}], interval=1)
    for number in range(4):
        for p in both:
            p.grad = random_matrices(3, 4, seed=number, dtype=dtype)
        if number == 0:
            both[0].grad[1, 1] = math.nan
        optimizer.step()
    assert both[0].isnan().all()
    assert both[1].isfinite().all()


# KL-Shampoo


@pytest.mark.parametrize(
    "hyper",
    [
        {},
        {"interval": 7, "weight_decay": 0.3, "shampoo_beta": 0.8, "initial": 1.0},
        {"betas": (0.5, 0.9), "eps": 1e-3, "ceiling": 20.0},
    ],
)
@pytest.mark.filterwarnings("ignore:kl_shampoo. 11 of the weights came without names")
def test_kl_shampoo_is_the_papers_step_by_step(hyper):
    params = parameters(SHAPES)
    reference = functools.partial(references_matrix.kl_shampoo, lr=0.01, first=first, **hyper)
    assert worst_error(KLShampoo(params, lr=0.01, **hyper), params, reference) < 1e-10


def test_kl_shampoo_whitens_gradients_of_any_kronecker_covariance():
    """Its factors approach the covariance, whatever that is; SOAP's L and R have each other's size in them."""
    left, right = orthogonal(4, 1) * torch.tensor([4.0, 2.0, 1.0, 0.5]), orthogonal(6, 2) * torch.linspace(1.0, 3.0, 6)
    p = nn.Parameter(torch.zeros(4, 6, dtype=torch.float64))
    optimizer = KLShampoo([{"params": [p], "kl_shampoo": True}], betas=(0.9, 0.985), interval=1)
    for number in range(800):
        step(optimizer, p, left @ random_matrices(4, 6, seed=number) @ right.T)
    kept = optimizer.state[p]
    found = torch.outer(kept["row_values"], kept["column_values"])
    expected = torch.outer(left.norm(dim=0) ** 2, right.norm(dim=0).flip(0) ** 2)
    torch.testing.assert_close(found, expected, rtol=0.35, atol=0)
    torch.testing.assert_close(kept["row_moment"] / kept["row_moment"].trace(), left @ left.T / left.norm() ** 2,
                               rtol=0, atol=0.05)  # fmt: skip


def test_the_first_steps_of_kl_shampoo_by_hand():
    p = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))
    optimizer = KLShampoo([{"params": [p], "kl_shampoo": True}], lr=1.0, betas=(0.5, 0.75), eps=0.0, weight_decay=0.5)
    step(optimizer, p, torch.full((1, 1), 4.0, dtype=torch.float64))
    assert p.item() == 0.0
    moved = []
    for _ in range(2):
        before = p.item()
        step(optimizer, p, torch.full((1, 1), 4.0, dtype=torch.float64))
        moved.append(p.item() / 0.5 - before)  # decay comes behind
    first_values = 0.75 * 0.1 + 0.25 * 16 / 0.1
    assert moved == pytest.approx([-2.0 / 0.1, -3.0 / first_values])


def test_eigenvalues_have_a_floor_that_goes_by_the_side():
    long, short = matrix(3, 30), matrix(3, 3)
    optimizer = KLShampoo([{"params": [long, short], "kl_shampoo": True}], betas=(0.9, 0.0), ceiling=20.0)
    for number in range(2):
        for p in (long, short):
            p.grad = 1e-9 * random_matrices(*p.shape, seed=number)
        optimizer.step()
    assert optimizer.state[long]["column_values"].tolist() == pytest.approx([20.0**-2] * 30)
    assert optimizer.state[long]["row_values"].tolist() == pytest.approx([10.0**-2] * 3)
    assert optimizer.state[short]["column_values"].tolist() == pytest.approx([10.0**-2] * 3)


def test_state_of_kl_shampoo_is_as_large_as_said():
    expected = sum(m * n + 2 * (m * m + n * n) + m + n for m, n in GPT2_SMALL)
    assert state_numbers(KLShampoo, GPT2_SMALL) == expected
