"""Seeing and replacing the cross-entropy of a loss that somebody else wrote."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from sooner.foundation.intercept import CrossEntropy


def recorder(answer=1.0):
    seen = []

    def handle(logits, targets, options):
        seen.append((logits, targets, options))
        return logits.sum() * answer

    return seen, handle


def test_every_way_to_ask_for_cross_entropy_is_seen():
    x, y, w = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.ones(3)
    seen, handle = recorder()
    with CrossEntropy(handle) as context:
        functional.cross_entropy(x, y)
        functional.cross_entropy(x, y, w, ignore_index=2, reduction="sum")
        functional.cross_entropy(input=x, target=y, label_smoothing=0.1)
        nn.functional.cross_entropy(x, target=y)
        nn.CrossEntropyLoss(weight=w)(x, y)
    assert context.calls == 5
    assert all(logits is x and targets is y for logits, targets, _ in seen)
    defaults = {"weight": None, "ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0}
    given = [{}, {"weight": w, "ignore_index": 2, "reduction": "sum"}, {"label_smoothing": 0.1}, {}, {"weight": w}]
    for (_, _, options), expected in zip(seen, given, strict=True):
        assert {name: options[name] for name in defaults} == {**defaults, **expected}


def test_the_options_can_be_passed_on():
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    asked = {"weight": torch.tensor([1.0, 2.0, 3.0]), "ignore_index": 2, "reduction": "sum", "label_smoothing": 0.1}
    with CrossEntropy(lambda logits, targets, options: functional.cross_entropy(logits, targets, **options)):
        passed = functional.cross_entropy(x, y, **asked)
    assert torch.equal(passed, functional.cross_entropy(x, y, **asked))


def test_everything_else_goes_through():
    x = torch.randn(4, 3)
    seen, handle = recorder()
    with CrossEntropy(handle) as context:
        assert torch.equal(functional.log_softmax(x, 1), x.log_softmax(1))
        functional.nll_loss(x.log_softmax(1), torch.tensor([0, 1, 2, 0]))
        functional.binary_cross_entropy_with_logits(x, torch.ones(4, 3))
        assert (x @ x.mT).shape == (4, 4)
    assert seen == []
    assert context.calls == 0


def test_the_answer_takes_the_place_of_the_loss_and_its_gradient():
    x = torch.randn(4, 3, requires_grad=True)
    _, handle = recorder(answer=7.0)
    with CrossEntropy(handle):
        loss = functional.cross_entropy(x, torch.tensor([0, 1, 2, 0])) + 1
    assert loss.item() == pytest.approx(x.sum().item() * 7 + 1, rel=1e-5)
    loss.backward()
    assert torch.equal(x.grad, torch.full((4, 3), 7.0))


def test_inside_the_handle_cross_entropy_is_the_ordinary_one():
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    with CrossEntropy(lambda logits, targets, options: 2 * functional.cross_entropy(logits, targets)) as context:
        doubled = functional.cross_entropy(x, y)
    assert context.calls == 1
    assert torch.equal(doubled, 2 * functional.cross_entropy(x, y))


def test_nested_contexts_answer_from_the_inside_out():
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    order = []

    def layer(name):
        def handle(logits, targets, options):
            order.append(name)
            return functional.cross_entropy(logits, targets, **options)

        return handle

    with CrossEntropy(layer("outer")), CrossEntropy(layer("inner")):
        functional.cross_entropy(x, y)
    assert order == ["inner", "outer"]


def test_outside_and_after_an_exception_nothing_is_replaced():
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    plain = functional.cross_entropy(x, y)
    seen, handle = recorder()
    with pytest.raises(KeyError), CrossEntropy(handle):
        raise KeyError
    assert torch.equal(functional.cross_entropy(x, y), plain)
    assert seen == []


def test_a_context_counts_over_all_its_uses():
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    _, handle = recorder()
    context = CrossEntropy(handle)
    for _ in range(3):
        with context:
            functional.cross_entropy(x, y)
    assert context.calls == 3


def test_a_wrong_call_fails_as_it_does_without_the_context():
    _, handle = recorder()
    with CrossEntropy(handle), pytest.raises(TypeError, match="missing 1 required positional argument: 'target'"):
        functional.cross_entropy(torch.randn(4, 3))
