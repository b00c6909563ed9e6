"""The one class behind the parts that change gradients before the optimizer sees them; ``p.grad`` itself is untouched.

With one optimizer of sooner the rule joins the chains of that optimizer, so that both run in one pass. Any other
optimizer, and several that share the rule, find the new gradients in ``p.grad`` for the duration of their step.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.execute import Cohort, MisfitError, Work, find_shared, run, state_dtype
from sooner.execute.shards import spread_of
from sooner.foundation.unwrap import unwrapped
from sooner.gradient._station import attach, station_of, with_gradients
from sooner.objective import Objective
from sooner.part import Part
from sooner.transform import Chain, Clock, Transform

_shape_of = operator.attrgetter("shape")
_layout_of = operator.attrgetter("layout")


class GradientPart(Part):
    """Base of the parts that are a rule for gradients. Attach it once; afterwards the optimizer's own step is enough.

    Args:
        optimizer: the optimizer whose gradients are changed, or a list of optimizers that share the rule (one norm over
            all of them). Optimizers wrapped by Accelerate, Lightning or Fabric are unwrapped. Several are served
            together: find all gradients, then take the steps, each once.
        rule: what is done to the gradients.
        left_out: tells which parameters' gradients stay as they are.

    Attributes:
        optimizers: those of torch or of sooner themselves, without wrappers.
        steps: steps taken so far where the rule does not run inside an optimizer's chains; those left out (infinite
            gradients) don't count.

    Raises:
        SoonerError: no optimizer, one that is listed twice, or several of which one evaluates the loss itself.
    """

    station: ClassVar[str] = "gradient"

    def __init__(
        self,
        optimizer: Optimizer | Sequence[Optimizer],
        rule: Transform,
        left_out: Callable[[], Sequence[Tensor]] | None = None,
    ) -> None:
        given = [optimizer] if isinstance(unwrapped(optimizer), Optimizer) else list(optimizer)  # type: ignore[arg-type]
        self.optimizers: list[Optimizer] = [unwrapped(one) for one in given]
        self.rule = rule
        self.steps = 0
        self._left_out = left_out
        self._state: dict[Tensor, dict[str, Tensor]] = {}
        self._forget_layout()
        strangers = [type(one).__name__ for one in self.optimizers if not isinstance(one, Optimizer)]
        if strangers or not self.optimizers:
            raise SoonerError(
                f"{self.name()}: optimizer={strangers[0] if strangers else 'an empty list'} is no optimizer; "
                "pass one, or a list of them"
            )
        if len(set(map(id, self.optimizers))) < len(self.optimizers):
            raise SoonerError(f"{self.name()}: an optimizer is listed twice; list every one once")
        if len(self.optimizers) > 1:
            self._refuse_closures()
        attach(self.optimizers, self)

    def _forget_layout(self) -> None:
        self._seen: list[Tensor] = []
        self._cohorts: list[tuple[Cohort, list[Tensor]]] = []  # each with the tensors that its changed gradients go to
        self._changed: list[tuple[Tensor, Tensor]] = []

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles find their layout anew."""
        return {name: value for name, value in vars(self).items() if name not in _LAYOUT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget_layout()

    @property
    def joins(self) -> bool:
        """Whether the rule can run inside the optimizer's own chains."""
        return self._left_out is None and hasattr(self.optimizers[0], "gradient_rules")

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
        """Mark where the steps of one round begin and end, which nobody needs who takes all of them one by one."""
        try:
            yield
        finally:
            station = station_of(self.optimizers[0])
            if station is not None:
                station.close()

    @torch.no_grad()
    def swap_in(self) -> None:
        """Put the changed gradients, in memory of their own, where the gradients are."""
        present = with_gradients(self.optimizers)
        gradients: list[Tensor] = [p.grad for p in present]  # type: ignore[misc]
        if not {torch.strided}.issuperset(map(_layout_of, gradients)):
            raise SoonerError(f"{self.name()} takes no sparse gradients; build the embedding with sparse=False")
        if list(map(_shape_of, present)) != list(map(_shape_of, gradients)):
            raise SoonerError(
                f"{self.name()}: a parameter was resized after its gradient was found; call zero_grad() and find the "
                "gradients anew"
            )
        try:
            if not self._fits(present):
                self._regroup(present)
            self._run()
        except MisfitError as error:
            raise SoonerError(f"{self.name()}: {error}") from error

    def _run(self) -> None:
        chain = Chain((self.rule,))
        clock = Clock(self.steps + 1, 0.0)  # rules for gradients do not look at the learning rate
        for cohort, _ in self._cohorts:
            cohort.find_gradients()
        run([Work(cohort, chain, clock, into=into) for cohort, into in self._cohorts])
        for p, changed in self._changed:
            p.grad = changed.to(p.grad.dtype)  # type: ignore[union-attr]  # all of them have one

    def _fits(self, present: list[Tensor]) -> bool:
        """Whether these are the parameters the layout was made for, and nobody has replaced what is in them."""
        same = len(self._seen) == len(present) and all(map(operator.is_, self._seen, present))
        return same and all(cohort.fits() for cohort, _ in self._cohorts)

    def _regroup(self, present: list[Tensor]) -> None:
        if any(p.is_complex() for p in present):
            raise SoonerError(f"{self.name()} takes no complex parameters; leave this part out of the recipe")
        left_out = set(self._left_out()) if self._left_out is not None else set()
        together: dict[tuple[Any, ...], list[Tensor]] = {}
        for p in present:
            if p not in left_out:
                together.setdefault((p.device, p.dtype, spread_of(p)), []).append(p)
        chain = Chain((self.rule,))
        self._seen, self._cohorts, self._changed = [], [], []
        shared: dict[str, Tensor] = {}
        find_shared(self._state, [chain], shared)
        for params in together.values():
            cohort = Cohort(params, self._state, chain, None, shared)
            cohort.watch()
            into = [torch.empty(piece.shape, dtype=cohort.dtype, device=cohort.device) for piece in cohort.pieces]
            self._cohorts.append((cohort, into))
            self._changed += zip(cohort.params, _laid_out(cohort, into), strict=True)
        self._seen = present

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
        self._forget_layout()


_LAYOUT = ("_seen", "_cohorts", "_changed")


def _laid_out(cohort: Cohort, pieces: list[Tensor]) -> list[Tensor]:
    """Return one tensor per parameter, sharded as the parameter is, from this process's pieces."""
    if cohort.spread is None:
        return pieces
    return [cohort.spread.shown(piece, p) for p, piece in zip(cohort.params, pieces, strict=True)]
