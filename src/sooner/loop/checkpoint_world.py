"""Checkpoints of several workers: a folder per step, written by `torch.distributed.checkpoint`, complete or not there.

What is the same on all workers is written once; what each has for itself (the memory of what it could not send, random
state, and where weights go apart also weights and optimizer state) once per worker. The same number of workers goes on
bit for bit; another number goes on from the average of what each had.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sooner.communication._attached import Communication
from sooner.error import SoonerError
from sooner.execute.shards import is_sharded
from sooner.foundation.files import sync
from sooner.foundation.model_names import unwrapped
from sooner.loop.checkpoint import (
    HISTORY,
    check_identity,
    load_checkpoint,
    load_weights,
    random_state,
    save_checkpoint,
    save_lazily,
    set_random_state,
)
from sooner.loop.workers import Workers, goes_apart
from sooner.recipe.training import Training

if TYPE_CHECKING:  # a second that a single worker need not wait for
    from torch.distributed.checkpoint.filesystem import FileSystemReader

log = logging.getLogger(__name__)

_STEP = re.compile(r"step-(\d+)")

Save = Callable[[str | Path, dict[str, Any], Training, Any, int], None]
Load = Callable[[str | Path, dict[str, Any], Training, Any], int]


def keeper(path: str | Path | None, workers: Workers) -> tuple[Save, Load]:
    """Return what writes and what reads checkpoints at `path`: one file for one worker, else a folder.

    Raises:
        SoonerError: several workers and a file, a model whose parameters are sharded, or lazy checkpoints in a folder.
    """
    saver = workers.training.saver
    if path is None or (workers.size == 1 and not Path(path).is_dir()):
        return save_checkpoint if saver is None else partial(save_lazily, saver=saver), load_checkpoint
    if saver is not None:
        raise SoonerError(
            f"lazy_saver writes the checkpoints of a single worker into one file, and {path} is the folder of "
            f"{workers.size}; leave it out, or use LazySaver in a loop of your own"
        )
    if Path(path).is_file():
        raise SoonerError(
            f"checkpoint {path} is the file of a single worker, and {workers.size} workers write a folder; give another"
        )
    if any(is_sharded(p) for p in workers.training.model.parameters()):
        raise SoonerError(
            "the model's parameters are sharded, which checkpoint= does not write; save it in your own loop with "
            "torch.distributed.checkpoint"
        )
    return partial(save_world, workers=workers), partial(load_world, workers=workers)


def how_to_go_on(path: str | Path | None) -> str:
    """Return what to do after a worker was lost, as the end of a sentence."""
    if path is None:
        return "start all workers again from the beginning (checkpoint= keeps a run's progress)"
    step = _latest(Path(path))
    if step is None:
        return f"start all workers again from the beginning (no checkpoint in {path} is complete yet)"
    return f"start all workers again, and they go on from step {step}, the last complete checkpoint in {path}"


def save_world(
    path: str | Path, identity: dict[str, Any], training: Training, run: Any, step: int, workers: Workers
) -> None:
    """Write all that is needed to go on after `step`; what was there stays until the new one is complete.

    Raises:
        SoonerError: a worker can't write its part.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    folder = Path(path)
    partial_, final = folder / f"step-{step}.partial", folder / f"step-{step}"
    workers.agree(lambda: _prepare(folder, partial_))
    apart = goes_apart(training)
    about = {"identity": identity, "step": step, "workers": workers.size, "apart": apart, "run": _history(run)}
    content = _flat(f"worker{workers.rank}", _state(training, run, own=True, apart=apart))
    if workers.rank == 0:
        content |= _flat("all", _state(training, run, own=False, apart=apart)) | _flat("about", about)
    writer = FileSystemWriter(partial_)
    try:
        with workers.watching(), _quiet():
            save(content, storage_writer=writer, no_dist=workers.size == 1)
    except (CheckpointException, OSError) as error:
        rank, cause = _first(error, workers.rank)
        raise SoonerError(
            f"checkpoint {path} can't be written by worker {rank}: {cause}; the previous one, if any, is untouched, so "
            "run again with room on the disk to go on from there"
        ) from error
    workers.agree(lambda: _complete(folder, partial_, final))


