"""The communication station attached to optimizers: on two gloo processes, and alone."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn
from two_processes import checks_of

from sooner.communication import CO2, FP16, DiLoCo, LocalSGD, NoLoCo, StreamingDiLoCo, _notes
from sooner.communication._agree import agree
from sooner.communication._attached import Communication
from sooner.communication._wire import Sim
from sooner.error import SoonerError

outcome, test_on_two_processes = checks_of(Path(__file__).with_name("attached_workers.py"))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def train(model, optimizer, steps=6):
    for step in range(steps):
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(step))
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("parts", [(), (LocalSGD(2),)])
def test_one_worker_trains_as_it_would_without(parts):
    plain, ours = net(), net()
    optimizer = torch.optim.AdamW(ours.parameters())
    communication = Communication(ours, optimizer, parts)
    expected, found = train(plain, torch.optim.AdamW(plain.parameters())), train(ours, optimizer)
    torch.testing.assert_close(found, expected)
    assert communication.wire.traffic.wire_bytes == 0


@pytest.mark.parametrize("parts", [(DiLoCo(2), FP16()), (CO2(2),), (NoLoCo(2),), (StreamingDiLoCo(4, delay=1),)])
def test_every_part_works_with_one_worker(parts):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    communication = Communication(model, optimizer, parts)
    assert torch.isfinite(train(model, optimizer)).all()
    with communication.view():
        pass
    communication.finish()
    assert communication.wire.traffic.wire_bytes == 0


def test_one_worker_is_told_once_that_nothing_is_sent(caplog, monkeypatch):
    monkeypatch.setattr(_notes, "_said", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            model = net()
            Communication(model, torch.optim.SGD(model.parameters(), lr=0.1), [FP16(), LocalSGD(2)])
    assert caplog.messages == ["there is one worker only: fp16 + local_sgd is at work, but nothing is sent"]


def test_a_detached_communication_does_nothing():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    communication = Communication(model, optimizer, [LocalSGD(2)])
    communication.detach()
    train(model, optimizer)
    assert communication.steps == 0


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Tanh(), "there are no parameters to communicate"),
        (nn.ParameterList([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, device="meta"))]), "2 devices"),
    ],
)
def test_models_that_can_not_be_communicated_are_refused(model, words):
    some = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(SoonerError, match=words):
        Communication(model, some)


def test_a_refusal_of_one_rank_is_that_of_all():
    class Two(Sim):
        def tell(self, what):
            return [("same", ""), ("same", "fp16 is not for this backend; use bf16")]

    with pytest.raises(SoonerError, match="rank 1: fp16 is not for this backend; use bf16"):
        agree(Two(2), {})
