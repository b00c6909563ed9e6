"""The one scheduler class behind every schedule part: each group's learning rate times a factor of time."""

from __future__ import annotations

import logging
import math
import operator
import weakref
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sooner.error import SoonerError
from sooner.foundation.hooks import due
from sooner.foundation.unwrap import unwrapped
from sooner.part import Part, check_range

log = logging.getLogger(__name__)

_OWN = frozenset({"optimizer", "_planned", "_groups", "_kept"})
"""What belongs to this object and its optimizer, and is in no state."""


class Schedule(Part, LRScheduler):
    """Base of the schedule parts. Call ``step()`` after every optimizer step, as with any PyTorch scheduler.

    A group's base rate is its ``lr`` when the schedule is made, or its ``initial_lr`` where it has one, as in PyTorch.
    A group that is added later has its own base in the same way, and its rate is the base times the factor from its
    first step on; groups may be removed and put in another order. What others do to a rate between two steps
    (`ReduceLROnPlateau`, `ChainedScheduler`, a line of your own) stays: the schedule goes on in proportion.

    The plan (`steps`, the warm-up…) is that of the constructor, also after `load_state_dict`, which brings the step at
    which to go on and the base rates; one line in the log says where the saved plan was another. Afterwards the
    optimizer has the rates of the next step, whether its own state is loaded before or after.

    Args:
        optimizer: the optimizer whose learning rates are scheduled, or another library's wrapper around it.
        steps: number of steps planned, at least 1.
        last_epoch: number of the last step taken, -1 at the start (PyTorch's name for it).

    Raises:
        SoonerError: a number out of range, or ``last_epoch`` for groups without ``initial_lr``.
    """

    station: ClassVar[str] = "schedule"
    owns = frozenset({"learning rate"})

    def __init__(self, optimizer: Optimizer, steps: int, last_epoch: int = -1) -> None:
        check_range(self.name(), "steps", steps, 1, math.inf, whole=True)
        self.steps = steps
        self._planned = frozenset(vars(self))  # what the constructors of the parts have set by now
        self._groups: list[dict[str, Any]] = []  # known ones, in the order of base_lrs
        self._kept: list[Any] = []
        optimizer = unwrapped(optimizer)
        if last_epoch != -1:
            self._check_bases(optimizer, last_epoch)
        super().__init__(optimizer, last_epoch)
        self._watch()

    @classmethod
    def _check_bases(cls, optimizer: Optimizer, last_epoch: int) -> None:
        for number, group in enumerate(optimizer.param_groups):
            if "initial_lr" not in group:
                raise SoonerError(
                    f"{cls.name()}: last_epoch={last_epoch} goes on with a run, and group {number} has no initial_lr, "
                    "its rate at the start; load the optimizer's state first, or leave last_epoch out and load the "
                    "schedule's"
                )

    def step(self, epoch: int | None = None) -> None:
        """Advance by one step; not behind a step that the optimizer has left out, as for infinite gradients."""
        if self._is_initial or due(self.optimizer):
            super().step(epoch)

    def factor(self, step: int) -> float:
        """Return the multiple of the base learning rate used in step number `step`, counted from 0."""
        raise TypeError(f"{type(self).__name__} defines no factor")

    def mean_factor(self) -> float:
        """Return the mean of `factor` over the steps planned, to compare schedules at an equal total of steps."""
        return math.fsum(self.factor(step) for step in range(self.steps)) / self.steps

    def get_lr(self) -> list[Any]:
        """Return the learning rate of every group for the step about to be taken."""
        self._align()
        factor = self.factor(self.last_epoch)
        return [base * factor for base in self.base_lrs]

    def _update_lr(self, epoch: int | None = None) -> None:
        self._align()
        if epoch is None and self._step_count > 1:  # else the schedule begins here, whatever the rates are
            self._follow()
        super()._update_lr(epoch)
        self.optimizer._rates_by = id(self)  # type: ignore[attr-defined]

    def _align(self) -> list[int]:
        """Have a base rate for every group that there is now, and return the places of those that are new.

        Loading a state makes new dictionaries around the same lists of parameters, so a group is known by either.
        """
        groups = self.optimizer.param_groups
        if len(groups) == len(self._groups) and all(map(operator.is_, groups, self._groups)):
            return []
        if not self._groups:  # just made: PyTorch has found the bases
            self._groups = list(groups)
            return []
        places = {id(key): i for i, known in enumerate(self._groups) for key in (known, known["params"])}
        bases, rates, new = [], [], []
        for number, group in enumerate(groups):
            place = places.get(id(group), places.get(id(group["params"])))
            same = place is not None and self._groups[place] is group
            if place is None:
                new.append(number)
                group.setdefault("initial_lr", _copy(group["lr"]))
            bases.append(_copy(group["initial_lr"]) if place is None else self.base_lrs[place])
            rates.append(self._last_lr[place] if same and place is not None else _copy(group["lr"]))
        self._groups, self.base_lrs, self._last_lr = list(groups), bases, rates
        return new

    def _follow(self) -> None:
        """Take into the base rates what others have made of the rates since this schedule set them."""
        for number, (group, ours) in enumerate(zip(self._groups, self._last_lr, strict=True)):
            now = group["lr"]
            if isinstance(now, Tensor):  # without waiting for the device
                moved = torch.where((now == ours) | (torch.zeros_like(now) == ours), 1.0, now / ours)
                self.base_lrs[number] = self.base_lrs[number] * moved
            elif now != ours and ours != 0:
                self.base_lrs[number] *= float(now / ours)

    def _watch(self) -> None:
        """See groups that are added before their first step, and keep the rates when the optimizer's state is loaded.

        The hooks know the schedule only weakly: it can go before its optimizer does.
        """
        here = weakref.ref(self)

        def call(method: str) -> Any:
            def hook(*_: Any) -> None:
                schedule = here()
                if schedule is not None:
                    getattr(schedule, method)()

            return hook

        handles = [
            self.optimizer.register_step_pre_hook(call("_begin_groups")),
            self.optimizer.register_load_state_dict_pre_hook(call("_keep_rates")),
            self.optimizer.register_load_state_dict_post_hook(call("_restore_rates")),
        ]
        for handle in handles:
            weakref.finalize(self, handle.remove).atexit = False

    def _begin_groups(self) -> None:
        new = self._align()
        if new and self._drives():
            factor = self.factor(self.last_epoch)
            for number in new:
                _set(self._groups[number], self.base_lrs[number] * factor)
                self._last_lr[number] = _copy(self._groups[number]["lr"])

    def _drives(self) -> bool:
        """Whether no other schedule has set the rates after this one; one that waits in a `SequentialLR` is at -1."""
        return self.last_epoch >= 0 and getattr(self.optimizer, "_rates_by", id(self)) == id(self)

    def _keep_rates(self) -> None:
        self._align()
        self._kept = [(_copy(group["lr"]), ours) for group, ours in zip(self._groups, self._last_lr, strict=True)]

    def _restore_rates(self) -> None:
        self._align()
        for number, (group, (rate, ours)) in enumerate(zip(self._groups, self._kept, strict=False)):
            if self._drives():
                _set(group, rate)
                self._last_lr[number] = ours
        self._kept = []

    def state_dict(self) -> dict[str, Any]:
        """Return the plan, the step, the base rates, and the rates as they are now."""
        state = {key: list(v) if type(v) is list else v for key, v in vars(self).items() if key not in _OWN}
        return {**state, "rates": [_copy(group["lr"]) for group in self.optimizer.param_groups]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the step of what `state_dict` returned, by this schedule's own plan, and set the next step's rates.

        Groups are matched in order; more of them than in the state are new and begin with their own base rate.

        Raises:
            SoonerError: the state is none of a schedule, or is of more groups than the optimizer has.
        """
        self._align()
        if not isinstance(state_dict, dict) or "last_epoch" not in state_dict:
            raise SoonerError(f"{self.name()}: this is not the state of a schedule; pass what state_dict() returned")
        bases = state_dict.get("base_lrs", self.base_lrs)
        if len(bases) > len(self._groups):
            raise SoonerError(
                f"{self.name()}: the state is of {len(bases)} parameter groups and the optimizer has "
                f"{len(self._groups)}; add the missing ones before loading"
            )
        apart = _OWN | self._planned | {"base_lrs", "_last_lr", "rates"}
        vars(self).update({key: value for key, value in state_dict.items() if key not in apart})
        self.base_lrs[: len(bases)] = [_like(g["lr"], base) for g, base in zip(self._groups, bases, strict=False)]
        self._say_what_differs(state_dict)
        if self.last_epoch < 0:  # it waits in a SequentialLR, where another one has set the rates
            return
        before = state_dict.get("_last_lr", ())
        found = list(zip(before, state_dict.get("rates", before), strict=False))
        factor = self.factor(self.last_epoch)
        for number, group in enumerate(self._groups):
            ours = _like(group["lr"], self.base_lrs[number] * factor)
            then, rate = map(float, found[number]) if number < len(found) else (float(ours), float(ours))
            # what others had made of the rate stays; where the plan is the same, to the bit
            same, moved = then == float(ours), rate / then if then else 1.0
            _set(group, rate if same else ours * moved)
            self._last_lr[number] = _like(group["lr"], ours)
        self.optimizer._rates_by = id(self)  # type: ignore[attr-defined]

    def _say_what_differs(self, state: dict[str, Any]) -> None:
        ours = {key: getattr(self, key) for key in sorted(self._planned)}
        named = [key for key, value in ours.items() if key in state and state[key] != value]
        if named:
            words = [f"{k}={ours[k]!r}, not {state[k]!r}" if _short(ours[k], state[k]) else k for k in named]
            log.warning(
                "%s goes on at step %d by the plan given here and not by the saved one (%s)",
                *(self.name(), self.last_epoch, "; ".join(words)),
            )

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._watch()  # the copy of an optimizer has no hooks


def _copy(rate: Any) -> Any:
    return rate.clone() if isinstance(rate, Tensor) else rate


def _set(group: dict[str, Any], rate: Any) -> None:
    """Give a group a rate; a tensor is changed in place, as PyTorch's schedulers do."""
    if isinstance(group["lr"], Tensor):
        group["lr"].copy_(torch.as_tensor(rate))
    else:
        group["lr"] = float(rate)


def _like(rate: Any, value: Any) -> Any:
    """Return a value as a tensor or number, as the rate is one."""
    if isinstance(rate, Tensor):
        return torch.as_tensor(value).to(rate, copy=True)
    return float(value)


def _short(*values: Any) -> bool:
    return all(isinstance(value, int | float | str | None) for value in values)


class DecayingSchedule(Schedule):
    """A schedule with linear warm-up and a decay that ends with the last step planned.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        steps: number of steps planned, at least 1.
        warmup: share of the steps over which the rate rises linearly, in [0, 1).
        floor: smallest multiple of the base rate, reached one step after the last, in [0, 1].
        last_epoch: number of the last step taken, -1 at the start.
    """

    horizon_free = False

    def __init__(
        self, optimizer: Optimizer, steps: int, warmup: float = 0.05, floor: float = 0.0, last_epoch: int = -1
    ) -> None:
        check_range(self.name(), "warmup", warmup, 0.0, 1.0, open_high=True)
        check_range(self.name(), "floor", floor, 0.0, 1.0)
        self.warmup, self.floor = warmup, floor
        super().__init__(optimizer, steps, last_epoch)

    def shape(self, progress: float) -> float:
        """Return the decay's height in [0, 1] at `progress` in [0, 1] after the warm-up."""
        raise TypeError(f"{type(self).__name__} defines no shape")

    def factor(self, step: int) -> float:
        """Rise linearly during the warm-up, then follow `shape` down to the floor; constant past the last step."""
        warm = round(self.warmup * self.steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        progress = min(1.0, (step - warm) / max(1, self.steps - warm))
        return self.floor + (1 - self.floor) * self.shape(progress)