def load_world(path: str | Path, identity: dict[str, Any], training: Training, run: Any, workers: Workers) -> int:
    """Restore this worker from the last complete checkpoint and return the steps already taken; 0 where there is none.

    Raises:
        SoonerError: the checkpoint is damaged or was written by another run, or the folder has no place.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    folder = Path(path)
    step: int | None = workers.agree(lambda: _find(folder))
    if step is None:
        return 0
    place = folder / f"step-{step}"
    try:
        reader = FileSystemReader(place)
        keys = reader.read_metadata().state_dict_metadata
        about, shared = (_read(reader, keys, name) for name in ("about", "all"))
        same = about["workers"] == workers.size
        count = range(about["workers"])
        owns = [_read(reader, keys, f"worker{r}") for r in ([workers.rank] if same else count)]
    except Exception as error:  # whatever torch or the files' bytes come up with, they are of no use
        raise SoonerError(
            f"checkpoint {place} can't be read ({type(error).__name__}); delete it to go on without it"
        ) from error
    check_identity(place, about["identity"], identity)
    if not same and workers.rank == 0:
        log.warning(
            "%s was written by %d workers and is read by %d: what each of them kept for itself is averaged",
            *(place, about["workers"], workers.size),
        )
    own = owns[0] if same else _mean(owns)
    load_weights(place, training.model, shared["model"] | own["model"])
    training.load_state_dict(_fitting(training, shared["names"], [*shared["parts"], *own["parts"]]))
    for name, value in about["run"].items():
        setattr(run, name, value.to(run.losses.device) if name == "losses" else value)
    run.cpu_seconds = own["cpu_seconds"]
    for name, value in own["together"].items() if run.together is not None else ():
        setattr(run.together, name, value)
    if same or workers.rank in count:
        set_random_state((own if same else owns[workers.rank])["random"])
    return step


def _state(training: Training, run: Any, *, own: bool, apart: bool) -> dict[str, Any]:
    """Return what a worker has for itself, or what it shares with all others."""
    plain, state = unwrapped(training.model), training.state_dict()
    model, parameters = plain.state_dict(), {name for name, _ in plain.named_parameters()}
    kept = 0 if apart else len(state["parts"]) - (training.communication is not None)  # the last part is each one's own
    if not own:
        shared = {} if apart else {name: value for name, value in model.items() if name in parameters}
        return {"model": shared, "names": state["names"], "parts": state["parts"][:kept]}
    together = {} if run.together is None else asdict(run.together)
    together.pop("workers", None)
    return {
        "model": {name: value for name, value in model.items() if apart or name not in parameters},
        "parts": state["parts"][kept:],
        "random": random_state(),
        "cpu_seconds": run.cpu_seconds,
        "together": together,
    }


def _fitting(training: Training, names: list[str], parts: list[Any]) -> dict[str, Any]:
    """Return the state for this training; a single worker may have no `Communication`, where several have one."""
    had, has = names[-1:] == [Communication.__name__], training.communication
    if had and has is None:
        names, parts = names[:-1], parts[:-1]
    elif has is not None and not had:
        names, parts = [*names, Communication.__name__], [*parts, has.state_dict()]
    return {"names": names, "parts": parts}


def _history(run: Any) -> dict[str, Any]:
    return {name: getattr(run, name) for name in HISTORY if name != "cpu_seconds"}


def _flat(name: str, tree: Any) -> dict[str, Tensor]:
    """Return a tree of plain values and tensors as tensors by name: its tensors, and its structure as bytes."""
    tensors: list[Tensor] = []

    def described(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensors.append(value.detach())
            return "tensor", len(tensors) - 1
        if isinstance(value, dict):
            return {key: described(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return "list" if isinstance(value, list) else "tuple", [described(one) for one in value]
        return "value", value

    file = io.BytesIO()
    torch.save(described(tree), file)
    structure = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    return {f"{name}/structure": structure, **{f"{name}/{i}": t for i, t in enumerate(tensors)}}


def _read(reader: FileSystemReader, keys: dict[str, Any], name: str) -> Any:
    from torch.distributed.checkpoint.state_dict_loader import load

    mine = {key: one for key, one in keys.items() if key.startswith(f"{name}/")}
    content = {key: torch.empty(one.size, dtype=one.properties.dtype) for key, one in mine.items()}
    with _quiet():
        load(content, storage_reader=reader, no_dist=True)
    structure = io.BytesIO(content[f"{name}/structure"].numpy().tobytes())

    def restore(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: restore(one) for key, one in tree.items()}
        kind, value = tree
        if kind in ("list", "tuple"):
            made = [restore(one) for one in value]
            return made if kind == "list" else tuple(made)
        return content[f"{name}/{value}"] if kind == "tensor" else value

    return restore(torch.load(structure, weights_only=True))


def _mean(values: list[Any]) -> Any:
    """Return the mean of trees, number by number; where that makes no sense, what the first one has."""
    first = values[0]
    if isinstance(first, Tensor) and first.is_floating_point() and all(v.shape == first.shape for v in values):
        if all(torch.equal(v, first) for v in values):
            return first  # whatever its sum would round to
        return torch.stack([v.double() for v in values]).mean(0).to(first.dtype)
    if isinstance(first, dict):
        return {key: _mean([v[key] for v in values]) for key in first if all(key in v for v in values)}
    if isinstance(first, list | tuple) and all(len(v) == len(first) for v in values):
        return type(first)(_mean(list(each)) for each in zip(*values, strict=True))
    return first


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from warning of what is meant: that a process writes or reads by itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _find(folder: Path) -> int | None:
    if not folder.parent.is_dir():
        raise SoonerError(f"checkpoint {folder} has no place: the folder {folder.parent} does not exist; make it first")
    return _latest(folder)


def _latest(folder: Path) -> int | None:
    if not folder.is_dir():
        return None
    found = [_STEP.fullmatch(path.name) for path in folder.iterdir()]
    return max((int(one[1]) for one in found if one), default=None)


def _prepare(folder: Path, place: Path) -> None:
    """Make room for a new checkpoint; what an interrupted one has left goes away."""
    try:
        folder.mkdir(exist_ok=True)
        for left in folder.glob("step-*.partial"):
            shutil.rmtree(left)
        place.mkdir()
    except OSError as error:
        raise SoonerError(
            f"checkpoint {folder} can't be written ({error.strerror}); give a folder that can be written to"
        ) from error


def _complete(folder: Path, place: Path, final: Path) -> None:
    """Give a checkpoint that all workers have written its name, and drop those before it."""
    try:
        if final.exists():  # of an earlier run that ended here
            shutil.rmtree(final)
        place.rename(final)
        sync(folder)
        for old in folder.iterdir():
            if _STEP.fullmatch(old.name) and old != final:
                shutil.rmtree(old)
    except OSError as error:
        raise SoonerError(
            f"checkpoint {folder} can't be completed ({error.strerror}); give a folder that can be written to"
        ) from error


def _first(error: BaseException, rank: int) -> tuple[int, str]:
    """Return the first worker that failed, and why."""
    from torch.distributed.checkpoint.api import CheckpointException

    if isinstance(error, CheckpointException):
        rank, (cause, _) = min(error.failures.items())
    else:
        cause = error
    text = str(cause).strip() or type(cause).__name__
    return rank, text.splitlines()[0][:200]
