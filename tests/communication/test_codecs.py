"""What codecs promise: shapes, bytes, how much is lost, and the published rules number by number."""

import math

import numpy as np
import pytest
import references_communication as references
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.communication import (
    BF16,
    EF,
    FP16,
    Dense,
    Exchange,
    Int8,
    Layout,
    PowerSGD,
    RandomK,
    Sign,
    Sim,
    TopK,
)
from sooner.communication._codec import Moment
from sooner.communication._sparse import largest, picked
from sooner.error import SoonerError

SHAPES = {
    "scalar": (),
    "bias": (13,),
    "w": (8, 50),
    "again": (8, 50),
    "empty": (0, 4),
    "tiny": (1, 1),
    "conv": (6, 2, 3, 3),
}
LAYOUT = Layout(SHAPES)
ONE_PHASE = [
    Dense(),
    FP16(),
    BF16(),
    TopK(0.1),
    TopK(0.1, per="parameter"),
    TopK(0.05, select="sampled"),
    TopK(0.1, half_values=True),
    Int8(),
    Int8(block=7),
    Sign(),
    Sign(per="parameter"),
    RandomK(0.1),
    RandomK(0.1, unbiased=True),
]
CODECS = [*ONE_PHASE, PowerSGD(2), PowerSGD(3, warm_start=False)]


def moment(size_or_layout=LAYOUT, step=1, workers=4):
    layout = size_or_layout if isinstance(size_or_layout, Layout) else Layout({"v": (size_or_layout,)})
    return Moment(step, layout, workers)


