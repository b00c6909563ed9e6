"""The real optimizer is found through the wrappers of other libraries."""

from typing import Any

import torch
from wrapped_optimizers import Accelerated, Lightning

from sooner.foundation.unwrap import unwrapped


def test_an_optimizer_is_its_own_inside() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert unwrapped(optimizer) is optimizer


def test_any_number_of_wrappers_is_taken_off() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    for wrapped in (Accelerated(optimizer), Lightning(optimizer), Lightning(Accelerated(optimizer))):
        assert unwrapped(wrapped) is optimizer


def test_what_is_no_optimizer_comes_back_as_it_is() -> None:
    odd: list[Any] = [3, None, [1.0], torch.nn.Linear(1, 1)]
    assert all(unwrapped(one) is one for one in odd)


def test_wrappers_that_hold_each_other_end() -> None:
    first = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    second = Accelerated(first)
    first.optimizer = second  # type: ignore[attr-defined]
    assert unwrapped(first) is second
