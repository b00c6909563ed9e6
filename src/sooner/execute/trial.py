"""Trying a compiled kernel before it is used: it has to do to a few numbers what PyTorch's operations do to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sooner.execute.c_source import row_value_names, vector_names
from sooner.execute.expression import Program
from sooner.execute.inductor import write_python

TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 1e-2, "float16": 2e-3}
"""How far numbers of a dtype may be apart, relatively; a wrong program is further off."""

SHARE = 0.98
"""Of the numbers have to be that close: a rounding may turn a comparison, but not of many."""


def agrees(
    program: Program, launch: Callable[..., None], dtypes: tuple[str, str, str], device: torch.device, block: int
) -> bool:
    """Run a program over one block and three elements more, and compare; waits for the device.

    Args:
        program: what was compiled.
        launch: as `sooner.execute.triton` launches it.
        dtypes: of parameters, gradients and state.
        device: where it runs.
        block: elements of a block.
    """
    theta, gradient, state = dtypes
    held = {"theta": theta, "gradient": gradient}
    exact: torch.dtype = getattr(torch, state)
    length, names, rowed = block + 3, vector_names(program), row_value_names(program)
    random = torch.Generator().manual_seed(0)

    def drawn(count: int, dtype: torch.dtype = exact) -> Tensor:
        return torch.rand(count, generator=random, dtype=torch.float64).mul_(0.9).add_(0.1).to(dtype).to(device)

    vectors = {name: drawn(length, getattr(torch, held.get(name, state))) for name in names}
    expected = [vectors[name].to(exact, copy=True) for name in names]
    numbers, values = drawn(len(program.numbers)), [drawn(1) for _ in rowed]
    sums = torch.zeros(len(program.sums), 2, dtype=torch.float64, device=device)
    of_torch = _played(program, getattr(torch, theta))(expected, values, numbers)
    places = torch.tensor([one.data_ptr() for one in vectors.values()], device=device)
    blocks = torch.tensor([[0, 0, block, 0, 0, 0], [0, block, 3, 0, 0, block]], device=device)
    salts = torch.zeros(1, dtype=torch.int64, device=device)
    launch(2, places, 1, blocks, numbers, salts, sums, 2, *values, block, True)
    pairs = [
        (vectors[name].to(exact), expected[i].to(vectors[name].dtype).to(exact), held.get(name, state))
        for i, name in enumerate(names)
    ]
    pairs += [
        (found.sum().view(1), other.double().expand(length).sum().view(1), state)
        for found, other, (kind, _) in zip(sums, of_torch, program.sums, strict=True)
        if kind != "in"  # the vector holds what was written to it by now
    ]
    return all(_close(found, other, TOLERANCES[dtype]) for found, other, dtype in pairs)


def _close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool(torch.isclose(found, expected, tolerance, tolerance, equal_nan=True).double().mean() >= SHARE)


class _Operations:
    """PyTorch's, and the one that is not among them."""

    def __init__(self, theta: torch.dtype) -> None:
        self._theta = theta

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def as_theta(self, x: Tensor) -> Tensor:
        """Round to the parameters' dtype."""
        return x.to(self._theta).to(x.dtype)


def _played(program: Program, theta: torch.dtype) -> Callable[..., list[Tensor]]:
    found: dict[str, Any] = {}
    exec(write_python(program), {"torch": _Operations(theta)}, found)
    played: Callable[..., list[Tensor]] = found["played"]
    return played
