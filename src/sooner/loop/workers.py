"""The reference loop among several workers: what they must agree on, and what is worth knowing about their traffic."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sooner.communication._group import Group
from sooner.error import SoonerError
from sooner.recipe.training import Training


@dataclass
class Report:
    """What training together has cost and given.

    Attributes:
        workers: how many there were.
        payload_bytes: that one worker had encoded, at every evaluation.
        wire_bytes: that left one worker, at every evaluation; headers of the network are not in it.
        encode_seconds: spent in codecs and memories.
        wait_seconds: spent in exchanges.
        step_seconds: spent in steps, encoding and waiting included.
        error: share of the last vector that a worker could not send, mean over the workers; None before the first.
        consensus: ``(1 / n) sum_i ||x_i - mean x||^2``, the workers' distance from their average, at the end.
        replicas: metric at the end, mean over the workers' own weights; `Run.values` are those of the average model.
        gradients_per_step: passes over the model per step.
    """

    workers: int
    payload_bytes: list[float] = field(default_factory=list)
    wire_bytes: list[float] = field(default_factory=list)
    encode_seconds: float = 0.0
    wait_seconds: float = 0.0
    step_seconds: float = 0.0
    error: float | None = None
    consensus: float = 0.0
    replicas: float | None = None
    gradients_per_step: int = 1


class Workers:
    """This worker among those that train with it. Alone, nothing here does anything.

    Args:
        training: the recipe at work.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self._group = Group()  # with counts of its own: what is agreed here is no traffic of a method
        self._shared = 0
        self._report: Report | None = None
        self.size, self.rank = self._group.size, self._group.rank

    def report(self) -> Report | None:
        """Return where this worker writes down what it learns; None where nothing is communicated."""
        if self.training.communication is not None:
            self._report = Report(self.training.communication.wire.size)
        return self._report

    def resume(self, step: int) -> None:
        """Note that the steps before this one were taken, and their losses shared, by an earlier process."""
        self._shared = step

    @torch.no_grad()
    def share_losses(self, losses: Tensor, step: int) -> None:
        """Replace the losses of the steps before `step` by the workers' mean, which is not finite where one is not."""
        if self.size > 1 and step > self._shared:
            (mean,) = self._group.mean((losses[self._shared : step],))
            losses[self._shared : step] = mean
        self._shared = step

    def watching(self) -> contextlib.AbstractContextManager[None]:
        """Return a context for collectives of torch's own: when one fails, the worker that is lost is named."""
        return self._group.watching()

    def told_by_first(self, found: Any) -> Any:
        """Return what rank 0 has found, so that all workers decide alike."""
        if self.size > 1:
            box = [found]
            with self.watching():
                dist.broadcast_object_list(box, src=0)
            found = box[0]
        return found

    def agree(self, act: Callable[[], Any]) -> Any:
        """Return what `act` returns on rank 0, which alone does it; what goes wrong there goes wrong for all.

        Raises:
            SoonerError: `act` did.
        """
        made, wrong = None, None
        if self.rank == 0:
            try:
                made = act()
            except SoonerError as error:
                wrong = str(error)
        made, wrong = self.told_by_first((made, wrong))
        if wrong is not None:
            raise SoonerError(wrong)
        return made

    def mean(self, value: float) -> float:
        """Return the mean over the workers."""
        if self.size == 1:
            return value
        (mean,) = self._group.mean((torch.tensor([value], dtype=torch.float64),))
        return float(mean)

    @torch.no_grad()
    def consensus(self) -> float:
        """Return the mean squared distance of the workers' weights from their average."""
        apart = 0.0
        for p in self.training.model.parameters():
            (mean,) = self._group.mean((p.detach(),))
            apart += float((p - mean).double().square().sum())
        return self.mean(apart)

    def note(self) -> None:
        """Write down the traffic so far, at an evaluation."""
        report, communication = self._report, self.training.communication
        if report is None or communication is None:
            return
        traffic = communication.wire.traffic
        report.payload_bytes.append(self.mean(traffic.payload_bytes))
        report.wire_bytes.append(self.mean(traffic.wire_bytes))
        report.encode_seconds, report.wait_seconds = traffic.encode_seconds, traffic.wait_seconds
        lost = communication.exchange.lost
        report.error = None if lost is None else self.mean(float(lost))

    def finish(self, metric: Callable[[], float]) -> None:
        """End with one model on all workers, after noting how far they were apart. It is not counted as traffic.

        Args:
            metric: measures this worker's own weights.
        """
        report, communication = self._report, self.training.communication
        if communication is None or communication.finished:
            return
        if report is not None and goes_apart(self.training):
            report.consensus, report.replicas = self.consensus(), self.mean(metric())
        counted = communication.wire.traffic.state_dict()
        self.training.finish()
        communication.wire.traffic.load_state_dict(counted)

    @contextlib.contextmanager
    def timing(self) -> Iterator[None]:
        """Inside is one step."""
        started = time.perf_counter()
        yield
        if self._report is not None:
            self._report.step_seconds += time.perf_counter() - started


def goes_apart(training: Training) -> bool:
    """Say whether the workers' weights may differ between steps."""
    communication: Any = training.communication
    return communication is not None and communication.wire.size > 1 and not communication.averages_gradients
