"""Checkpoints of the reference loop: written whole or not at all, and refused by any run but their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from sooner.error import SoonerError
from sooner.foundation.files import save_whole
from sooner.foundation.model_names import prefix_note, renamed, unwrapped

if TYPE_CHECKING:
    from sooner.memory import LazySaver

HISTORY = ("steps", "values", "metrics", "losses", "diverged_at", "cpu_seconds")


class Resumable(Protocol):
    """A model and everything that trains it."""

    model: nn.Module

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the model's own weights that is needed to go on bit for bit."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""


def save_checkpoint(path: str | Path, identity: dict[str, Any], training: Resumable, run: Any, step: int) -> None:
    """Write all that is needed to go on after `step` bit for bit; a failed write leaves the previous file in place.

    Raises:
        SoonerError: the file can't be written.
    """
    path = Path(path)
    content = _content(identity, training, run, step)
    content["model"] = content["model"].state_dict()
    try:
        save_whole(content, path, path.with_name(f"{path.name}.{os.getpid()}.tmp"))
    except (OSError, RuntimeError) as error:
        raise SoonerError(
            f"checkpoint {path} can't be written: {error}; the previous one, if any, is untouched, "
            "so run again with room on the disk to go on from there"
        ) from error


def save_lazily(
    path: str | Path, identity: dict[str, Any], training: Resumable, run: Any, step: int, saver: LazySaver
) -> None:
    """Ask for the same file, which is copied and written while training goes on; `saver.flush()` waits for it.

    Raises:
        SoonerError: the folder can't be written to, or the last file could not be written.
    """
    saver.save(path, **_content(identity, training, run, step))


def _content(identity: dict[str, Any], training: Resumable, run: Any, step: int) -> dict[str, Any]:
    """Return what a checkpoint holds, its model as a module."""
    return {
        "identity": identity,
        "step": step,
        "model": unwrapped(training.model),
        "training": training.state_dict(),
        "history": {name: getattr(run, name) for name in HISTORY},
        "random": random_state(),
    }


def load_checkpoint(path: str | Path, identity: dict[str, Any], training: Resumable, run: Any) -> int:
    """Restore a run and return the number of steps already taken; 0 when there is no file.

    Raises:
        SoonerError: the file is damaged or was written by another run, or its folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise SoonerError(f"checkpoint {path} has no place: the folder {path.parent} does not exist; make it first")
    if not path.exists():
        return 0
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        theirs, step, history, random = (content[key] for key in ("identity", "step", "history", "random"))
        saved = [history[name] for name in HISTORY]
    except Exception as error:  # whatever torch or the file's bytes come up with, the file is of no use
        raise SoonerError(
            f"checkpoint {path} can't be read ({type(error).__name__}); delete it to start again"
        ) from error
    check_identity(path, theirs, identity)
    load_weights(path, training.model, content["model"])
    training.load_state_dict(content["training"])
    for name, value in zip(HISTORY, saved, strict=True):
        setattr(run, name, value.to(run.losses.device) if name == "losses" else value)
    set_random_state(random)
    return int(step)


def load_weights(path: Path, model: nn.Module, state: dict[str, Any]) -> None:
    """Load a model's state, whichever wrappers it was saved with, into the model inside of this one's wrappers.

    Raises:
        SoonerError: it is the state of another model.
    """
    plain = unwrapped(model)
    ours = plain.state_dict().keys()
    try:
        plain.load_state_dict(renamed(state, ours))
    except RuntimeError as error:
        note = prefix_note(state, ours)
        raise SoonerError(f"checkpoint {path} holds another model ({error}){note}; give another one") from error


def check_identity(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Refuse a checkpoint that another run has written.

    Raises:
        SoonerError: it differs in what is named.
    """
    for key, value in ours.items():
        if theirs.get(key) != value:
            raise SoonerError(
                f"checkpoint {path} belongs to another run ({key} {theirs.get(key)!r} there, {value!r} here); "
                "give another file"
            )


def random_state() -> dict[str, Any]:
    """Return PyTorch's global random state."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_random_state(state: dict[str, Any]) -> None:
    """Go on from where `random_state` was asked."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
