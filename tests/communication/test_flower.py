"""Rounds on Flower: what the server makes of encoded answers, against the same arithmetic by hand."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("flwr.serverapp", reason="Flower is not installed")

from flwr.app import MetricRecord, RecordDict

from sooner.communication import BF16, EF, FlowerStrategy, LocalSGD, TopK, flower_answer
from sooner.error import SoonerError


def weights(seed):
    generator = torch.Generator().manual_seed(seed)
    return {"a.weight": torch.randn(3, 4, generator=generator), "b": torch.randn(5, generator=generator)} | {
        "count": torch.tensor(7)
    }


def answer(record, examples):
    """Stand in for a message: Flower's own can be made only inside of a run."""
    metrics = MetricRecord({"num-examples": examples})
    content = RecordDict({"arrays": record, "metrics": metrics})
    return SimpleNamespace(content=content, has_error=lambda: False)


def aggregate(strategy, start, answers, number=1):
    strategy._start = start
    arrays, _ = strategy.aggregate_train(number, answers)
    return arrays.to_torch_state_dict()


def test_dense_answers_are_averaged_by_their_examples():
    start, one, two = weights(0), weights(1), weights(2)
    answers = [answer(flower_answer(start, w, RecordDict(), 1), n) for w, n in ((one, 30), (two, 10))]
    made = aggregate(FlowerStrategy(LocalSGD()), start, answers)
    for name in ("a.weight", "b"):
        torch.testing.assert_close(made[name], 0.75 * one[name] + 0.25 * two[name])
    assert made["count"] == 7


def test_a_client_remembers_what_it_could_not_send():
    start, end, kept = weights(0), weights(1), RecordDict()
    codec, strategy = TopK(0.2), FlowerStrategy(LocalSGD(), TopK(0.2))
    moved = {name: torch.zeros_like(start[name]) for name in ("a.weight", "b")}
    for number in range(1, 41):
        record = flower_answer(start, end, kept, number, codec, EF())
        made = aggregate(strategy, start, [answer(record, 1)], number)
        for name, total in moved.items():
            total += made[name] - start[name]
    for name, total in moved.items():
        torch.testing.assert_close(total / 40, end[name] - start[name], rtol=0.2, atol=0.1)


@pytest.mark.parametrize("codec", [None, TopK(0.2), BF16()])
def test_a_client_that_diverged_is_left_out_and_keeps_its_memory(codec):
    start, end, kept = weights(0), weights(1), RecordDict()
    flower_answer(start, end, kept, 1, codec, EF())
    before = {name: array.numpy().copy() for name, array in kept["sooner memory"].items()}
    spoilt = {**end, "b": torch.full((5,), torch.inf)}
    bad = answer(flower_answer(start, spoilt, kept, 2, codec, EF()), 1000)
    for name, array in kept["sooner memory"].items():
        assert (array.numpy() == before[name]).all()
    good = answer(flower_answer(start, end, RecordDict(), 2, codec, EF()), 1)
    strategy = FlowerStrategy(LocalSGD(), codec)
    with pytest.warns(UserWarning, match="1 of 2 clients answered with numbers that are not finite"):
        made = aggregate(strategy, start, [bad, good], 2)
    alone = aggregate(FlowerStrategy(LocalSGD(), codec), start, [good], 2)
    assert all(torch.equal(made[name], alone[name]) for name in made)
    with pytest.warns(UserWarning, match="1 of 1 clients"):
        assert strategy.aggregate_train(3, [bad]) == (None, None)


def test_numbers_that_numpy_does_not_have_arrive():
    start, end = weights(0), weights(1)
    made = aggregate(
        FlowerStrategy(LocalSGD(), BF16()), start, [answer(flower_answer(start, end, RecordDict(), 1, BF16()), 1)]
    )
    torch.testing.assert_close(made["b"], end["b"], rtol=1e-2, atol=2e-2)


def test_a_client_with_another_codec_is_refused():
    start, end = weights(0), weights(1)
    with pytest.raises(SoonerError, match="give clients and server the same codec"):
        aggregate(FlowerStrategy(LocalSGD(), TopK(0.5)), start, [answer(flower_answer(start, end, RecordDict(), 1), 1)])
