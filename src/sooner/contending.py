"""Inside a script that a race runs: which seed, how many steps, and a place to report to and to keep checkpoints.

    with sooner.contender(seed=0, steps=1000) as run:
        torch.manual_seed(run.seed)
        for step in range(run.steps):
            ...
            run.report(step + 1, val_loss=loss)

Outside a race that gives what it is called with, and reports go nowhere. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from sooner.error import SoonerError

VARIABLE = "SOONER_RUN"
"""The environment variable that names the file in which a race says what a run is."""


@dataclass
class Contending:
    """What a run is asked for, made by `contender`.

    Args:
        seed: decides everything random.
        steps: the budget in optimizer steps, None where nobody set one.
        recipe: the recipe, or the name of the command, that races; "" outside a race, if none was given.
        settings: values of what the command tunes, by name.
        device: where to train, as `torch.device` takes it.
        folder: a folder of the run's own. What lies there survives a killed race, and the run that repeats it finds it.
        racing: whether a race runs this.
    """

    seed: int
    steps: int | None
    recipe: str
    settings: Mapping[str, Any]
    device: str
    folder: Path
    racing: bool = False
    _file: TextIO | None = field(default=None, repr=False)

    def report(self, step: int, **values: Any) -> None:
        """Report measurements of a step to the race; under torchrun the first process does, for all.

        Args:
            step: how many optimizer steps were taken, from 0 for the untrained model to the budget.
            values: numbers, or tensors of one, by name, such as ``val_loss=3.2, lr=1e-3``; those that are None are left
                out.

        Raises:
            SoonerError: no number.
        """
        if not _counts(step):
            raise SoonerError(f"run.report: step = {step!r} is no number of steps; count them from 0")
        if self._file is None:
            return
        found = {name: _number(name, value) for name, value in values.items() if value is not None}
        self._file.write(json.dumps({"step": int(step), "time": time.time(), **found}) + "\n")
        self._file.flush()


@contextlib.contextmanager
def contender(
    *,
    seed: int = 0,
    steps: int | None = None,
    recipe: str = "",
    device: str | None = None,
    folder: str | os.PathLike[str] = ".",
) -> Iterator[Contending]:
    """Give a script what a race asks of it, and take its reports; outside a race what is given here holds.

    Args:
        seed: outside a race, default 0.
        steps: outside a race, and in one that leaves the budget to the script; default None.
        recipe: outside a race, default "".
        device: outside a race; None for an accelerator that torch finds, else "cpu".
        folder: outside a race, default the working directory.

    Raises:
        SoonerError: the race's file can't be read.
    """
    where = os.environ.get(VARIABLE)
    if where is None:
        yield Contending(seed, steps, recipe, {}, device or _device(), Path(folder))
        return
    try:
        told = json.loads(Path(where).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SoonerError(
            f"{VARIABLE} names {where}, which can't be read ({error}); unset it to run outside a race"
        ) from None
    first = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    with Path(told["reports"]).open("a", encoding="utf-8") if first else contextlib.nullcontext() as file:
        asked = told["steps"] if told["steps"] is not None else steps
        device = told["device"]
        yield Contending(
            told["seed"], asked, told["recipe"], told["settings"], device, Path(told["folder"]), True, file
        )


def _device() -> str:
    """Return the accelerator that torch finds, "cpu" without one or without torch."""
    try:
        import torch
    except ImportError:
        return "cpu"
    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if found is None else found.type


def _counts(step: Any) -> bool:
    if isinstance(step, bool):
        return False
    try:
        return operator.index(step) >= 0
    except (TypeError, ValueError):
        return False


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise SoonerError(f"run.report: {name} = {value!r} is no number; give a float or a tensor of one") from None
