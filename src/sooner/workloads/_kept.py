"""Trained networks that a task begins with: pure functions of a seed, made once and kept in the user's cache."""

import functools
import hashlib
import inspect
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from sooner.execute.compiler import cache_home
from sooner.version import __version__
from sooner.workloads._seeded import seeded

log = logging.getLogger(__name__)


def kept(name: str, make: Callable[[], nn.Module], train: Callable[[nn.Module], None], *key: object) -> nn.Module:
    """Return ``make()`` after ``train(model)``, from the cache where it was trained before.

    Training runs on one thread and leaves PyTorch's generator and number of threads as they were. Kept files are bound
    to the files of `train` and of the network's classes, to the versions of sooner and PyTorch, and to the processor. A
    damaged one is made again, and a cache that can't be written is done without. Processes that train the same one at
    once write the same.

    Args:
        name: of the file.
        make: the network before training.
        train: trains it in place, a function of `key` alone; may be a `functools.partial`.
        key: everything else that decides the weights, such as the seed, or what the data are.
    """
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller is about
        return _kept(name, make, train, key)


def _kept(
    name: str, make: Callable[[], nn.Module], train: Callable[[nn.Module], None], key: tuple[object, ...]
) -> nn.Module:
    model = make()
    machine = (torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability())
    described = (*_sources(train, model), __version__, *machine, *key)
    digest = hashlib.sha256(repr(described).encode()).hexdigest()[:16]
    path = Path(cache_home()) / "networks" / f"{name}-{digest}.pt"
    try:
        path = path.expanduser()
        model.load_state_dict(torch.load(path, weights_only=True))
        return model
    except FileNotFoundError:
        pass
    except Exception as error:  # cut off, of another layout, unreadable: torch raises nearly anything
        log.info("the network kept in %s can't be read (%s); it is trained again", path, error)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with more, sums are added up in another order
    try:
        with seeded(0):
            train(model)
    finally:
        torch.set_num_threads(threads)
    _keep(path, model.state_dict())
    return model


def _sources(train: Callable[[nn.Module], None], model: nn.Module) -> list[str]:
    """Return the files that the training and the network's own classes are written in."""
    function = train.func if isinstance(train, functools.partial) else train
    named = {function.__module__, *(type(one).__module__ for one in model.modules())}
    return [inspect.getsource(sys.modules[name]) for name in sorted(named) if not name.startswith("torch.")]


def _keep(path: Path, state: dict[str, Tensor]) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            torch.save(state, file)
        Path(temporary).replace(path)
    except (OSError, RuntimeError) as error:  # a full disk is either
        log.info("the network %s can't be kept (%s); the next process trains it again", path, error)
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
