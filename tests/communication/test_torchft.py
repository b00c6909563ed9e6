"""The wire over torchft, with a stand-in for its manager, and with the real package where it is installed."""

import inspect

import pytest
import torch
from torch import nn

from sooner import Recipe, SoonerError
from sooner.communication import TorchFT


class Arrived:
    def wait(self):
        return True


class Manager:
    """Stands in for torchft's: the others send what `others` says."""

    def __init__(self, others):
        self.others, self.failure, self.calls = others, None, 0

    def allreduce(self, tensor):
        self.calls += 1
        tensor.add_(sum(self.others)).div_(1 + len(self.others))
        return Arrived()

    def num_participants(self):
        return 1 + len(self.others)

    def errored(self):
        return self.failure


def made(recipe, manager):
    torch.manual_seed(0)
    model = nn.Linear(3, 1, bias=False)
    return model, Recipe(recipe).build(model, 10, wire=TorchFT(manager))


def test_gradients_are_averaged_over_whoever_takes_part():
    manager = Manager([5.0, 6.0])
    model, training = made("sgd(lr=1.0, momentum=0.0)", manager)
    start = model.weight.detach().clone()
    model.weight.grad = torch.ones(1, 3)
    training.average_gradients()
    training.step()
    assert manager.calls == 2  # the first time workers also tell which parameters have a gradient
    assert torch.allclose(start - model.weight, torch.full((1, 3), 4.0))
    assert training.communication.wire.size == 3
    manager.others = []
    training.zero_grad()
    model.weight.grad = torch.ones(1, 3)
    training.step()
    assert training.communication.wire.size == 1
    assert torch.allclose(start - model.weight, torch.full((1, 3), 5.0))


def test_a_failed_exchange_changes_nothing_and_the_next_step_averages_again():
    manager = Manager([5.0])
    model, training = made("sgd(lr=1.0, momentum=0.0) + fp16", manager)
    manager.failure = RuntimeError("a replica left")
    model.weight.grad = torch.ones(1, 3)
    training.average_gradients()
    assert torch.equal(model.weight.grad, torch.ones(1, 3))
    training.zero_grad()  # should_commit said no: the step is not taken
    manager.failure = None
    model.weight.grad = torch.ones(1, 3)
    training.average_gradients()
    assert torch.allclose(model.weight.grad, torch.full((1, 3), 3.0))


def test_payloads_that_do_not_add_up_are_refused():
    for recipe in ("sgd + top_k + ef", "sgd + int8", "sgd + noloco(every=1)"):
        model, training = made(recipe, Manager([5.0]))
        model.weight.grad = torch.ones(1, 3)
        with pytest.raises(SoonerError, match="torchft only averages; use a part whose payloads add up"):
            training.step()


def test_the_real_manager_has_what_the_wire_asks_for():
    manager = pytest.importorskip("torchft", reason="torchft is not installed").Manager
    for name in ("allreduce", "num_participants", "errored"):
        required = [p for p in inspect.signature(getattr(manager, name)).parameters.values() if p.default is p.empty]
        assert len(required) == (2 if name == "allreduce" else 1)
