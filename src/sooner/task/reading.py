"""Reading a task out of a module or out of a file of a user's."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import tokenize
from pathlib import Path
from types import ModuleType

from sooner.error import SoonerError, nearest
from sooner.task._task import OPTIONS, Task
from sooner.task.examples import Passes


def from_module(module: ModuleType, spec: str) -> Task:
    """Read a task out of a module.

    Raises:
        SoonerError: one of the three functions or the budget is missing (a name that looks mistyped is pointed out).
    """
    where = f"task {spec}"
    public = {n: value for n, value in vars(module).items() if not n.startswith("_")}
    own = getattr(module, "examples", None)
    for function in ("model", "loss") if callable(own) else ("model", "batches", "loss"):
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
        batches=module.batches if hasattr(module, "batches") or own is None else Passes(own),
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
