"""A task: the functions ``model(seed)``, ``batches(seed, split)``, ``loss(model, batch)`` and a budget of steps.

Nothing to subclass, and the batch is opaque: only the task's own `loss` and `metrics` look inside it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import io
import pickle
import sys
import tokenize
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sooner.error import SoonerError, nearest
from sooner.objective import Found, mean_of

EVALUATION_SEED = 0
"""The evaluation split is always asked for with this seed, so that every run is measured on the same data."""

OPTIONS = (
    "steps",
    "metric",
    "higher_is_better",
    "evaluations",
    "metrics",
    "losses",
    "fingerprint",
    "shards",
    "provides",
)


class Shard(Protocol):
    """Training data of one worker, all of it at hand.

    Attributes:
        examples: a batch of all its examples; dimension 0 of its tensors counts them.
        batch_size: examples in a batch.
        labels: (N,) the class of each example, None where there are none.
    """

    examples: Any
    batch_size: int
    labels: Tensor | None

    def __getitem__(self, step: int) -> Any:
        """Return the batch of a step."""


@dataclass(frozen=True)
class Task:
    """What to train, as three functions and a budget.

    Args:
        model: ``model(seed) -> nn.Module``, a function of the seed alone.
        batches: ``batches(seed, split)`` with split "train" or "eval"; what it returns is indexed by step. The "eval"
            split has a length.
        loss: ``loss(model, batch) -> 0-d tensor`` to minimise, a mean over the batch; or ``(sum, count)``, what was
            added up and how many tokens or samples that is of, so that all of a step's count alike.
        steps: budget in optimizer steps.
        metrics: optional ``metrics(model, batch) -> {name: number}``, averaged over the evaluation batches; a metric
            may be ``(sum, count)`` too.
        losses: optional ``losses(model, batch) -> {name: 0-d tensor}``, the terms that `loss` adds up, for parts that
            weigh them against each other; ``(sum, count)`` each, with the count of the loss, where that counts.
        metric: what a race compares, "loss" or a key of `metrics`.
        higher_is_better: whether larger values of the metric are better.
        evaluations: number of evaluations over a run, evenly spaced.
        fingerprint: optional ``fingerprint() -> str``, says in words which data this is.
        shards: optional ``shards(worker, workers, seed)``, training batches of one of several workers that have data of
            their own, indexed by step; the seed is the same for all of them. Without it they draw from common data.
            Parts that ask how much a worker has, or which of it is hard, need `Shard` of it.
        provides: what the loss offers to parts of its domain, such as ``{"flow times"}``
            (`sooner.objective.FROM_TASKS`); default nothing.
        name: short name for tables.
        spec: how another process finds the task again: a bundled name or a path; empty for a task made in Python.
        description: one sentence.
        source: text of the file that defines the task, part of its identity.
    """

    model: Callable[[int], nn.Module]
    batches: Callable[[int, str], Any]
    loss: Callable[[nn.Module, Any], Any]
    steps: int
    metrics: Callable[[nn.Module, Any], Mapping[str, Any]] | None = None
    losses: Callable[[nn.Module, Any], Mapping[str, Found]] | None = None
    metric: str = "loss"
    higher_is_better: bool = False
    evaluations: int = 25
    fingerprint: Callable[[], str] | None = None
    shards: Callable[[int, int, int], Any] | None = None
    provides: frozenset[str] = frozenset()
    name: str = "task"
    spec: str = ""
    description: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        where = f"task {self.name}"
        for option in ("steps", "evaluations"):
            value = getattr(self, option)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SoonerError(f"{where}: {option} = {value!r} must be a whole number of at least 1")
        for option in ("metrics", "losses", "fingerprint", "shards"):
            value = getattr(self, option)
            if value is not None and not callable(value):
                raise SoonerError(f"{where}: {option} = {value!r} must be a function; define it or leave it out")
        words: Any = self.provides
        if isinstance(words, str) or not isinstance(words, Iterable) or not all(isinstance(w, str) for w in words):
            raise SoonerError(f"{where}: provides = {words!r} must be a set of texts, such as {{'flow times'}}")
        object.__setattr__(self, "provides", frozenset(words))


def from_module(module: ModuleType, spec: str) -> Task:
    """Read a task out of a module.

    Raises:
        SoonerError: one of the three functions or the budget is missing (a name that looks mistyped is pointed out).
    """
    where = f"task {spec}"
    public = {n: value for n, value in vars(module).items() if not n.startswith("_")}
    for function in ("model", "batches", "loss"):
        if not callable(getattr(module, function, None)):
            similar = nearest(function, [n for n, value in public.items() if callable(value)])
            raise SoonerError(
                f"{where} defines no function {function}{similar}; "
                "a task needs model(seed), batches(seed, split) and loss(model, batch)"
            )
    if not hasattr(module, "steps"):
        similar = nearest("steps", [n for n, value in public.items() if isinstance(value, int)])
        raise SoonerError(f"{where} sets no budget{similar}; add a line such as steps = 400")
    options = {name: getattr(module, name) for name in OPTIONS if hasattr(module, name)}
    text = inspect.getdoc(module) or ""
    return Task(
        model=module.model,
        batches=module.batches,
        loss=module.loss,
        **options,
        name=Path(spec).stem,
        spec=spec,
        description=" ".join(text.split("\n\n")[0].split()),
        source=_source(Path(module.__file__)) if module.__file__ else "",
    )


def _source(path: Path) -> str:
    with tokenize.open(path) as file:  # in the encoding that the file declares, as Python reads it
        return file.read()


def from_file(path: Path) -> Task:
    """Import a user's Python file and read the task out of it.

    Raises:
        SoonerError: the file is missing, does not import (naming the line) or defines no task.
    """
    if not path.is_file():
        raise SoonerError(f"there is no file {path}; give the path of a Python file that defines a task")
    real = path.resolve()
    name = f"sooner_task_{hashlib.sha256(str(real).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, real)
    if spec is None or spec.loader is None:
        raise SoonerError(f"{path} is not a Python file; a task is a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that objects the file defines can be pickled
    sys.path.insert(0, str(real.parent))  # so that the file finds its neighbours, as with `python file.py`
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, KeyboardInterrupt):
            raise
        what = f"{type(error).__name__}: {error}"
        raise SoonerError(f"{path} does not import: {_place(error, real)}{what}; make `python {path}` run") from error
    finally:
        sys.path.remove(str(real.parent))
    return from_module(module, str(real))


def _place(error: BaseException, path: Path) -> str:
    """Return "line 3: ", the last line of the file itself that the error passed through."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"line {error.lineno}: "
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f"line {lines[-1]}: " if lines else ""


def derived_seed(seed: int, purpose: str) -> int:
    """Return the seed of one of a run's separate streams: "init", "order", or "private" for a method's own noise."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1  # 31 bits: every library takes it


def worker_seed(seed: int, purpose: str, worker: int) -> int:
    """Return the seed of a stream of one of several workers on one run; worker 0 has the stream of a single one."""
    return derived_seed(seed, purpose if worker == 0 else f"{purpose} of worker {worker}")


def worker_batches(task: Task, seed: int, worker: int, workers: int) -> Any:
    """Return the training batches of one of several workers on the run with this seed."""
    if task.shards is not None and workers > 1:
        return task.shards(worker, workers, derived_seed(seed, "order"))
    return task.batches(worker_seed(seed, "order", worker), "train")


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
    remedy = "define model, batches and loss at the top level of a file"
    try:
        pickle.dumps(task)
    except Exception as error:
        raise SoonerError(f"task {task.name} can't be sent to worker processes ({error}); {remedy}") from error
    for function in (task.model, task.batches, task.loss, task.metrics, task.fingerprint, task.shards):
        if getattr(function, "__module__", "") == "__main__":
            raise SoonerError(
                f"task {task.name} can't be sent to worker processes, which do not import the main program that "
                f"{getattr(function, '__name__', function)} lives in; {remedy} of its own"
            )


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
