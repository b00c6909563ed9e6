"""Whether a cohort's tensors are exactly as they were, in one call of C++ in place of several for each tensor.

`snapshot.cpp` is compiled over torch's headers by the compiler of the native executor, in the background and once per
machine, Python and torch; see `compiler` for where it is kept. Until it is there, and where there is no compiler, no
headers of Python, or the result fails the trial below, Python compares tensor by tensor as it does elsewhere.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib.util
import logging
import operator
import re
import sysconfig
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sooner.execute.compiler import Language, NoCompilerError, alone, build, kept, stop

PATIENCE = 256
"""After so many comparisons of cohorts in Python the compiler is started: scripts of a few steps never do."""

log = logging.getLogger(__name__)


class Helper:
    """The compiled module, once there is one.

    Attributes:
        module: None until it is loaded.
    """

    def __init__(self) -> None:
        self.module: Any = None
        self._asked = 0
        self._thread: threading.Thread | None = None

    def ask(self) -> Any:
        """Return the module, None while there is none. The first call has it looked for in the cache, a later one has
        it compiled; nobody waits for either.
        """
        if self.module is None and self._asked <= PATIENCE:
            self._asked += 1
            if self._asked == 1:
                self._begin(self._find)
            elif self._asked > PATIENCE:
                self._begin(self._compile)
        return self.module

    def make(self) -> Any:
        """Return the module, compiled now if need be; None where that can't be."""
        if self.module is None:
            self._begin(self._compile).join()
        return self.module

    def _begin(self, work: Callable[[], None]) -> threading.Thread:
        """Work in a thread, where none of the caller's modes (inference, default device) is on."""
        if self._thread is None:
            atexit.register(self._end)
        self._thread = threading.Thread(target=work, daemon=True, name="sooner-compile")
        self._thread.start()
        return self._thread

    def _find(self) -> None:
        with self._told():
            self.module = kept(source(), language(), tried)

    def _compile(self) -> None:
        with self._told(), alone():
            if self.module is None:
                self.module = build(source(), language(), tried)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ImportError, NoCompilerError) as error:
            log.info("optimizers compare their tensors in Python, which costs small models some speed: %s", error)

    def _end(self) -> None:
        """Let what runs end before the process does, without waiting for the compiler."""
        stop()
        if self._thread is not None:
            self._thread.join(1.0)


HELPER = Helper()


def same(now: Sequence[Any], before: Sequence[Any]) -> bool:
    """Whether two lists hold the same objects."""
    if HELPER.module is not None:
        return bool(HELPER.module.same(now, before))
    return len(now) == len(before) and all(map(operator.is_, now, before))


def same_items(now: Mapping[Any, Any], keys: list[Any], values: list[Any]) -> bool:
    """Whether a mapping holds these values under these keys, the same objects in the same order."""
    if HELPER.module is not None:
        return bool(HELPER.module.same_items(now, keys, values))
    return same(list(now), keys) and same(list(now.values()), values)


@functools.cache
def source() -> str:
    """Return the C++ source."""
    return Path(__file__).with_name("snapshot.cpp").read_text(encoding="utf-8")


def language() -> Language:
    """Return how the source is compiled for this torch and this Python.

    Raises:
        NoCompilerError: this torch has no number that its headers could be compared with.
    """
    number = re.match(r"(\d+)\.(\d+)\.(\d+)", torch.__version__)
    if number is None:
        raise NoCompilerError(f"torch {torch.__version__} has no number")
    major, minor, patch = map(int, number.groups())
    home = Path(torch.__file__).parent
    paths = sysconfig.get_paths()
    flags = (
        *(
            "-O2",
            "-std=c++20",
            "-shared",
            "-fPIC",
            "-w",
            "-Wfatal-errors",
            f"-DSOONER_TORCH={major * 1000000 + minor * 1000 + patch}",
        ),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *("-isystem", str(home / "include"), f"-I{paths['include']}", f"-I{paths['platinclude']}"),
        *(f"-L{home / 'lib'}", "-lc10", "-ltorch_cpu", "-lstdc++"),
    )
    versions = (torch.__version__, torch.version.git_version, sysconfig.get_config_var("SOABI"))
    return Language("c++", flags, "\n".join(map(str, versions)))


