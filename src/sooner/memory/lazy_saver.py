"""Lazy checkpoints: the state is copied while the next forward and backward pass run, and written in the background.

    save after step t:   note which tensors there are; copy at once only what forward and backward may change
    a thread:            copy <- tensor, for all that only the optimizer moves;  write, fsync, rename
    before step t + 1:   wait until the copies are done, which they mostly are

Weights and optimizer state rest from one step of the optimizer to the next, so their copies need not stop training.

Use it when checkpoints are frequent or large, so that training stands still while they are written.

Leave it when memory has no room for a copy of weights and optimizer state.

It costs one copy of weights and optimizer state in the host's memory and the processor time of one thread; nothing on
the wire.

"DataStates-LLM: Lazy Asynchronous Checkpointing for Large Language Models", Maurya et al., 2024, arXiv 2406.10707. We
keep a whole copy where their engine has a ring of pinned memory, and write when it is complete: the copies have a
deadline, the disk has none until the next checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.foundation import snapshots
from sooner.foundation.unwrap import unwrapped
from sooner.memory._capture import Capture
from sooner.memory._staging import Staging, drop, events, write
from sooner.part import Part, check_range

if TYPE_CHECKING:
    from sooner.memory._sharded import Sharded

__all__ = ["LazySaver"]

log = logging.getLogger(__name__)


class LazySaver(Part):
    """Writes checkpoints while training goes on.

        saver = sooner.memory.LazySaver(optimizer, keep=2)
        saver.save("run/step500.pt", model=model, optimizer=optimizer, extra={"step": 500})

    `save` returns at once; the optimizer's next step waits for the copies, if they are not done by then. The file is
    written as ``NAME.incomplete``, brought to the disk and then renamed, so that a file with its name is whole whatever
    is killed when. ``torch.load(path, weights_only=True)`` reads it: a dict with what was given, tensors on the CPU,
    tied ones once. In `sooner.train` and ``sooner train`` the recipe ``"adamw + lazy_saver"`` writes the checkpoints of
    the loop in this way.

    - One file is under way at a time: a `save` before the last one's file is written waits for it.
    - What goes wrong in the background is raised by the next `save` or `flush`, and logged at once. Call `flush` after
      the last checkpoint; a process that ends in the ordinary way waits for its file.
    - Only what the optimizers given here hold is copied late. Whatever else is saved is copied inside `save`: buffers,
      random state, averages of weights, weights that no optimizer moves.
    - Weights must rest between `save` and the step: call `wait` before writing into them yourself. `view()` of the
      parts of sooner and parts that write weights before the step do so. Where PyTorch counts a change, the file is
      refused rather than written torn.
    - Where parameters are sharded (`DTensor`, FSDP2), `path` becomes a folder of `torch.distributed.checkpoint`,
      written by its ``async_save``; all processes call `save` and `flush` together.

    Args:
        optimizer: the optimizer, or all that move what is saved; wrappers are looked through.
        keep: how many of the files written here to keep, the newest, default 2; None for all. Files of an earlier
            process are left alone.

    Raises:
        SoonerError: no optimizer, or one without hooks; `keep` below 1.
    """

    station: ClassVar[str] = "memory"
    owns = frozenset({"checkpoints"})

    def __init__(self, optimizer: Optimizer | Iterable[Optimizer], keep: int | None = 2) -> None:
        if keep is not None:
            check_range("lazy_saver", "keep", keep, 1, math.inf, whole=True)
        given = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
        if not given:
            raise SoonerError("lazy_saver: there is no optimizer to wait with; give those that move the weights")
        self.keep = keep
        self._given: list[Any] = given
        self._optimizers = [_with_hooks(unwrapped(one)) for one in given]
        self._handles = [one.register_step_pre_hook(self._before_step) for one in self._optimizers]
        self._copied = threading.Event()
        self._copied.set()
        self._writing: Future[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._staging = Staging()
        self._sharded: Sharded | None = None
        self._written: list[Path] = []

    def save(self, path: str | Path, /, **content: Any) -> None:
        """Ask for a checkpoint of the state as it is now, and return before it is copied.

        Args:
            path: the file; one of that name is replaced when the new one is whole.
            content: what the file holds, by name: modules, optimizers and all else that has a ``state_dict()``, or
                dicts, lists and tuples of tensors, numbers and texts.

        Raises:
            SoonerError: the last file could not be written; the folder of `path` does not exist or can't be written
                to; something that a checkpoint does not hold; or called inside a `view()`.
        """
        self.flush()
        path = Path(path)
        _check_place(path)
        capture = Capture(content, self._optimizers)
        if path.is_dir() and not capture.sharded:
            raise SoonerError(f"checkpoint {path} is a folder; give the name of a file")
        if any(capture.shows(model) for model in snapshots.lent()):
            raise SoonerError(
                "lazy_saver: save() inside view() would copy weights while they are given back; leave the view to save "
                "the training weights, or save what it shows with torch.save"
            )
        ready = events(capture)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "lazy_saver")
        if capture.sharded and self._sharded is None:
            from sooner.memory._sharded import Sharded  # loads all of torch's distributed checkpoints

            self._sharded = Sharded()
        self._copied.clear()
        snapshots.begin(self, self.wait)
        try:
            if capture.sharded and self._sharded is not None:
                copies = self._thread.submit(self._copy, capture, ready)
                self._writing = self._thread.submit(_told, *self._sharded.save(path, copies, self._done))
            else:
                self._writing = self._thread.submit(_told, self._write, path, capture, ready)
        except BaseException:  # such as no thread at the end of the process: then no step may wait for one
            self._settled()
            raise

    def wait(self) -> None:
        """Return when the copies are done, and weights may be written to; the file may still be under way."""
        self._copied.wait()

    def flush(self) -> None:
        """Return when the file under way is on the disk under its name.

        Raises:
            SoonerError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def detach(self) -> None:
        """Finish what is under way, and hang on no optimizer any more.

        Raises:
            SoonerError: it could not be written.
        """
        for handle in self._handles:
            handle.remove()
        self.flush()

    def __enter__(self) -> LazySaver:
        """Return itself; leaving the context waits for the file under way."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(*([] if kind is None else [SoonerError])):  # logged already; the first error counts
            self.flush()

    def __reduce__(self) -> tuple[Any, ...]:
        """Return a copy that hangs on the copied optimizers and has written nothing yet."""
        return type(self), (self._given, self.keep)

    def _before_step(self, *_: Any) -> None:
        self._copied.wait()

    # waiting stays outside of compiled graphs; `torch.compiler.disable` says the same, and imports the compiler first
    _before_step._torchdynamo_disable = True  # type: ignore[attr-defined]

    def _copy(self, capture: Capture, ready: list[Any]) -> dict[str, Any]:
        """Return the content with copies for tensors, in the background; whatever happens, nobody waits afterwards."""
        try:
            return self._staging.filled(capture, ready)
        finally:
            self._settled()

    def _settled(self) -> None:
        snapshots.end(self)
        self._copied.set()

    def _write(self, path: Path, capture: Capture, ready: list[Any]) -> None:
        write(path, self._copy(capture, ready))
        self._done(path)

    def _done(self, path: Path) -> None:
        """Note that the checkpoint is whole, and drop those that are too many."""
        self._written = [*(one for one in self._written if one != path), path]
        while self.keep is not None and len(self._written) > self.keep:
            drop(self._written.pop(0))


def _told(act: Callable[..., None], *args: Any) -> None:
    """Do what is done in the background; what goes wrong is logged at once and raised where it is asked for."""
    try:
        act(*args)
    except BaseException as error:
        log.error("%s", error)
        raise


def _with_hooks(optimizer: Any) -> Any:
    if not hasattr(optimizer, "register_step_pre_hook"):
        raise SoonerError(
            f"lazy_saver: {type(optimizer).__name__} has no hooks for its step, so nothing tells when the copies must "
            "be done; pass the torch.optim.Optimizer itself"
        )
    return optimizer


def _check_place(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise SoonerError(f"checkpoint {path} has no place: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SoonerError(f"checkpoint {path} can't be written: no right to write in {folder}; give another folder")
