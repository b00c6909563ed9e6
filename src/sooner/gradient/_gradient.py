"""The one class behind the parts that change gradients before the optimizer sees them; ``p.grad`` itself is untouched.

With one optimizer of sooner the rule joins the chains of that optimizer, so that both run in one pass. Any other
optimizer, and several that share the rule, find the new gradients in ``p.grad`` for the duration of their step.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.execute import Cohort, Work, run, state_dtype
from sooner.execute.shards import spread_of
from sooner.objective import Objective
from sooner.part import Part
from sooner.transform import Chain, Clock, Transform

_JOINED = "gradient_parts"
"""Attribute of an optimizer that lists the parts attached to it, in the order in which they run."""


class GradientPart(Part):
    """Base of the parts that are a rule for gradients. Attach it once; afterwards the optimizer's own step is enough.

    Args:
        optimizer: the optimizer whose gradients are changed, or a list of optimizers that share the rule (one norm over
            all of them). For a list, take the steps inside ``with part.around_step():``.
        rule: what is done to the gradients.
        left_out: parameters whose gradients stay as they are.

    Raises:
        SoonerError: no optimizer, or several of which one evaluates the loss itself.
    """

    station: ClassVar[str] = "gradient"

    def __init__(
        self, optimizer: Optimizer | Sequence[Optimizer], rule: Transform, left_out: Sequence[Tensor] = ()
    ) -> None:
        self.optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
        self.rule = rule
        self.steps = 0
        self._left_out = set(left_out)
        self._state: dict[Tensor, dict[str, Tensor]] = {}
        self._present: list[Tensor] = []
        self._shared: dict[str, Tensor] = {}
        self._cohorts: list[tuple[Cohort, list[Tensor]]] = []  # each with the tensors that its changed gradients go to
        self._changed: list[tuple[Tensor, Tensor]] = []
        self._swapped: list[tuple[Tensor, Tensor, Tensor]] = []
        strangers = [type(one).__name__ for one in self.optimizers if not isinstance(one, Optimizer)]
        if strangers or not self.optimizers:
            raise SoonerError(
                f"{self.name()}: optimizer={strangers[0] if strangers else 'an empty list'} is no optimizer; "
                "pass one, or a list of them"
            )
        if len(self.optimizers) == 1:
            _attach(self.optimizers[0], self)
        else:
            self._refuse_closures()

    @classmethod
    def name(cls) -> str:
        """The part's name, which is the name of its file."""
        return cls.__module__.rpartition(".")[2]

    @property
    def joins(self) -> bool:
        """Whether the rule can run inside the optimizer's own chains."""
        return not self._left_out and hasattr(self.optimizers[0], "gradient_rules")

    def _refuse_closures(self) -> None:
        for one in self.optimizers:
            closure = inspect.signature(type(one).step).parameters.get("closure")
            if closure is not None and closure.default is closure.empty:
                raise SoonerError(
                    f"{self.name()}: {type(one).__name__} finds its gradients inside its own step, so it can't share "
                    "the rule with other optimizers; give it the whole model"
                )

    @contextlib.contextmanager
    def around_step(self, objective: Objective | None = None) -> Iterator[None]:
        """Inside, several optimizers find the changed gradients; a single one needs no context, so nothing happens."""
        if len(self.optimizers) == 1:
            yield
            return
        try:
            self.swap_in()
            yield
        finally:
            self.swap_out()

    @torch.no_grad()
    def swap_in(self) -> None:
        """Put the changed gradients, in memory of their own, where the gradients are."""
        present = [p for o in self.optimizers for g in o.param_groups for p in g["params"] if p.grad is not None]
        if self._left_out:
            present = [p for p in present if p not in self._left_out]
        if any(p.grad.layout != torch.strided for p in present):
            raise SoonerError(f"{self.name()} takes no sparse gradients; build the embedding with sparse=False")
        same = len(present) == len(self._present) and all(map(operator.is_, present, self._present))
        if not same or not all(cohort.fits() for cohort, _ in self._cohorts):
            self._regroup(present)
        self.steps += 1
        chain = Chain((self.rule,))
        clock = Clock(self.steps, 0.0)  # rules for gradients do not look at the learning rate
        run([Work(cohort, chain, clock, into=into) for cohort, into in self._cohorts])
        for p, changed in self._changed:
            own = changed.to(p.dtype)
            self._swapped.append((p, p.grad, own))  # type: ignore[arg-type]  # all of them have one
            p.grad = own

    def swap_out(self) -> None:
        """Put the original gradients back, except where somebody else has put another one since."""
        for p, original, changed in self._swapped:
            if p.grad is changed:
                p.grad = original
        self._swapped.clear()

    def _regroup(self, present: list[Tensor]) -> None:
        if any(p.is_complex() for p in present):
            raise SoonerError(f"{self.name()} takes no complex parameters; leave this part out of the recipe")
        together: dict[tuple[Any, ...], list[Tensor]] = {}
        for p in present:
            together.setdefault((p.device, p.dtype, spread_of(p)), []).append(p)
        chain = Chain((self.rule,))
        self._present = present
        self._cohorts, self._changed = [], []
        for params in together.values():
            cohort = Cohort(params, self._state, chain, None, self._shared)
            into = [torch.empty(piece.shape, dtype=cohort.dtype, device=cohort.device) for piece in cohort.pieces]
            self._cohorts.append((cohort, into))
            self._changed += zip(cohort.params, _laid_out(cohort, into), strict=True)

    def _parameters(self) -> list[Tensor]:
        return [p for one in self.optimizers for group in one.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """Return the steps taken and what the rule keeps for every parameter; nothing where the optimizer keeps it."""
        return {"steps": self.steps, "state": [self._state.get(p, {}) for p in self._parameters()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            SoonerError: the state was saved for another number of parameters.
        """
        parameters = self._parameters()
        if len(state["state"]) != len(parameters):
            raise SoonerError(
                f"{self.name()}: the state is for {len(state['state'])} parameters, these optimizers have "
                f"{len(parameters)}; load the state of the same model"
            )
        self.steps = state["steps"]
        self._state = {
            p: {slot: value.detach().to(p.device, state_dtype(p.dtype), copy=True) for slot, value in kept.items()}
            for p, kept in zip(parameters, state["state"], strict=True)
            if kept
        }
        self._present = []


def _laid_out(cohort: Cohort, pieces: list[Tensor]) -> list[Tensor]:
    """Return one tensor per parameter, sharded as the parameter is, from this process's pieces."""
    if cohort.spread is None:
        return pieces
    return [cohort.spread.shown(piece, p) for p, piece in zip(cohort.params, pieces, strict=True)]


def _attach(optimizer: Optimizer, part: GradientPart) -> None:
    """Run the part's rule in every step of the optimizer, behind those of the parts attached before."""
    parts: list[GradientPart] = vars(optimizer).setdefault(_JOINED, [])
    parts.append(part)
    if len(parts) == 1:
        optimizer.register_step_pre_hook(_before_step)
        optimizer.register_step_post_hook(_after_step)
    if hasattr(optimizer, "gradient_rules"):
        others = [rule for rule in optimizer.gradient_rules if not any(rule is known.rule for known in parts)]
        joined = [known.rule for known in parts] if _all_join(parts) else []
        optimizer.gradient_rules = (*others, *joined)


def _all_join(parts: Sequence[GradientPart]) -> bool:
    """Whether all parts of an optimizer run inside its chains; one that can't keeps all out, for their order counts."""
    return all(part.joins for part in parts)


def _before_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Swap the gradients; where the step begins with a closure, swap them behind every call of it."""
    parts: list[GradientPart] = vars(optimizer)[_JOINED]
    if _all_join(parts):
        return None
    _swap_out(parts)  # where the step before this one ended with an exception
    _, *given = args  # the first one is the optimizer
    closure = kwargs.get("closure", given[0] if given else None)
    if closure is None or isinstance(closure, Objective):
        _swap_in(parts)
        return None

    def swapping() -> Any:
        _swap_out(parts)
        loss = closure()
        _swap_in(parts)
        return loss

    return ((optimizer, swapping, *given[1:]), kwargs) if given else (args, {**kwargs, "closure": swapping})


def _after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _swap_out(vars(optimizer)[_JOINED])


def _swap_in(parts: Sequence[GradientPart]) -> None:
    for part in parts:
        part.swap_in()


def _swap_out(parts: Sequence[GradientPart]) -> None:
    for part in reversed(parts):
        part.swap_out()
