"""Gradient norms, one per step: logged during a run of any optimizer, written to a file, and read back."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.foundation.gradient_norm import Watch
from sooner.foundation.hooks import hooks_of
from sooner.foundation.unwrap import unwrapped
from sooner.schedule._kind import Kind, checked, kind_of

SHORTEST = 8
"""The fewest norms a schedule can be made of: the first and last two are dropped."""
BLOCK = 1024
"""Norms are kept as one small tensor each until there are this many, then as one block."""


class NormLog(Watch):
    """Logs the norm of all gradients before every step of an optimizer, without waiting for the device.

    Gradients are logged as the step finds them: averaged over workers, without the scale of a GradScaler, and before
    the gradient parts of sooner change them. Steps that are left out, by a GradScaler or by the optimizer's
    ``non_finite="skip"``, are not logged. Of several evaluations of a step's closure the first one counts.

    Clipping inside the loop runs before the optimizer's step, so the log would see clipped norms, which are nearly
    constant. In such a loop pass ``attach=False`` and call `record` before the gradients are clipped.

    Args:
        optimizer: any optimizer, also one that Accelerate, Lightning or Fabric has wrapped.
        kind: "sgd" logs L2 norms, "adam" logs L1 norms (a stand-in for the norm weighted by Adam's preconditioner);
            default None derives it from the optimizer's class.
        attach: whether `record` runs by itself before every step, default True.

    Raises:
        SoonerError: unknown kind.
    """

    def __init__(self, optimizer: Optimizer, kind: str | None = None, *, attach: bool = True) -> None:
        super().__init__()
        self.kind: Kind = kind_of("norm log", kind, optimizer)
        self._optimizer: Optimizer = unwrapped(optimizer)
        self._blocks: list[Tensor] = []
        self._recent: list[Tensor] = []
        if attach:
            hooks_of(self._optimizer).add(self)

    @property
    def order(self) -> float:  # type: ignore[override]
        """Of the norm that suits the kind."""
        return 2.0 if self.kind == "sgd" else 1.0

    @torch.no_grad()
    def record(self) -> None:
        """Log the norm of the gradients that are in ``.grad`` now."""
        norm = self.now(self._optimizer)
        if norm is not None:  # PyTorch's optimizers take no step either
            self.see(norm, True)

    def see(self, norm: Tensor, taken: bool) -> None:
        """Log it if the step was taken."""
        if not taken:
            return
        self._recent.append(norm.float())
        if len(self._recent) == BLOCK:
            self._blocks.append(torch.stack(self._recent))
            self._recent = []

    def norms(self) -> Tensor:
        """Return what was logged so far, ``[steps]``, float32, in the processor's memory."""
        recent = [torch.stack(self._recent)] if self._recent else []
        return torch.cat([b.cpu() for b in (*self._blocks, *recent)] or [torch.zeros(0)])

    def detach(self) -> None:
        """Stop logging; what was logged stays."""
        hooks_of(self._optimizer).remove(self)

    def save(self, path: str | Path) -> None:
        """Write the log to a file that `sooner.schedule.Refined` reads: .json (with the kind), .csv or .txt.

        Raises:
            SoonerError: another ending, or the file can't be written.
        """
        path = Path(path)
        values = self.norms().tolist()
        lines = "".join(f"{value!r}\n" for value in values)
        forms = {".json": json.dumps({"kind": self.kind, "norms": values}), ".csv": f"norm\n{lines}", ".txt": lines}
        if path.suffix not in forms:
            raise SoonerError(f"norms can't be written to {path}; give a name that ends in .json, .csv or .txt")
        try:
            path.write_text(forms[path.suffix], encoding="utf-8")
        except OSError as error:
            raise SoonerError(f"norms can't be written to {path}: {error.strerror}; give another place") from error

    def state_dict(self) -> dict[str, Any]:
        """Return the kind and the norms logged so far."""
        return {"kind": self.kind, "norms": self.norms()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after what `state_dict` returned."""
        self.kind = checked("norm log", state["kind"])
        self._blocks, self._recent = [state["norms"].clone()], []


def read(norms: Iterable[float] | Tensor | str | Path) -> tuple[list[float], Kind | None]:
    """Return norms as a list of finite numbers of at least 0, and the kind where a file names it.

    Args:
        norms: one number per step, or the path of a .json file (a list, or an object with "norms" and "kind"), a .csv
            file (one column, or one named norm) or a .txt file (one number per line).

    Raises:
        SoonerError: a missing or malformed file, an entry that is no finite number of at least 0, or too few of them.
    """
    entries: Any = norms.tolist() if isinstance(norms, Tensor) else norms
    kind: Kind | None = None
    where = "norms"
    if isinstance(norms, str | Path):
        where = str(norms)
        entries, kind = _from_file(Path(norms))
    elif not isinstance(entries, Iterable):
        raise SoonerError(f"refined: norms={norms!r} is not a list of numbers; give one norm per step, or a file")
    found = [_number(entry, position, where) for position, entry in enumerate(entries)]
    if len(found) < SHORTEST:
        raise SoonerError(
            f"refined: {where} holds {len(found)} norms, too few for a schedule; log at least {SHORTEST} steps"
        )
    return found, kind


def _number(entry: Any, position: int, where: str) -> float:
    try:
        value = float(entry)
    except (TypeError, ValueError):
        value = math.nan
    if isinstance(entry, bool) or not (math.isfinite(value) and value >= 0):
        raise SoonerError(
            f"refined: {where} holds {entry!r} at step {position}, which is no finite norm of at least 0; "
            "leave out the steps that the run skipped or broke at"
        )
    return value


def _from_file(path: Path) -> tuple[list[Any], Kind | None]:
    """Return the entries of a file, still unchecked, and the kind where the file names it."""
    if path.suffix not in (".json", ".csv", ".txt"):
        raise SoonerError(f"refined: {path} is no file of norms; give one that ends in .json, .csv or .txt")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SoonerError(f"refined: {path} can't be read: {error.strerror}; write it with NormLog.save") from error
    except UnicodeDecodeError as error:
        raise SoonerError(f"refined: {path} is not a text file; write it with NormLog.save") from error
    if path.suffix == ".txt":
        return text.split(), None
    return _from_json(path, text) if path.suffix == ".json" else (_from_csv(path, text), None)


def _from_json(path: Path, text: str) -> tuple[list[Any], Kind | None]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SoonerError(f"refined: {path} is not JSON ({error}); write it with NormLog.save") from error
    entries = content.get("norms") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise SoonerError(f'refined: {path} holds no list of norms; write a list, or an object with "norms"')
    named = content.get("kind") if isinstance(content, dict) else None
    return entries, None if named is None else checked(f"refined: {path}", named)


def _from_csv(path: Path, text: str) -> list[Any]:
    try:
        rows = [row for row in csv.reader(text.splitlines()) if row]
    except csv.Error as error:
        raise SoonerError(f"refined: {path} is not a table ({error}); write it with NormLog.save") from error
    header = [name.strip() for name in rows[0]] if rows else []
    titled = bool(rows) and any(not _is_number(name) for name in header)
    if titled and "norm" not in header and len(header) > 1:
        raise SoonerError(f"refined: {path} has no column norm among {', '.join(header)}; name one of them norm")
    if not titled and len(header) > 1:
        raise SoonerError(f"refined: {path} has {len(header)} columns without names; name the one to read norm")
    column = header.index("norm") if "norm" in header else 0
    return [row[column] if column < len(row) else "" for row in rows[titled:]]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