def tried(path: Path) -> ModuleType:
    """Return the module in a file, after a trial.

    Raises:
        ImportError: it can't be loaded, or did not pass.
    """
    spec = importlib.util.spec_from_file_location("sooner_snapshot", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for number, passed in enumerate(_trial(module)):
        if not passed:
            raise ImportError(f"what was compiled from snapshot.cpp does not pass its trial (question {number})")
    return module


def snapshot(module: Any, params: Sequence[Tensor], states: Sequence[Any], names: Sequence[str], steps: Any) -> Any:
    """Return a snapshot that has noted nothing yet; None where there is something that it can't compare.

    Args:
        module: the compiled module.
        params: the parameters.
        states: the state of each.
        names: what is looked for in each state.
        steps: the tensor with the step counts of all, or None.
    """
    try:
        plain = (Tensor, nn.Parameter)
        return module.Snapshot(tuple(params), tuple(states), tuple(names), steps, _place_of_cdata(), plain)
    except TypeError:  # a subclass of tensors or of dicts
        return None


@functools.cache
def _place_of_cdata() -> int:
    """Return how many bytes behind the beginning of an object its C++ tensor is found.

    Raises:
        ImportError: there is no such place, or several.
    """
    tensors = [_zeros(1), _zeros(2, 3), nn.Parameter(_zeros(2))]
    head, size = object.__basicsize__, min(type(t).__basicsize__ for t in tensors)
    pointer = ctypes.sizeof(ctypes.c_void_p)
    places = [
        place
        for place in range(head, size - pointer + 1, pointer)
        if all(ctypes.c_void_p.from_address(id(t) + place).value == t._cdata for t in tensors)
    ]
    if len(places) != 1:
        raise ImportError(f"the C++ tensor of a tensor is found in {len(places)} places")
    return places[0]


def _trial(module: Any) -> Iterator[bool]:
    """Ask a snapshot of a few tensors about changes of every kind, and yield whether each answer was right."""
    params = [nn.Parameter(_zeros(3, 4)), nn.Parameter(_zeros(5)), nn.Parameter(_zeros(0))]
    for p in params:
        p.grad = _zeros(*p.shape)
    steps = _zeros(3)
    states = [{"m": _zeros(*p.shape), "step": view} for p, view in zip(params, steps.unbind(), strict=True)]
    shot = snapshot(module, params, states, ("m", "step"), steps)
    places = array("Q", bytes(8 * len(params)))
    yield shot is not None and not shot.holds() and not shot.find_gradients(places)
    yield shot.note() and shot.holds() and shot.note_gradients() and shot.find_gradients(places)
    yield places.tolist() == [p.grad.data_ptr() for p in params]  # type: ignore[union-attr]
    versions = [p._version for p in params]
    shot.written()
    shot.advance()
    yield shot.holds() and steps.tolist() == [1.0] * 3 and [p._version for p in params] == [v + 1 for v in versions]
    wide, other = params[0], _zeros(3, 4)
    memory, before = wide.data, states[0]["m"]
    changes: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: wide.requires_grad_(False), lambda: wide.requires_grad_(True)),
        (lambda: setattr(wide, "data", other), lambda: setattr(wide, "data", memory)),
        (lambda: setattr(wide, "data", memory.double()), lambda: setattr(wide, "data", memory)),
        (lambda: setattr(wide, "data", memory.view(4, 3)), lambda: setattr(wide, "data", memory)),
        (lambda: setattr(wide, "data", memory.view(4, 3).t()), lambda: setattr(wide, "data", memory)),
        (lambda: states[0].update(m=other), lambda: states[0].update(m=before)),
        (lambda: states[0].pop("m"), lambda: states[0].update(m=before)),
        (lambda: before.resize_(2, 4), lambda: before.resize_(3, 4)),
        (lambda: states[1]["step"].fill_(7.0), lambda: states[1]["step"].fill_(1.0)),
    ]
    for change, undo in changes:
        change()
        yield not shot.holds()
        undo()
        yield shot.holds()
    gradients: list[tuple[Tensor | None, bool]] = [
        (None, False),
        (_zeros(3, 4), True),
        (_zeros(4, 3).t(), False),
        (_zeros(3, 4), True),
    ]
    for gradient, fits in gradients:
        wide.grad = gradient
        found = shot.find_gradients(places)
        yield found == fits and (not found or (gradient is not None and places[0] == gradient.data_ptr()))
    shot.release()
    memory.untyped_storage().resize_(0)
    yield not shot.holds()


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float32, device="cpu")
