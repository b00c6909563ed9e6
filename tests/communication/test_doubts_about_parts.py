"""Bad pairs are named before a run, good ones are not bothered."""

import pytest
import torch
from torch import nn

from sooner.communication import (
    DGC,
    EF,
    EF21,
    EF21W,
    FP16,
    EControl,
    EF21Momentum,
    Int8,
    LocalSGD,
    PowerSGD,
    RandomK,
    Sign,
    TopK,
    doubts,
)
from sooner.communication._doubts import break_even


def sgd(momentum=0.0):
    return [torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1, momentum=momentum)]


def adam():
    return [torch.optim.AdamW(nn.Linear(2, 2).parameters())]


@pytest.mark.parametrize(
    ("parts", "optimizers", "workers"),
    [
        ([], adam(), 8),
        ([FP16()], adam(), 64),
        ([Int8()], adam(), 2),
        ([PowerSGD(), EF()], adam(), 64),
        ([TopK(), EF()], sgd(0.9), 8),
        ([TopK(), EF21Momentum()], sgd(), 8),
        ([RandomK(unbiased=True)], sgd(), 8),
        ([RandomK(), EControl()], sgd(), 900),
        ([DGC()], sgd(), 8),
        ([TopK(), EF(), LocalSGD()], adam(), 8),
    ],
)
def test_what_goes_together_is_left_in_peace(parts, optimizers, workers):
    assert doubts(parts, optimizers, workers) == []


@pytest.mark.parametrize(
    ("parts", "optimizers", "workers", "words"),
    [
        ([TopK(), EF()], adam(), 8, "top_k + ef in front of AdamW"),
        ([Sign(), EF()], adam(), 8, "sign + ef in front of AdamW"),
        ([TopK(), EF21()], sgd(), 8, "ef21 follows the noise"),
        ([TopK(), EF21W()], sgd(), 8, "ef21_w follows the noise"),
        ([PowerSGD()], sgd(), 8, "powersgd without a memory"),
        ([RandomK(unbiased=True), EF()], sgd(), 8, "makes errors larger"),
        ([EF()], sgd(), 8, "ef remembers what a codec loses, and there is none"),
        ([Int8()], sgd(), 4, "beyond 3 workers it sends more than fp16"),
        ([TopK(0.01), EF()], sgd(), 51, "beyond 50 workers"),
        ([FP16()], sgd(), 1, "one worker sends nothing"),
        ([DGC()], sgd(0.9), 8, "refused: dgc has the momentum already"),
    ],
)
def test_what_does_not_is_named(parts, optimizers, workers, words):
    found = doubts(parts, optimizers, workers)
    assert len(found) == 1
    assert words in found[0]


def test_top_k_alone_in_front_of_adam_is_two_mistakes():
    assert len(doubts([TopK()], adam(), 8)) == 2


@pytest.mark.parametrize("codec", [TopK(0.01), TopK(0.03, half_values=True), Int8(), Sign(), DGC(0.002)], ids=str)
def test_beyond_the_break_even_a_gathered_payload_is_more_to_send_than_float16(codec):
    most, numbers = break_even(codec), 10**6

    def gathered(workers):
        return (workers - 1) * codec.bytes_per_number * numbers

    def reduced(workers):
        return 2 * (workers - 1) / workers * 2 * numbers

    assert gathered(most) <= reduced(most)
    assert gathered(most + 1) > reduced(most + 1)


def test_what_adds_up_always_pays():
    assert break_even(PowerSGD()) is None
    assert break_even(RandomK()) is None
