"""What a search does with coefficients: it puts a mixture of snapshots into the model and asks the metric."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.objective import evaluating
from sooner.weights._followed import STATISTICS, Place

Metric = Callable[[], Any]


class Trial:
    """One metric and the snapshots that are mixed for it.

    Args:
        model: the model.
        rows: the snapshots ``[k, n]``.
        found: where the model's tensors are, in the order of a row.
        metric: as `Mixture.search` takes it.
        refresh: likewise.

    Attributes:
        evaluations: how often a metric was asked.
    """

    def __init__(
        self, model: nn.Module, rows: Tensor, found: list[Place], metric: Metric, refresh: Callable[[], Any] | None
    ) -> None:
        self._model, self._rows, self._found, self._metric, self._refresh = model, rows, found, metric, refresh
        self.evaluations = 0
        self._trained = [place for place in found if not is_statistic(place)]

    @torch.no_grad()
    def put(self, coefficients: Tensor) -> None:
        """Give the model the mixture, and statistics that fit it."""
        write(coefficients.to(self._rows) @ self._rows, self._found)
        if self._refresh is not None:
            with _measuring(self._model):
                self._refresh()

    def value(self, coefficients: Tensor) -> float:
        """Return the metric, infinite where it is not a number."""
        return self.checked(self._metric)(coefficients)

    def checked(self, metric: Metric) -> Callable[[Tensor], float]:
        """Return a function that asks another metric."""

        def asked(coefficients: Tensor) -> float:
            self.put(coefficients)
            self.evaluations += 1
            with evaluating(self._model), torch.no_grad():
                value = float(metric())
            return value if math.isfinite(value) else math.inf

        return asked

    def has_gradient(self) -> bool:
        """Whether the metric returns a tensor with a graph; asks it once."""
        self.evaluations += 1
        with self._graph() as loss:
            return loss is not None

    def slope(self, coefficients: Tensor) -> tuple[float, Tensor]:
        """Return the metric, and its derivatives ``[k]`` by the coefficients as if they were free.

        Raises:
            SoonerError: the metric has no gradient.
        """
        self.put(coefficients)
        self.evaluations += 1
        with self._graph() as loss:
            if loss is None:
                raise SoonerError(
                    "mixture: the metric returns no tensor with a gradient, which method='gradient' needs; return the "
                    "loss itself, or choose method='evolution'"
                )
            gradients = torch.autograd.grad(loss, [place.tensor for place in self._trained], allow_unused=True)
        row = torch.zeros_like(self._rows[0])
        by_place = dict(zip(map(id, self._found), pieces(row, self._found), strict=True))
        for place, gradient in zip(self._trained, gradients, strict=True):
            if gradient is not None:
                by_place[id(place)].copy_(gradient)
        value = float(loss.detach())
        return value if math.isfinite(value) else math.inf, (self._rows @ row).double()

    @contextlib.contextmanager
    def _graph(self) -> Iterator[Tensor | None]:
        """Give the metric with its graph, None where it has none; weights frozen meanwhile have gradients inside."""
        frozen = [place.tensor for place in self._trained if not place.tensor.requires_grad]
        for tensor in frozen:
            tensor.requires_grad_(True)
        try:
            with evaluating(self._model), torch.enable_grad():
                found = self._metric()
                yield found if isinstance(found, Tensor) and found.requires_grad else None
        finally:
            for tensor in frozen:
                tensor.requires_grad_(False)


def is_statistic(place: Place) -> bool:
    """Whether it is a running statistic of batch normalization."""
    return all(key in STATISTICS for _, key in place.holders) and not isinstance(place.tensor, nn.Parameter)


def pieces(row: Tensor, found: list[Place]) -> list[Tensor]:
    """Return a row of numbers as tensors of the model's shapes, sharing its memory."""
    parts = torch.split(row, [place.tensor.numel() for place in found])
    return [part.view(place.tensor.shape) for part, place in zip(parts, found, strict=True)]


@contextlib.contextmanager
def _measuring(model: nn.Module) -> Iterator[None]:
    """Inside, modules with running statistics measure them from nothing, every batch counting alike."""
    modes = [(module, module.training) for module in model.modules()]
    measured = [m for m in model.modules() if m._buffers.get("running_mean") is not None and hasattr(m, "momentum")]
    before = [(m, m.momentum, _count(m)) for m in measured]
    for m in measured:
        m.reset_running_stats()  # type: ignore[operator]
        m.momentum = None  # type: ignore[assignment]
    model.eval()
    for m in measured:
        m.training = True  # and nothing else, for dropout would change what is measured
    try:
        yield
    finally:
        for m, momentum, count in before:
            m.momentum = momentum
            if count is not None:
                m.num_batches_tracked.copy_(count)  # type: ignore[operator]
        for module, mode in modes:
            module.training = mode


def _count(module: nn.Module) -> Tensor | None:
    count = module._buffers.get("num_batches_tracked")
    return None if count is None else count.clone()


def read(row: Tensor, found: list[Place]) -> None:
    """Fill a row with what the model holds."""
    for piece, place in zip(pieces(row, found), found, strict=True):
        piece.copy_(place.tensor.detach())


def write(row: Tensor, found: list[Place]) -> None:
    """Give the model the numbers of a row."""
    for piece, place in zip(pieces(row, found), found, strict=True):
        place.tensor.detach().copy_(piece)


def mapped(rows: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return zeros ``[rows, size]`` in a file without a name, which is on the disk as far as memory is short.

    Raises:
        SoonerError: the disk has no room for it.
    """
    length = rows * size * dtype.itemsize
    descriptor, path = tempfile.mkstemp(prefix="sooner-mixture-")
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, length)  # else a full disk would end the process at a later step
        else:
            os.truncate(descriptor, length)
        return torch.from_file(path, shared=True, size=rows * size, dtype=dtype).view(rows, size)
    except OSError as error:
        raise SoonerError(
            f"mixture: {rows} x {size} numbers don't fit into {Path(path).parent} ({error.strerror}); make keep "
            "smaller, or set $TMPDIR to a folder with room"
        ) from error
    finally:
        os.close(descriptor)
        Path(path).unlink()
