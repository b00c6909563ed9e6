"""How long training stands still for a checkpoint, several ways in turn: for claim and benchmark of `lazy_saver`.

One thread computes. A round is a checkpoint of every way, each behind an ordinary step, in alternating order; a round
in which the computing thread had to wait for a core is measured again.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sooner.memory.lazy_saver import LazySaver

LAYERS = 17
"""With two numbers of state per weight, 51 large tensors."""
BATCH = 48
ATTEMPTS = 2
QUIET = 0.05
"""Share of the time for which the computing thread may have waited for a core."""


class Job:
    """A plain network and AdamW, of `mib` MiB in all."""

    def __init__(self, mib: float) -> None:
        width = max(8, round(math.sqrt(mib * 2**20 / 12 / LAYERS)))
        torch.manual_seed(0)
        self.model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(LAYERS)))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self.inputs = torch.randn(BATCH, width)
        self.mib = 12 * LAYERS * width**2 / 2**20
        self.compute()
        self.move()

    def compute(self) -> None:
        """Forward and backward."""
        torch.autograd.backward(self.model(self.inputs).square().mean())

    def move(self) -> None:
        """The optimizer's step."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}


class Way:
    """A way to write checkpoints: what happens at once, before the next step, and until the file is whole."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.path = job, folder / f"{type(self).__name__}.pt"

    def save(self) -> None:
        """Ask for a checkpoint."""

    def join(self) -> None:
        """Wait for what must be done before weights move."""

    def finish(self) -> None:
        """Wait for the file."""

    def close(self) -> None:
        """Leave nothing running."""


class Nothing(Way):
    """No checkpoint."""


class Save(Way):
    """`torch.save`, while training stands still."""

    def save(self) -> None:
        """Write."""
        torch.save(self.job.state(), self.path)


class Clone(Way):
    """A copy of everything while training stands still, which a thread writes."""

    def save(self) -> None:
        """Copy."""
        copied = _cloned(self.job.state())
        self._thread = threading.Thread(target=torch.save, args=(copied, self.path))
        self._thread.start()

    def finish(self) -> None:
        """Wait for the thread."""
        self._thread.join()


class Stager(Way):
    """`torch.distributed.checkpoint.async_save` with torch's `DefaultStager`, whose copies training waits for."""

    async_staging = False

    def __init__(self, job: Job, folder: Path) -> None:
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        super().__init__(job, folder)
        self.stager = DefaultStager(StagingOptions(False, False, self.async_staging, False))  # all else needs a GPU
        self.response: Any = None

    def save(self) -> None:
        """Let it copy."""
        from torch.distributed.checkpoint.state_dict_saver import async_save

        self.response = async_save(self.job.state(), checkpoint_id=self.path, async_stager=self.stager, no_dist=True)

    def finish(self) -> None:
        """Wait for the folder."""
        getattr(self.response, "upload_completion", self.response).result()
        shutil.rmtree(self.path)

    def close(self) -> None:
        """End its thread."""
        self.stager.close()


class ThreadedStager(Stager):
    """The same with copies in its thread, joined before the step."""

    async_staging = True

    def join(self) -> None:
        """Wait for the copies."""
        self.response.staging_completion.result()


class Lazy(Way):
    """`LazySaver`."""

    def __init__(self, job: Job, folder: Path) -> None:
        super().__init__(job, folder)
        self.saver = LazySaver(job.optimizer)

    def save(self) -> None:
        """Ask."""
        self.saver.save(self.path, model=self.job.model, optimizer=self.job.optimizer)

    def join(self) -> None:
        """Wait, as the optimizer's hook does."""
        self.saver.wait()

    def finish(self) -> None:
        """Wait for the file."""
        self.saver.flush()


WAYS: dict[str, type[Way]] = {
    "none": Nothing,
    "torch.save": Save,
    "clone": Clone,
    "stager": Stager,
    "stager in a thread": ThreadedStager,
    "lazy": Lazy,
}


def stalls(mib: float, rounds: int, steps: int = 6) -> dict[str, Any]:
    """Return for each way, a value per round: milliseconds of standing still, and of so many steps with one checkpoint.

    Args:
        mib: weights and optimizer state.
        rounds: how often everyone has a turn, after a turn that does not count.
        steps: the first of them follows a checkpoint.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            job = Job(mib)
            ways = {name: way(job, Path(folder)) for name, way in WAYS.items()}
            tries = [_quietest(ways, job, steps, number) for number in range(-1, rounds)][1:]
            limits = physical(job, Path(folder))
            for way in ways.values():
                way.close()
    finally:
        torch.set_num_threads(threads)
    found: dict[str, Any] = {"waited": [round(one["waited"], 4) for one in tries], "mib": round(job.mib, 1), **limits}
    for name in ways:
        found[f"stall {name}"] = [one[name]["stall"] for one in tries]
        found[f"steps {name}"] = [one[name]["steps"] for one in tries]
    found["compute"] = [one["compute"] for one in tries]
    return found


def _quietest(ways: dict[str, Way], job: Job, steps: int, number: int) -> dict[str, Any]:
    """Measure a round, again where the computing thread waited for a core; the first is no more than a warm-up."""
    tries: list[dict[str, Any]] = []
    while len(tries) < (ATTEMPTS if number >= 0 else 1) and not (tries and tries[-1]["waited"] <= QUIET):
        tries.append(_round(ways, job, steps if number >= 0 else 1, number))
    return min(tries, key=lambda one: one["waited"])


def _round(ways: dict[str, Way], job: Job, steps: int, number: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    waited, began = _waited(), time.perf_counter()
    for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
        way, stall = ways[name], 0.0
        started = time.perf_counter()
        for step in range(steps):
            if step == 0:
                way.save()
                stall += time.perf_counter() - started
            computing = time.perf_counter()
            job.compute()
            computed = time.perf_counter()
            if step == 0:
                way.join()
                stall += time.perf_counter() - computed
            if name == "none":
                found["compute"] = 1e3 * (computed - computing)
            job.move()
        found[name] = {"stall": 1e3 * stall, "steps": 1e3 * (time.perf_counter() - started)}
        way.finish()
    found["waited"] = (_waited() - waited) / (time.perf_counter() - began)
    return found


def physical(job: Job, folder: Path) -> dict[str, float]:
    """Return what the machine itself takes, in milliseconds: to copy so much memory, and to bring it to the disk."""
    source = torch.ones(round(job.mib * 2**18))
    target = torch.empty_like(source).fill_(0)

    def copied() -> None:
        target.copy_(source)

    def written() -> None:
        with (folder / "limit").open("wb") as file:
            file.write(source.numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())

    return {"copy": min(_timed(copied) for _ in range(3)), "disk": min(_timed(written) for _ in range(3))}


def _timed(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return 1e3 * (time.perf_counter() - started)


def _waited() -> float:
    """Return the seconds that this thread has been ready to run without getting a core (Linux; else 0)."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except OSError:
        return 0.0


def _cloned(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.clone()
    if isinstance(tree, dict):
        return {key: _cloned(one) for key, one in tree.items()}
    return [_cloned(one) for one in tree] if isinstance(tree, list) else tree


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield
