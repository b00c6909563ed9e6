"""Tasks whose functions live in a notebook or in the running script: they travel as they are, not by their name."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import io
import pickle
import types
from typing import Any

from sooner.error import SoonerError
from sooner.task._task import Task

MAIN = "__main__"
_NO_BEHAVIOUR = ("__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__")


def needs_value(task: Task) -> bool:
    """Return whether another process could not import the task's functions by their names."""
    if task.spec:
        return False
    fields = [getattr(task, field.name) for field in dataclasses.fields(task)]
    functions = [f.func if isinstance(f, functools.partial) else f for f in fields if callable(f)]
    if any(MAIN in (getattr(f, "__module__", ""), type(f).__module__) for f in functions):
        return True
    try:
        pickle.dumps(task)
    except Exception:  # whatever an object raises that does not want to be pickled
        return True
    return False


def pack(task: Task) -> bytes:
    """Return the task with its functions by value, to be read by `unpack`, in a process that has cloudpickle too.

    Raises:
        SoonerError: cloudpickle is not installed, or something in the task can't travel.
    """
    remedy = "define model, batches and loss at the top level of a file of its own"
    if importlib.util.find_spec("cloudpickle") is None:
        raise SoonerError(
            f"task {task.name} can't be sent to worker processes, which cannot import the main program or notebook "
            f"it lives in: pip install 'sooner[notebook]', or {remedy}"
        )
    import cloudpickle

    try:
        content: bytes = cloudpickle.dumps(task)
    except Exception as error:
        raise SoonerError(f"task {task.name} can't be sent to worker processes ({error}); {remedy}") from error
    return content


@functools.lru_cache(maxsize=4)
def unpack(content: bytes) -> Task:
    """Return the task that `pack` has packed."""
    task: Task = pickle.loads(content)
    return task


def digest(task: Task) -> str:
    """Return 16 hexadecimal digits for the code of a task that travels by value, and for all that this code reads.

    The same functions in another cell or session have the same digest; edited ones, and other values that they read,
    have another.
    """
    import cloudpickle

    class Walk(cloudpickle.Pickler):  # type: ignore[misc]
        """Pickles what decides behaviour: no file, no line, and no number that cloudpickle draws for a class."""

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, types.CodeType):
                names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
                return tuple, ((value.co_code, value.co_consts, value.co_flags, value.co_exceptiontable, *names),)
            if isinstance(value, type) and (value.__module__ == MAIN or "<locals>" in value.__qualname__):
                own = sorted(name for name in vars(value) if name not in _NO_BEHAVIOUR)
                state = {"bases": value.__bases__, "own": [(name, vars(value)[name]) for name in own]}
                return types.SimpleNamespace, (), {"name": value.__qualname__, **state}
            return super().reducer_override(value)

    written = io.BytesIO()
    Walk(written).dump(task)
    return hashlib.sha256(written.getvalue()).hexdigest()[:16]
