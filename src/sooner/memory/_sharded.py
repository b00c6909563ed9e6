"""Lazy checkpoints of sharded parameters: each process copies its pieces, `torch.distributed` writes them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.staging import AsyncStager
from torch.distributed.checkpoint.state_dict_saver import async_save

from sooner.error import SoonerError
from sooner.foundation.files import sync
from sooner.memory._staging import drop, unwritten


class LazyStager(AsyncStager):
    """Hands `torch.distributed.checkpoint.async_save` copies that are still being made.

    Args:
        copies: will hold the copied state.
    """

    _synchronize_after_execute = False

    def __init__(self, copies: Future[dict[str, Any]]) -> None:
        self._copies = copies

    def stage(self, state_dict: dict[str, Any]) -> Future[dict[str, Any]]:
        """Return what will hold the copies of the state, which was captured before."""
        return self._copies

    def synchronize_staging(self) -> None:
        """Wait for the copies."""
        self._copies.result()

    def close(self) -> None:
        """Keep nothing: the copies belong to who made them."""
        return


class Sharded:
    """Writes folders, in a process group of its own, so that nothing gets between the messages of training.

    All processes make it together.
    """

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo")

    def save(
        self,
        path: Path,
        copies: Future[dict[str, Any]],
        done: Callable[[Path], None],
    ) -> tuple[Any, ...]:
        """Start to write a checkpoint in the background; all processes call it together.

        Args:
            path: the folder.
            copies: will hold this process's copies, or say why there are none.
            done: is told, by the first process, when the folder is whole.

        Returns:
            A function and its arguments, to be called in the background, which returns when the folder is whole.
        """
        incomplete = path.with_name(f"{path.name}.incomplete")
        usable: Future[dict[str, Any]] = Future()  # for the others would wait for a process without copies for ever
        copies.add_done_callback(lambda found: usable.set_result({} if found.exception() else found.result()))
        if dist.get_rank() == 0:
            drop(incomplete)
        started: Any = async_save(
            {"checkpoint": None},
            storage_writer=FileSystemWriter(incomplete),
            process_group=self._group,
            async_stager=LazyStager(usable),
        )
        uploaded = getattr(started, "upload_completion", started)
        return self._finish, path, incomplete, copies, uploaded, done

    def _finish(
        self,
        path: Path,
        incomplete: Path,
        copies: Future[dict[str, Any]],
        uploaded: Future[Any],
        done: Callable[[Path], None],
    ) -> None:
        """Give the folder its name where all processes have written what they should; else say on all why not."""
        wrong: BaseException | None = None
        try:
            uploaded.result()
        except CheckpointException as error:
            wrong = unwritten(path, min(error.failures.items())[1][0])
        except (OSError, RuntimeError) as error:
            wrong = unwritten(path, error)
        # why a process has no copies is the reason why the others could not write
        found = self._told(copies.exception()) or self._told(wrong)
        if not found and dist.get_rank() == 0:
            try:
                if path.exists():
                    shutil.rmtree(path)
                incomplete.rename(path)
                sync(path.parent)
            except OSError as error:
                wrong = unwritten(path, error)
        found = found or self._told(wrong)
        if found:
            raise SoonerError(found[0])
        if dist.get_rank() == 0:
            done(path)

    def _told(self, wrong: BaseException | None) -> list[str]:
        """Return what went wrong on any of the processes, which all ask together."""
        said: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(said, None if wrong is None else str(wrong), group=self._group)
        return [one for one in said if one is not None]
