"""Blocks of few bits: levels, the nearest one, what rounding may cost, zeros, NaN, and rounding that keeps the mean."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.execute import low_bits_c
from sooner.execute.low_bits import FORMS, in_c, positive_levels, signed_levels

every_form = pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: f"{form.bits} bits")


def through(form, x, noise=None):
    return form.decode(*form.encode(x, noise), len(x))


def farthest(levels):
    """Half of the widest gap: what the nearest level may be away at most, in scales."""
    return float((levels[1:] - levels[:-1]).max()) / 2


VECTORS = st.builds(
    lambda count, seed, spread, positive: (
        lambda x: x.abs() if positive else x
    )(torch.randn(count, generator=torch.Generator().manual_seed(seed)) * 10 ** (spread * torch.randn(
        count, generator=torch.Generator().manual_seed(seed + 1)))),
    st.integers(1, 1200),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.booleans(),
)  # fmt: skip


@every_form
@settings(max_examples=40)
@given(x=VECTORS, double=st.booleans())
def test_every_number_goes_to_the_nearest_level_of_its_block(form, x, double):
    x = x.double() if double else x
    found = through(form, x)
    for start in range(0, len(x), form.block):
        block, decoded = x[start : start + form.block].double(), found[start : start + form.block].double()
        levels = positive_levels(form.bits) if (block >= 0).all() else signed_levels(form.bits)
        scale = block[block.abs().argmax()]
        wanted = (block[:, None] - scale * levels).abs().amin(1)
        if (block >= 0).all():
            smallest = scale * levels[1]
            wanted = torch.where((block > 0) & (block < smallest), smallest - block, wanted)
        rounding = 4 * torch.finfo(torch.float32).eps * scale.abs()
        assert ((decoded - block).abs() <= wanted + rounding).all()


@every_form
@settings(max_examples=20)
@given(x=VECTORS)
def test_what_was_stored_is_stored_again_as_it_was(form, x):
    x[:: form.block] = -0.5 * x.abs().max()  # else a block's only negative numbers may have become 0
    codes, scale = form.encode(x)
    again = form.encode(form.decode(codes, scale, len(x)))
    assert torch.equal(codes, again[0])
    assert torch.equal(scale, again[1])


@every_form
def test_it_takes_few_bytes(form):
    codes, scale = form.encode(torch.randn(5 * form.block + 3))
    assert codes.numel() == -(-(5 * form.block + 3) * form.bits // 8)
    assert scale.numel() == 6


@every_form
def test_zero_stays_zero_and_nothing_else_becomes_one_where_roots_are_divided_by(form):
    x = torch.zeros(form.block)
    x[:4] = torch.tensor([1.0, 1e-12, 1e-30, 1e-38])
    found = through(form, x)
    assert (found[:4] >= x[:4]).all()
    assert not found[4:].any()
    assert not through(form, torch.zeros(form.block)).any()
    for step in range(20):  # at random too
        assert (through(form, x, (0, step))[:4] > 0).all()


@every_form
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_hidden(form, bad):
    x = torch.ones(3 * form.block)
    x[form.block + 1] = bad
    found = through(form, x)
    assert found[form.block : 2 * form.block].isnan().all()
    others = found.view(3, -1)[::2]
    assert torch.allclose(others, torch.ones_like(others), rtol=2e-7)  # a scale's last bit says which levels it has


@every_form
@pytest.mark.parametrize("positive", [False, True])
def test_rounding_at_random_keeps_the_mean(form, positive):
    """Hoeffding: the mean of n draws, each between two levels at most a gap apart, is off by gap * sqrt(ln(2/p)/2n)."""
    levels = positive_levels(form.bits) if positive else signed_levels(form.bits)
    x = torch.linspace(float(levels[1 if positive else 0]), 1, form.block)
    draws = 400
    mean = torch.stack([through(form, x, (0, 7919 * i)) for i in range(draws)]).mean(0)
    allowed = 2 * farthest(levels) * math.sqrt(math.log(2 * form.block / 1e-6) / (2 * draws))
    assert (mean - x).abs().max() <= allowed
    assert not torch.equal(through(form, x, (0, 1)), through(form, x, (0, 2)))
    assert torch.equal(through(form, x, (0, 1)), through(form, x, (0, 1)))


@pytest.mark.skipif(low_bits_c.library() is None, reason="no C compiler")
@every_form
@settings(max_examples=40)
@given(x=VECTORS, noise=st.none() | st.tuples(st.integers(0, 2**33), st.integers(0, 2**35)), bad=st.booleans())
def test_the_loops_in_c_give_the_same_bits(form, x, noise, bad):
    if bad:
        x[len(x) // 2] = torch.tensor([torch.inf, torch.nan, 0.0, 1e-42, 3e38])[len(x) % 5]
    codes, scale = form.encode(x, noise)
    with in_c():
        compiled, scales = form.encode(x, noise)
        found = form.decode(codes, scale, len(x))
    assert torch.equal(scale.nan_to_num(-3.0), scales.nan_to_num(-3.0))
    healthy = scale.isfinite().repeat_interleave(form.block)[: len(x)]
    ours, theirs = form.decode(compiled, scales, len(x)), form.decode(codes, scale, len(x))
    assert torch.equal(ours[healthy], theirs[healthy])
    assert torch.equal(found[healthy], theirs[healthy])
    assert found[~healthy].isnan().all()
    if healthy.all():
        assert torch.equal(codes, compiled)


def test_the_levels_are_the_published_ones():
    """Dettmers et al., section 2.1: 2 ** i fractions for each power of ten, in the middle of equal parts."""
    for bits in (8, 4):
        for levels in (signed_levels(bits), positive_levels(bits)):
            assert len(levels) == 2**bits
            assert levels[-1] == 1
            assert 0 in levels
    assert torch.equal(signed_levels(8)[:127], -signed_levels(8)[128:255].flip(0))
    assert signed_levels(4)[8:].tolist() == pytest.approx([0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875, 1])
    assert positive_levels(4).tolist() == pytest.approx([i / 15 for i in range(16)])


def test_the_levels_are_those_of_bitsandbytes():
    functional = pytest.importorskip("bitsandbytes.functional")
    for bits, signed, ours in (
        (8, True, signed_levels(8)),
        (8, False, positive_levels(8)),
        (4, True, signed_levels(4)),
    ):
        theirs = functional.create_dynamic_map(signed, bits - 1, bits).double().unique()  # padded with zeros
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-7)
