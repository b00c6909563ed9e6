"""Trying a task out before anything is spent on it: what falls short is said in one sentence."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sooner.error import SoonerError
from sooner.objective import mean_of
from sooner.task._task import EVALUATION_SEED, Task
from sooner.task.by_value import needs_value, pack
from sooner.task.seeds import derived_seed
from sooner.task.streams import Stream


def check(task: Task) -> dict[str, Any]:
    """Try out everything a race needs of a task, once, and return its identity. Global random state is left as it was.

    Returns:
        ``fingerprint`` (sha256 over sample batches, and the source text), ``data`` (the task's own words) and
        ``parameters`` (a count).

    Raises:
        SoonerError: one sentence saying which function falls short and what to change.
    """
    with torch.random.fork_rng(devices=[]):
        model = _call(task, "model", derived_seed(1, "init"))
        if not isinstance(model, nn.Module):
            raise SoonerError(
                f"task {task.name}: model(seed) returned a {type(model).__name__}; return a torch.nn.Module"
            )
        train = _call(task, "batches", derived_seed(1, "order"), "train")
        evaluation = _call(task, "batches", EVALUATION_SEED, "eval")
        if not isinstance(train, Stream):  # a stream would have to be walked through to there
            _batch(task, "train", train, task.steps - 1)
        sample = [_batch(task, "train", train, i) for i in (0, 1, 7) if i < task.steps]
        sample += [_batch(task, "eval", evaluation, i) for i in range(_length(task, evaluation))]
        _check_seeded(task, model, train, evaluation)
        _check_loss(task, model, sample[0])
        _check_metrics(task, model, sample[-1])
        if not task.spec:
            _check_sendable(task)
        digest = hashlib.sha256(task.source.encode())
        for batch in sample:
            digest.update(_bytes(batch))
        return {
            "fingerprint": f"sha256:{digest.hexdigest()[:16]}",
            "data": str(_call(task, "fingerprint")) if task.fingerprint else "",
            "parameters": sum(p.numel() for p in model.parameters()),
        }


def _call(task: Task, function: str, *args: Any) -> Any:
    try:
        return getattr(task, function)(*args)
    except SoonerError:
        raise
    except Exception as error:
        shown = ", ".join(repr(a) if isinstance(a, int | str) else "…" for a in args)
        what = f"{type(error).__name__}: {error}"
        raise SoonerError(
            f"task {task.name}: {function}({shown}) raised {what}; make it run on its own first"
        ) from error


def _batch(task: Task, split: str, batches: Any, index: int) -> Any:
    where = f"task {task.name}: batches(seed, {split!r})"
    if not hasattr(batches, "__getitem__"):
        raise SoonerError(
            f"{where} returned a {type(batches).__name__} that can't be indexed by step; "
            "return an object where b[i] is the batch of step i"
        )
    try:
        return batches[index]
    except IndexError as error:
        remedy = "return an object that gives a batch for every step, e.g. by taking the index modulo its length"
        if split == "eval":
            remedy = "make its length the number of batches it gives"
        raise SoonerError(f"{where} has no batch {index} ({error}); {remedy}") from error
    except SoonerError as error:
        raise SoonerError(f"{where}[{index}]: {error}") from error
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise SoonerError(f"{where}[{index}] raised {what}; make it return the batch of that step") from error


def _length(task: Task, evaluation: Any) -> int:
    count = len(evaluation) if hasattr(evaluation, "__len__") else 0
    if count < 1:
        raise SoonerError(
            f'task {task.name}: batches(seed, "eval") has no length of at least 1; return a list of batches'
        )
    return count


def _check_seeded(task: Task, model: nn.Module, train: Any, evaluation: Any) -> None:
    where = f"task {task.name}"
    _forget_global_state()
    again = _call(task, "model", derived_seed(1, "init"))
    if not _same(model.state_dict(), again.state_dict()):
        raise SoonerError(
            f"{where}: model(seed) gave two different models for one seed; begin it with torch.manual_seed(seed)"
        )
    step = min(3, task.steps - 1)
    for split, seed, batches, index in (
        ("train", derived_seed(1, "order"), train, step),
        ("eval", EVALUATION_SEED, evaluation, 0),
    ):
        first = _batch(task, split, batches, index)
        _forget_global_state()
        fresh = _call(task, "batches", seed, split)
        if not (_same(first, _batch(task, split, batches, index)) and _same(first, _batch(task, split, fresh, index))):
            raise SoonerError(
                f"{where}: batches(seed, {split!r})[{index}] gave two different batches for one seed and step; "
                "draw from torch.Generator().manual_seed(...) with a number made of seed and step"
            )
    other = _call(task, "model", derived_seed(2, "init"))
    others = _call(task, "batches", derived_seed(2, "order"), "train")
    if _same(model.state_dict(), other.state_dict()) and all(
        _same(_batch(task, "train", train, i), _batch(task, "train", others, i)) for i in {0, step}
    ):
        raise SoonerError(
            f"{where}: neither model(seed) nor batches(seed, split) depends on its seed, so all runs would be "
            "the same; use it"
        )


def _forget_global_state() -> None:
    """Put PyTorch's global random state where no task expects it."""
    torch.manual_seed(20260101)


def _check_loss(task: Task, model: nn.Module, batch: Any) -> None:
    where = f"task {task.name}: loss(model, batch)"
    value = mean_of(_call(task, "loss", model, batch), where)
    if not isinstance(value, Tensor) or value.ndim != 0:
        shown = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise SoonerError(f"{where} returned {shown}; return a 0-d tensor, such as a mean, or (sum, count)")
    if not torch.isfinite(value):
        raise SoonerError(
            f"{where} is {value.item()} at step 0; make the untrained model's loss finite (check inputs and "
            "initialisation)"
        )
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        gradients = torch.autograd.grad(value, trained, allow_unused=True) if value.requires_grad else ()
    except Exception as error:
        raise SoonerError(f"{where} can't be differentiated ({error}); return what backward() works on") from error
    if all(g is None for g in gradients):
        raise SoonerError(
            f"{where} does not depend on the model's parameters; compute it from model(...) without detach or no_grad"
        )


@torch.no_grad()
def _check_metrics(task: Task, model: nn.Module, batch: Any) -> None:
    where = f"task {task.name}"
    found = _call(task, "metrics", model.eval(), batch) if task.metrics else {}
    if not isinstance(found, Mapping):
        raise SoonerError(f"{where}: metrics(model, batch) returned a {type(found).__name__}; return a dict of numbers")
    for name, value in found.items():
        try:
            float(mean_of(value, f"metric {name!r}") if isinstance(value, tuple) else value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise SoonerError(f"{where}: metric {name!r} is not one number ({error}); return a 0-d tensor") from error
    if task.metric != "loss" and task.metric not in found:
        known = ", ".join(found) or "nothing"
        raise SoonerError(
            f"{where}: metric {task.metric!r} is not among what metrics(model, batch) returns ({known}); "
            "return it or set metric"
        )


def _check_sendable(task: Task) -> None:
    """Refuse a task made in Python that another process can't be given."""
    if needs_value(task):
        pack(task)


def _same(a: Any, b: Any) -> bool:
    return _bytes(a) == _bytes(b)


def _bytes(tree: Any) -> bytes:
    """Return bytes that are equal for equal batches: tensors by content, everything else pickled."""
    leaves, structure = pytree.tree_flatten(tree)
    out = io.BytesIO()
    out.write(str(structure).encode())
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            dense = leaf.detach().cpu().contiguous()
            out.write(f"{dense.dtype}{tuple(dense.shape)}".encode())
            out.write(dense.reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            out.write(pickle.dumps(leaf))
    return out.getvalue()
