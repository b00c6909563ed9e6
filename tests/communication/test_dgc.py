"""Deep gradient compression against the paper's equations, and the traps its descriptions name."""

import numpy as np
import pytest
import references_communication as references
import torch
from torch import nn

from sooner.communication import DGC, Exchange, Layout, Sim
from sooner.communication._attached import Communication
from sooner.error import SoonerError

SHAPES = {"w": (6, 9), "b": (9,), "k": (4, 2, 3), "g": (), "v": (6, 9)}
LAYOUT = Layout(SHAPES)
WORKERS, ROUNDS = 4, 12


def rounds_of(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {n: torch.randn(WORKERS, *s, generator=generator, dtype=torch.float64) for n, s in SHAPES.items()}
        for _ in range(ROUNDS)
    ]


def compare(part, **settings):
    """The reference knows parameters, not layouts."""
    rounds = rounds_of()
    plain = [[[one[n][i].numpy() for n in SHAPES] for i in range(WORKERS)] for one in rounds]
    matrices = [len(shape) > 1 for shape in SHAPES.values()]
    expected = references.dgc(plain, matrices, part.ratio_at, 0.9, **settings)
    exchange = Exchange(LAYOUT, Sim(WORKERS), part, part)
    for one, reference in zip(rounds, expected, strict=True):
        found = LAYOUT.views(exchange(LAYOUT.flatten(one)))
        for name, value in zip(SHAPES, reference, strict=True):
            np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-10, atol=1e-12, err_msg=name)
    return exchange


def test_momentum_is_corrected_and_masked():
    compare(DGC(0.1))


def test_nesterov_momentum():
    compare(DGC(0.1, nesterov=True), nesterov=True)


def test_gradients_are_clipped_to_the_threshold_over_the_root_of_the_number_of_workers():
    compare(DGC(0.1, clip=2.0), clip=2.0)


def test_momentum_may_be_left_unmasked():
    compare(DGC(0.1, masking=False), masking=False)


def test_more_is_sent_during_the_warm_up_in_four_stages():
    part = DGC(0.001, warm_up=8)
    expected = [0.25, 0.25, 0.0625, 0.0625, 0.015625, 0.015625, 0.00390625, 0.00390625, 0.001, 0.001]
    assert [part.ratio_at(step) for step in range(1, 11)] == expected
    assert [DGC(0.1, warm_up=4).ratio_at(step) for step in range(1, 6)] == [0.25, 0.1, 0.1, 0.1, 0.1]
    assert [DGC(0.01, warm_up=2).ratio_at(step) for step in range(1, 4)] == [0.25, 0.015625, 0.01]
    assert DGC(0.01).ratio_at(1) == 0.01
    compare(DGC(0.05, warm_up=8))


def test_payload_bytes_are_vectors_and_the_share_of_every_matrix():
    exchange = compare(DGC(0.1))
    vectors, sent = 9 + 1, 2 * 6 + 3
    assert exchange.wire.traffic.payload_bytes == ROUNDS * (8 * vectors + (8 + 4) * sent)  # float64 values


def test_everything_sent_without_masking_is_momentum_sgd():
    model = nn.Linear(5, 3, dtype=torch.float64)
    layout = Layout.of(dict(model.named_parameters()))
    part = DGC(1.0, masking=False)
    exchange = Exchange(layout, Sim(1), part, part)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        update = exchange(layout.flatten({n: p.grad for n, p in model.named_parameters()})[None])
        optimizer.step()
        for name, moved in layout.views(update).items():
            torch.testing.assert_close(before[name] - moved, dict(model.named_parameters())[name].detach())


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "SGD with momentum 0.9"),
        (lambda p: torch.optim.AdamW(p), "AdamW with momentum 0.9"),
    ],
)
def test_an_optimizer_with_a_momentum_of_its_own_is_refused(make, name):
    model = nn.Linear(3, 2)
    with pytest.raises(SoonerError, match=f"dgc has the momentum already, and {name} would apply it once more"):
        Communication(model, make(model.parameters()), [DGC()])


def test_weight_decay_stays_with_an_optimizer_without_momentum():
    model = nn.Linear(3, 2)
    Communication(model, torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-4), [DGC()]).detach()
    Communication(model, torch.optim.Adam(model.parameters(), betas=(0.0, 0.99)), [DGC()]).detach()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DGC(0.0), "dgc: ratio=0 sends nothing"),
        (lambda: DGC(momentum=1.0), "dgc: momentum=1.0"),
        (lambda: DGC(clip=0.0), "dgc: clip=0.0"),
        (lambda: DGC(warm_up=-1), "dgc: warm_up=-1"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(SoonerError, match=message):
        make()


def test_another_codec_or_memory_beside_it_is_refused():
    from sooner.recipe import Recipe

    for other in ("top_k", "ef"):
        with pytest.raises(SoonerError, match="both own the"):
            Recipe(f"sgd(momentum=0) + dgc + {other}")
