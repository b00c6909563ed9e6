"""From a captured state to a file: copies in the host's memory, which is kept for the next one, and an atomic write."""

from __future__ import annotations

import contextlib
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded, local
from sooner.foundation.files import save_whole, sync
from sooner.memory._capture import Capture, filled, place


class Staging:
    """Memory of the host for the copies of one checkpoint at a time."""

    def __init__(self) -> None:
        self._buffers: dict[Any, list[Tensor]] = {}

    @torch.no_grad()
    def filled(self, capture: Capture, ready: list[torch.cuda.Event]) -> dict[str, Any]:
        """Return the captured content with copies for tensors; they are overwritten by the next call.

        Args:
            capture: what to copy.
            ready: as `events` returned them when it was captured.

        Raises:
            SoonerError: a tensor was written to before it was copied.
        """
        free, self._buffers = self._buffers, defaultdict(list)
        known: dict[Any, Tensor] = {}
        copies: dict[int, Tensor] = {}
        pairs: list[tuple[Tensor, Tensor]] = []
        for tensor in (*capture.copied, *capture.waiting.values()):
            piece = local(tensor)
            where = place(piece)
            copy = known.get(where) if where else None
            if copy is None:
                own = id(tensor) not in capture.waiting and piece.device.type == "cpu"
                copy = known[where] = piece if own else self._buffer(piece, free)
                if not own:
                    pairs.append((piece, copy))
            copies[id(tensor)] = _laid_out(copy, tensor)
        free.clear()
        _copy(pairs, ready)
        if capture.written_meanwhile():
            raise SoonerError(
                "lazy_saver: weights or optimizer state were written to before they were copied, so this checkpoint is "
                "left out; call wait() before whatever changes them outside of the optimizer's step"
            )
        content: dict[str, Any] = filled(capture.tree, copies)
        return content

    def _buffer(self, tensor: Tensor, free: dict[Any, list[Tensor]]) -> Tensor:
        key = (tensor.shape, tensor.stride(), tensor.dtype, tensor.is_cuda)
        known = free.get(key)
        buffer = known.pop() if known else torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
        self._buffers[key].append(buffer)
        return buffer


def _laid_out(copy: Tensor, tensor: Tensor) -> Tensor:
    """Return the copy as a piece of what the tensor is a piece of."""
    if not is_sharded(tensor):
        return copy
    sharded: Any = tensor
    made: Tensor = type(sharded)(
        copy, sharded._spec, requires_grad=False
    )  # `from_local` would copy to the mesh's device
    return made


def events(capture: Capture) -> list[torch.cuda.Event]:
    """Return an event of every GPU, after which its tensors hold what they are captured with."""
    devices = {tensor.device for tensor in (*capture.waiting.values(), *capture.copied) if tensor.is_cuda}
    return [torch.cuda.current_stream(device).record_event() for device in devices]


def _copy(pairs: list[tuple[Tensor, Tensor]], ready: list[torch.cuda.Event]) -> None:
    """Copy in one call for each device, which holds up no other thread, and return when all is there."""
    by_device: dict[torch.device, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for tensor, copy in pairs:
        by_device[tensor.device].append((tensor, copy))
    streams: dict[torch.device, Any] = {
        device: torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        for device in by_device
        if device.type == "cuda"
    }
    for device, some in by_device.items():
        tensors, copies = (list(column) for column in zip(*some, strict=True))
        if device not in streams:
            torch._foreach_copy_(copies, tensors)
            continue
        for event in ready:
            streams[device].wait_event(event)
        with torch.cuda.stream(streams[device]):  # beside the stream of training
            torch._foreach_copy_(copies, tensors, non_blocking=True)
    for stream in streams.values():
        stream.synchronize()


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a file that is whole under its name or not there, and is on the disk when this returns.

    Raises:
        SoonerError: it can't be written; what had the name before is untouched.
    """
    try:
        save_whole(content, path, path.with_name(f"{path.name}.incomplete"))
        sync(path.parent)
    except (OSError, RuntimeError) as error:
        raise unwritten(path, error) from error


def unwritten(path: Path, why: object) -> SoonerError:
    """Return the error that a checkpoint can't be written."""
    return SoonerError(
        f"checkpoint {path} can't be written: {str(why).strip().splitlines()[0]}; those before it are untouched; make "
        "room on the disk or give another folder"
    )


def drop(path: Path) -> None:
    """Remove a checkpoint, a file or a folder; one that is gone already, or can't go, is left at that."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
