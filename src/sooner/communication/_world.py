"""Several processes as torchrun starts them: joined before the first step, and told apart when one of them is lost."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist

from sooner.communication import _lookout
from sooner.communication._lookout import Lookout, RankLostError, lookout
from sooner.error import SoonerError


def size() -> int:
    """Return the number of processes that train together: of the process group, or of what torchrun announced."""
    return dist.get_world_size() if dist.is_initialized() else _announced("WORLD_SIZE", 1)


def join(timeout: float) -> None:
    """Meet the other processes that torchrun (or whoever set RANK and WORLD_SIZE) started, unless that is done already.

    Args:
        timeout: seconds that one exchange may take before this rank gives up on the others.

    Raises:
        SoonerError: the variables make no sense, or not all processes came.
    """
    if dist.is_initialized() or _announced("WORLD_SIZE", 1) == 1:
        return
    rank, world = _announced("RANK", -1), _announced("WORLD_SIZE", 1)
    if not 0 <= rank < world:
        raise SoonerError(f"RANK={os.environ.get('RANK')} is none of the {world} of WORLD_SIZE; start with torchrun")
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=datetime.timedelta(seconds=timeout)
        )
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:200]
        raise SoonerError(
            f"rank {rank} could not meet the {world} processes of this run ({first}); start all of them with torchrun"
        ) from error


def part() -> None:
    """Take leave of the other processes, at the end of a program that has joined them."""
    watch = lookout()
    if watch is not None:
        watch.leave()
    _lookout.close()
    dist.destroy_process_group()


@contextlib.contextmanager
def together(advice: Callable[[], str]) -> Iterator[Lookout | None]:
    """Inside, this process trains with others; however it ends, they learn of it.

    Args:
        advice: what to do when a rank is lost, as the end of a sentence; asked for when one is.

    Raises:
        RankLostError: a rank is lost; names it, and says what to do.
    """
    watch = lookout()
    if watch is None:
        yield None
        return
    watch.ends_process, watch.advice = True, advice
    try:
        with _told_to_stop(watch):
            yield watch
    except RankLostError as lost:
        raise RankLostError(f"{lost}; {advice()}") from lost
    except _StoppedError as stop:
        found = watch.judge("stopped by SIGTERM")
        if isinstance(found, RankLostError):
            raise RankLostError(f"{found}; {advice()}") from stop
        raise SoonerError(f"rank {watch.rank} was stopped (SIGTERM); {advice()}") from stop
    except BaseException as error:
        watch.leave(f"stopped ({type(error).__name__}: {error})")
        raise
    finally:
        watch.ends_process = False


class _StoppedError(BaseException):
    """SIGTERM arrived: somebody wants this process to end, as torchrun does once a rank is lost."""


@contextlib.contextmanager
def _told_to_stop(watch: Lookout) -> Iterator[None]:
    """Turn SIGTERM, which torchrun sends when a rank is lost, into an exception, so that this rank can say which."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return

    def stop(*_: Any) -> None:
        if not watch.judging:
            raise _StoppedError

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _announced(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    try:
        return int(text) if text else otherwise
    except ValueError:
        raise SoonerError(f"{name}={text!r} is no number; start with torchrun, which sets it") from None