def vectors(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("codec", ONE_PHASE, ids=str)
def test_decoding_gives_vectors_of_the_same_shape_for_one_and_many_workers(codec):
    v = vectors(4, LAYOUT.size)
    payload = codec.encode(v, moment())
    decoded = codec.decode(payload, moment())
    assert decoded.shape == v.shape
    one = tuple(part[2] for part in payload)
    assert torch.equal(codec.decode(one, moment()), decoded[2])
    assert [p.shape for p in codec.encode(v[2], moment())] == [p.shape for p in one]
    assert torch.allclose(codec.decode_mean(payload, moment()), decoded.mean(0), atol=1e-6)


def payload_bytes(codec, layout):
    exchange = Exchange(layout, Sim(4), codec)
    exchange(vectors(4, layout.size))
    return exchange.wire.traffic.payload_bytes


def test_payload_bytes_are_what_the_formulas_say():
    d, parameters = LAYOUT.size, len(SHAPES)
    k = math.ceil(0.1 * d)
    kinds = {name: math.prod(shape) for name, shape in SHAPES.items()}
    every = sum(math.ceil(0.1 * size) for size in kinds.values())
    factors = 2 * (8 + 50) * 2 + (6 + 18) * 2
    rest = d - 2 * 8 * 50 - 6 * 18
    expected = {
        Dense(): 4 * d,
        FP16(): 2 * d,
        BF16(): 2 * d,
        TopK(0.1): 8 * k,
        TopK(0.1, per="parameter"): 8 * every,
        TopK(0.1, half_values=True): 6 * k + 4,
        TopK(0.1, select="sampled"): 8 * k,
        Int8(block=7): d + 4 * math.ceil(d / 7),
        Sign(): math.ceil(d / 8) + 4,
        Sign(per="parameter"): math.ceil(d / 8) + 4 * parameters,
        RandomK(0.1): 4 * k,
        PowerSGD(2): 4 * (factors + rest),
    }
    assert {codec: payload_bytes(codec, LAYOUT) for codec in expected} == expected


@pytest.mark.parametrize("codec", [c for c in CODECS if not isinstance(c, PowerSGD)], ids=str)
def test_bytes_per_number_hold_for_a_large_vector(codec):
    layout = Layout({"v": (40_000,)})
    assert payload_bytes(codec, layout) / layout.size == pytest.approx(codec.bytes_per_number, rel=1e-3)


def lost_of(codec, v, step=1):
    size = v.shape[-1]
    decoded = codec.decode(codec.encode(v, moment(size, step)), moment(size, step))
    return float(((decoded - v) ** 2).sum() / (v**2).sum())


@settings(max_examples=40)
@given(st.integers(1, 300), st.floats(1e-6, 1.0), st.integers(0, 10**6), st.integers(-20, 20))
def test_what_is_lost_is_at_most_what_the_contraction_allows(size, ratio, seed, exponent):
    v = vectors(size, seed=seed, dtype=torch.float64) * 2.0**exponent
    k = max(1, math.ceil(ratio * size))
    assert lost_of(TopK(ratio), v) <= 1 - k / size + 1e-12
    assert lost_of(TopK(ratio, per="parameter"), v) <= 1 - k / size + 1e-12
    one_norm = float(v.abs().sum() ** 2 / (size * (v**2).sum()))
    assert lost_of(Sign(), v) == pytest.approx(1 - one_norm, abs=1e-6)
    assert lost_of(Int8(), v) <= size / 254**2 + 1e-6


@settings(max_examples=30)
@given(st.integers(4096, 20_000), st.integers(1, 400), st.integers(0, 10**6), st.booleans())
def test_the_largest_are_found_by_column_maxima_too(size, k, seed, ties):
    v = vectors(2, size, seed=seed)
    if ties:
        v = v.mul_(3).round_()
    found = largest(v, k)
    assert found.shape == (2, k)
    for row, places in zip(v, found, strict=True):
        assert len(places.unique()) == k
        expected = row.abs().topk(k).values
        assert torch.equal(row[places].abs().sort(descending=True).values, expected)


def test_a_sampled_threshold_sends_a_payload_of_fixed_length_that_is_nearly_as_good():
    size, ratio = 50_000, 0.01
    for seed in range(3):
        v = vectors(2, size, seed=seed)
        values, places = TopK(ratio, select="sampled").encode(v, moment(size, step=seed + 1))
        assert values.shape == places.shape == (2, 500)
        assert places.dtype == torch.int32
        kept, best = (values**2).sum(-1), v.abs().topk(500).values.pow(2).sum(-1)
        assert (kept > 0.9 * best).all()
        for row, value, place in zip(v, values, places, strict=True):
            sent = value != 0
            assert torch.equal(row[place[sent].long()], value[sent])
            assert len(place[sent].unique()) == int(sent.sum())


def test_zeros_fill_a_sampled_payload_where_numbers_are_missing():
    v = torch.zeros(50_000)
    v[::500] = 1.0
    values, _ = TopK(0.01, select="sampled").encode(v, moment(50_000, step=3))
    decoded = TopK(0.01, select="sampled").decode((values, _), moment(50_000, step=3))
    assert values.shape == (500,)
    assert decoded.abs().sum() <= 100
    assert set(decoded.unique().tolist()) <= {0.0, 1.0}


def test_a_vector_of_nan_stays_one_where_a_threshold_lets_nothing_through():
    payload = TopK(0.01, select="sampled").encode(torch.full((50_000,), math.nan), moment(50_000))
    assert payload[0].isnan().all()


def test_top_k_takes_the_largest_of_every_parameter():
    v = vectors(LAYOUT.size)
    decoded = LAYOUT.views(TopK(0.1, per="parameter").decode(TopK(0.1, per="parameter").encode(v, moment()), moment()))
    for name, place in LAYOUT.views(v).items():
        size = place.numel()
        if size:
            expected = references.top_k(place.reshape(-1).numpy(), math.ceil(round(0.1 * size, 9)))
            np.testing.assert_array_equal(decoded[name].reshape(-1).numpy(), expected)


def test_rounding_and_signs_are_those_of_the_reference():
    v = vectors(3, 100, dtype=torch.float64)
    v[1, 7], v[2] = 0.0, 0.0
    for codec, rule in (
        (Sign(), references.sign),
        (Int8(block=16), lambda one: references.int8(one, 16)),
        (TopK(0.07), lambda one: references.top_k(one, 7)),
    ):
        decoded = codec.decode(codec.encode(v, moment(100)), moment(100)).double()
        for row, own in zip(v, decoded, strict=True):
            np.testing.assert_allclose(own.numpy(), rule(row.numpy()), rtol=1e-6, atol=1e-12)


def test_signs_per_parameter_have_each_the_parameters_own_size():
    v = vectors(LAYOUT.size)
    decoded = LAYOUT.views(Sign(per="parameter").decode(Sign(per="parameter").encode(v, moment()), moment()))
    for name, place in LAYOUT.views(v).items():
        assert torch.allclose(decoded[name].abs(), place.abs().mean() if place.numel() else place, rtol=1e-6)
        assert torch.equal(decoded[name] > 0, place >= 0)


@pytest.mark.parametrize("codec", [FP16(), BF16()], ids=lambda one: type(one).__name__)
def test_gradients_too_small_for_the_first_scale_arrive_after_a_few_exchanges(codec):
    v = torch.full((2, 5), 1e-11)
    exchange = Exchange(Layout({"x": (5,)}), Sim(2), codec)
    means = [exchange(v) for _ in range(6)]
    torch.testing.assert_close(means[-1], v[0], rtol=1e-2, atol=0.0)
    assert torch.equal(exchange(torch.zeros(2, 5)), torch.zeros(5))
    for _ in range(20):
        exchange(torch.zeros(2, 5))
    grown = [exchange(torch.ones(2, 5)) for _ in range(4)]
    torch.testing.assert_close(grown[-1], torch.ones(5), rtol=1e-2, atol=0.0)


def test_half_precision_values_are_scaled_so_that_small_ones_survive():
    v = vectors(200) * 1e-9
    payload = TopK(0.1, half_values=True).encode(v, moment(200))
    exact = TopK(0.1).decode(TopK(0.1).encode(v, moment(200)), moment(200))
    assert payload[0].dtype == torch.float16
    assert torch.allclose(TopK(0.1, half_values=True).decode(payload, moment(200)), exact, rtol=1e-3, atol=0)


def test_random_places_are_distinct_equally_likely_and_the_same_on_all_workers():
    codec, size, steps = RandomK(0.11), 45, 3000
    counts = torch.zeros(size)
    for step in range(1, steps + 1):
        places = codec.places(moment(size, step), torch.device("cpu"))
        assert len(places.unique()) == 5
        counts[places] += 1
    expected = steps * 5 / size
    assert ((counts - expected).abs() < 5 * math.sqrt(expected)).all()
    other = RandomK(0.11, seed=1).places(moment(size, 3), torch.device("cpu"))
    assert not torch.equal(other, codec.places(moment(size, 3), torch.device("cpu")))


def test_unbiased_random_k_is_right_on_average_and_the_plain_one_loses_one_share():
    v = vectors(30, dtype=torch.float64)
    unbiased, plain = RandomK(0.2, unbiased=True), RandomK(0.2)
    steps = 4000
    total, lost = torch.zeros(30, dtype=torch.float64), 0.0
    for step in range(1, steps + 1):
        total += unbiased.decode(unbiased.encode(v, moment(30, step)), moment(30, step))
        lost += lost_of(plain, v, step) / steps
    deviation = v.abs() * math.sqrt((1 / 0.2 - 1) / steps)
    assert ((total / steps - v).abs() < 5 * deviation).all()
    assert lost == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_the_order_of_the_workers_does_not_matter(codec):
    v, order = vectors(5, LAYOUT.size, dtype=torch.float64), torch.tensor([3, 0, 4, 1, 2])
    straight, turned = Exchange(LAYOUT, Sim(5), codec), Exchange(LAYOUT, Sim(5), codec)
    for _ in range(3):
        torch.testing.assert_close(straight(v), turned(v[order]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_type_and_any_stride_will_do(codec, dtype):
    exchange, again = Exchange(LAYOUT, Sim(3), codec, EF()), Exchange(LAYOUT, Sim(3), codec, EF())
    v = vectors(3, LAYOUT.size).to(dtype)
    strided = v.repeat_interleave(2, dim=1)[:, ::2]
    assert not strided.is_contiguous()
    update = exchange(strided)
    assert update.dtype == dtype
    assert update.shape == (LAYOUT.size,)
    assert update.isfinite().all()
    assert torch.equal(update, again(v))


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_one_number_is_enough(codec):
    exchange = Exchange(Layout({"v": (1,)}), Sim(3), codec)
    for _ in range(2):
        update = exchange(torch.tensor([[1.0], [2.0], [3.0]]))
    assert float(update) == pytest.approx(2.0, rel=1e-2)
    assert exchange.state_dict()["steps"] == 2


@pytest.mark.parametrize(
    "codec", [TopK(1e-9), TopK(1e-9, per="parameter"), RandomK(1e-9), TopK(1e-9, select="sampled")]
)
def test_at_least_one_number_is_sent(codec):
    v = vectors(300)
    decoded = codec.decode(codec.encode(v, moment(300)), moment(300))
    assert int((decoded != 0).sum()) == 1


def test_the_count_is_rounded_up_and_not_fooled_by_rounding():
    assert TopK(0.07).encode(vectors(100), moment(100))[0].shape == (7,)
    assert TopK(0.07).encode(vectors(101), moment(101))[0].shape == (8,)


def test_sizes_beyond_int32_are_refused():
    with pytest.raises(SoonerError, match=r"2147483648 numbers have more places than 32 bits.*random_k"):
        picked(torch.zeros(1).expand(2**31), torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(0), r"top_k: ratio=0 sends nothing at all"),
        (lambda: TopK(1.5), r"top_k: ratio=1.5 is not a number in"),
        (lambda: TopK(per="layer"), r"top_k: per='layer' is not one of model, parameter"),
        (lambda: TopK(select="fast"), r"top_k: select='fast' is not one of exact, sampled"),
        (lambda: RandomK(0.0), r"random_k: ratio=0 sends nothing"),
        (lambda: RandomK(seed=-1), r"random_k: seed=-1"),
        (lambda: Int8(block=0), r"int8: block=0 is not a whole number"),
        (lambda: Sign(per="row"), r"sign: per='row'"),
        (lambda: PowerSGD(0), r"powersgd: rank=0 is not a whole number"),
        (lambda: PowerSGD(seed=0.5), r"powersgd: seed=0.5"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(SoonerError, match=message):
        make()
