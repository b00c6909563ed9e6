"""What a training run tells those who watch it, without ever waiting for the device on their behalf."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from torch import Tensor
from torch.optim import Optimizer

from sooner.foundation.gradient_norm import global_norm, present
from sooner.foundation.released import is_released
from sooner.foundation.unwrap import unwrapped
from sooner.watch import Watch, watching

Watching = Any
"""What `watch=` takes: see `sooner.watch.watching`."""


class StepLog:
    """Tells every `every`-th step, the evaluations, the start and the end. Use it in a ``with`` around the run.

    Numbers of a logged step stay on their device until the next one is logged, which is `every` steps later, or until
    an evaluation, which waits for the device anyway.

    Args:
        watch: who watches, as `sooner.watch.watching` takes it.
        every: steps from one that is logged to the next.
        speaks: whether this process tells; of several workers the first does.
    """

    def __init__(self, watch: Watching, every: int, speaks: bool = True) -> None:
        told = watching(watch)
        self.on = bool(told.watchers)  # decided once, so that all workers do the same whatever fails on one of them
        self._watch = told if speaks else Watch()
        self._every = every
        self._coming: tuple[int, dict[str, float | Tensor]] | None = None
        self._seconds, self._steps = 0.0, 0
        self._begun: float | None = None

    def start(self, **about: Any) -> None:
        """Tell what begins."""
        if self.on:
            self._watch.start(about)

    def due(self, step: int) -> bool:
        """Return whether step number `step`, counted from 1, is logged."""
        return self.on and step % self._every == 0

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Time the steps; what happens between two of them is left out."""
        if not self.on:
            yield
            return
        began = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - began
        self._steps += 1

    def step(self, step: int, loss: Tensor, rates: Mapping[str, float | Tensor], norm: Tensor | None = None) -> None:
        """Take the numbers of a step that is due, and tell those of the one before.

        Args:
            step: its number, counted from 1.
            loss: 0-d; it may not change later.
            rates: what `rates` returned before the step.
            norm: of the gradients, 0-d.
        """
        self._tell()
        seconds = self._seconds / max(self._steps, 1)
        self._seconds, self._steps = 0.0, 0
        norms = {} if norm is None else {"gradient_norm": norm}
        self._coming = step, {"loss": loss, **rates, **norms, "seconds": seconds}

    def evaluation(self, step: int, numbers: Mapping[str, float]) -> None:
        """Tell what was measured."""
        if self.on:
            self._tell()
            self._watch.evaluation(step, numbers)

    def end(self, **outcome: Any) -> None:
        """Tell how it ended."""
        if self.on:
            self._tell()
            self._watch.end(outcome)

    def _tell(self) -> None:
        if self._coming is not None:
            (step, numbers), self._coming = self._coming, None
            self._watch.step(step, {name: float(value) for name, value in numbers.items()})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.end(error=f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def rates(optimizers: Sequence[Optimizer]) -> dict[str, float | Tensor]:
    """Return the learning rates as they are now: ``lr`` where all are the same, else ``lr/NAME`` of each optimizer.

    An optimizer whose groups differ gives one per group, ``lr/NAME/1``. Rates that are tensors are copied, not read.
    """
    found: dict[str, float | Tensor] = {}
    for optimizer in optimizers:
        name = type(unwrapped(optimizer)).__name__.lower()
        name = name if f"lr/{name}" not in found else f"{name}-{len(found) + 1}"
        values = [group["lr"] for group in optimizer.param_groups if "lr" in group]
        values = [value.detach().clone() if isinstance(value, Tensor) else float(value) for value in values]
        if len(values) > 1 and (any(isinstance(v, Tensor) for v in values) or len(set(values)) > 1):
            found.update({f"lr/{name}/{number}": value for number, value in enumerate(values)})
        elif values:
            found[f"lr/{name}"] = values[0]
    everything = list(found.values())
    if len(everything) == 1 or (everything and all(isinstance(v, float) and v == everything[0] for v in everything)):
        return {"lr": everything[0]}
    return found


def norm_of(optimizers: Sequence[Optimizer]) -> Tensor | None:
    """Return the global L2 norm of the gradients that the optimizers would step with now, 0-d; None without any.

    There is none either where gradients were freed inside backward.
    """
    found = present(optimizers)
    return None if any(map(is_released, found)) else global_norm(found)
