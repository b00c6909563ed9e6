"""A recipe at work on one model: the parts that `Recipe.build` made, driven by a user's own loop.

training = Recipe("muon + cosine").build(model, steps=1000)
loss.backward(); training.step(); training.zero_grad()          # or, for parts that evaluate the loss themselves:
training.backward(objective); training.step(objective); training.zero_grad()
with training.view(): evaluate(model)

In somebody else's Trainer: ``optimizer, schedule = training.attach()``, or the training itself in an optimizer's place.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sooner.communication._attached import Communication
from sooner.communication._averages_itself import averages_itself
from sooner.communication._group import Group
from sooner.error import SoonerError
from sooner.foundation.gradient_norm import gradient_norm
from sooner.foundation.heard import refuse_unheard_loss
from sooner.foundation.hooks import hooks_of, overflows, steps_taken, take_off_scale
from sooner.foundation.model_names import unwrapped as unwrapped_model
from sooner.foundation.unwrap import unwrapped
from sooner.memory.lazy_saver import LazySaver
from sooner.objective import Averaging, Objective
from sooner.part import Part
from sooner.recipe.around import Around, LeftOut
from sooner.recipe.closures import asks, torch_closure
from sooner.recipe.refusals import refuse_handing_over, refuse_own_infinities, unheard
from sooner.recipe.several import Several


class Training(Several):
    """The parts of a recipe attached to one model. Parameters in memory are always the training weights.

    It has what others ask of an optimizer (`param_groups`, `state`, `step`, `zero_grad`, `state_dict`, hooks), so that
    ``scaler.step(training)`` and frameworks that take any object with these can drive it.

    Steps that are left out, by a GradScaler or by ``non_finite="skip"``, count for nobody: a schedule stays where it is
    if its optimizer has left the step out, and `after_step` is not called if all of them have.

    Attributes:
        model: the model.
        optimizers: its optimizers; together they hold every parameter once.
        schedules: the learning-rate schedules.
        others: all other parts, those that have changed the model first. What they do depends on the methods they
            have: `backward(objective)` finds the gradients in place of backpropagation, `around_loss()` is a context
            for the training loss, `around_step(objective)` is a context for the optimizers' step, `after_step()` is
            called after every step, `view()` chooses the evaluation weights (optimizers may have it too) and
            `export(model)` makes a copy of the model plain again.
        communication: what lets several workers train the model together; None where nothing does.
        loss_elsewhere: whether somebody else enters `around_loss` where the loss is evaluated, default False. Where it
            is False, `step` refuses gradients in whose making such parts had no say.
    """

    loss_elsewhere = False

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        schedules: Sequence[LRScheduler],
        others: Sequence[Any] = (),
        communication: Communication | None = None,
    ) -> None:
        super().__init__(optimizers)
        self.model = model
        self.schedules: list[Any] = list(schedules)  # those of batch sizes are no scheduler of PyTorch
        self.others = list(others)
        self.communication = communication
        self._seen: tuple[nn.Module, bool] | None = None  # whose loss it was, and if that averages
        self.around_loss = self._offered("around_loss")
        self._sources = self._offered("backward")
        self._around_step = self._offered("around_step")
        self._after_step = self._offered("after_step")
        self._attached = False
        self._averaged = False
        self._had_a_say = False  # those parts that act on the loss, in the gradients that are there

    def _offered(self, method: str) -> list[Callable[..., Any]]:
        return [getattr(part, method) for part in self.others if hasattr(part, method)]

    def backward(self, objective: Objective) -> Tensor:
        """Add the gradients of the step's mean loss to ``.grad`` and return that loss, 0-d and without its graph.

        Where the loss returns ``(sum, count)``, the mean is over all that micro-batches and workers have counted.
        """
        objective.around = self.around_loss
        objective.averaging = lambda: self._averaging(objective.model)
        objective.trained = self._trained
        self._had_a_say = True
        for source in self._sources:
            found: Tensor = source(objective)
            return found
        return objective.backward()

    @contextlib.contextmanager
    def during_loss(self) -> Iterator[None]:
        """Inside, the parts that act on the training loss do so, for loops that call ``loss.backward()`` themselves.

        Raises:
            SoonerError: a part finds the gradients itself, for which it needs ``training.backward(objective)``.
        """
        if self._sources:
            raise SoonerError(unheard(self.others, "backward"))
        with contextlib.ExitStack() as stack:
            for enter in self.around_loss:
                stack.enter_context(enter())
            yield
        self._had_a_say = True

    def _refuse_unheard(self) -> None:
        """Refuse gradients that were made without the parts that act on the loss: nothing of a recipe is dropped."""
        if not (self._had_a_say or self.loss_elsewhere) and (self._sources or self.around_loss):
            raise SoonerError(unheard(self.others, "backward", "around_loss"))
        self._had_a_say = False

    def _trained(self) -> Iterator[Tensor]:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                yield from group["params"]

    def _averaging(self, model: nn.Module) -> Averaging | None:
        """Return what tells the workers of each other's counts, where their gradients are averaged."""
        at_once = False
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            if self._seen is None or self._seen[0] is not model:
                self._seen = model, averages_itself(model) or averages_itself(self.model)
            at_once = self._seen[1]
        sent = self.communication
        wire = sent.wire if sent is not None and sent.averages_gradients else Group() if at_once else None
        if wire is None or wire.size == 1:
            return None
        return Averaging(lambda numbers: wire.mean((numbers,))[0], at_once)

    def average_gradients(self) -> None:
        """Replace the gradients by the workers' average, where they are averaged; for whoever looks before `step`.

        A GradScaler looks: call this before ``scaler.unscale_(training)`` and ``scaler.step(training)``, so that all
        workers find the same infinities.
        """
        self._averaged = True
        if self.communication is not None:
            self.communication.average_gradients()

    def step(self, objective: Objective | Callable[[], Any] | None = None, *, closure: Any = None) -> Any:
        """Move the weights by the gradients now in ``.grad`` and advance the schedules.

        Args:
            objective: the step's loss; needed only where a part needs it. An ordinary closure of PyTorch, which finds
                the gradients, is called once, or by an optimizer that can't do without it.
            closure: the same under the name that PyTorch gives it.

        Returns:
            What an ordinary closure has returned, or None.

        Raises:
            SoonerError: a GradScaler steps before the workers' gradients are averaged.
        """
        given = objective if closure is None else closure
        result = None
        asking = [asks(unwrapped(one)) for one in self.optimizers]
        if given is not None and not isinstance(given, Objective):
            given = self._with_parts(given)
            if asking != [True]:
                with torch.enable_grad():
                    result = given()
                refuse_unheard_loss(result, self.optimizers, "training.step")
                given = given if any(asking) else None
        if asking != [True] or given is None or isinstance(given, Objective):
            self._refuse_unheard()
        if getattr(self, "found_inf", None) is not None and not self._averaged:
            refuse_own_infinities(self.communication)
        if overflows(self):
            self._averaged = False
            return result
        self.average_gradients()
        take_off_scale(self)
        for hook in self._pre_hooks.values():
            hook(self, (), {})
        taken, found = self._take_step(given)
        result = found if result is None else result
        self._averaged = False
        moved = any(taken.values())
        for schedule in self.schedules:
            if taken.get(id(unwrapped(getattr(schedule, "optimizer", None))), moved) and self._advances(schedule):
                schedule.step()
        if moved and not self._attached:
            for after_step in self._after_step:
                after_step()
        for hook in self._post_hooks.values():
            hook(self, (), {})
        return result

    def _with_parts(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return a closure that evaluates the loss with the parts that act on it."""
        if not (self._sources or self.around_loss):
            return closure

        def evaluate() -> Any:
            with self.during_loss():
                return closure()

        return evaluate

    def _take_step(self, given: Any) -> tuple[dict[int, bool], Any]:
        """Step with every optimizer; return which of them, by `id`, have really moved, and what the last one gave."""
        before = {id(unwrapped(one)): steps_taken(one) for one in self.optimizers}
        taken: dict[int, bool] = {}
        result = None
        with contextlib.suppress(LeftOut), contextlib.ExitStack() as stack:
            for around_step in [] if self._attached else self._around_step:
                stack.enter_context(around_step(given if isinstance(given, Objective) else None))
            for optimizer in self.optimizers:
                real = unwrapped(optimizer)
                if given is None or not (asks(real) or (optimizer is real and isinstance(real, Part))):
                    optimizer.step()
                elif isinstance(given, Objective) and not isinstance(real, Part):
                    optimizer.step(torch_closure(optimizer, given))
                else:
                    result = optimizer.step(given)
            taken = {id(unwrapped(one)): steps_taken(one) > before[id(unwrapped(one))] for one in self.optimizers}
            if not any(taken.values()):
                raise LeftOut  # so that contexts around the step do nothing behind it
        return taken, result

    _step_supports_amp_scaling: ClassVar[bool] = True  # `step` takes the scale off, behind the averaging

    @property
    def gradient_norm(self) -> Tensor:
        """The global L2 norm of the gradients of the last step over all optimizers, 0-d, for logging.

        As `sooner.update._optimizer.ChainOptimizer.gradient_norm`, also where the optimizers are others' own.

        Raises:
            SoonerError: the gradients are gone, and nobody had asked for their norm before that step.
        """
        return gradient_norm([unwrapped(one) for one in self.optimizers])

    def attach(self) -> tuple[Optimizer, LRScheduler | None]:
        """Let the optimizer's own steps do all that `step` does, for somebody else's Trainer.

        Afterwards what this returns can be handed over: ``Trainer(..., optimizers=training.attach())``. Weight averages
        and other parts that follow the steps hang on the optimizer, behind each step really taken; the schedule, which
        the Trainer advances, ignores calls behind a step that was left out if it is one of ours. Evaluate inside
        `view`; calling twice does no more than once.

        Returns:
            The optimizer and its schedule, or None for it.

        Raises:
            SoonerError: several optimizers, or a part that has to do with the loss or finds gradients itself, which the
                Trainer's loop would not let it.
        """
        refuse_handing_over(self.optimizers, self.others)
        (optimizer,) = self.optimizers
        schedule = next((one for one in self.schedules if isinstance(one, LRScheduler)), None)
        if not self._attached:
            self._attached = True
            hooks = hooks_of(optimizer)
            hooks.add(Around(self))
            if schedule is not None:
                hooks.paced = False
        return optimizer, schedule

    def _advances(self, schedule: Any) -> bool:
        """Whether `step` advances the schedule, rather than a hook on the optimizer."""
        return not self._attached or isinstance(schedule, LRScheduler)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, or fill them with zeros where `set_to_none` is False."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=set_to_none)
        self._averaged = self._had_a_say = False
        if self.communication is not None:  # where the step was not taken
            self.communication.skip_step()

    @property
    def shows_others(self) -> bool:
        """Whether a part shows other weights in `view` than those that are trained."""
        return bool(self._with_views() or self._offered("view"))

    def _with_views(self) -> list[Any]:
        """Return the optimizers that train other weights than those to evaluate."""
        real = map(unwrapped, self.optimizers)
        return [one for one in real if isinstance(one, Part) and hasattr(one, "view")]

    @contextlib.contextmanager
    def view(self) -> Iterator[nn.Module]:
        """Inside, the model holds the weights to evaluate or export; afterwards the training weights are back."""
        with contextlib.ExitStack() as stack:
            for optimizer in self._with_views():
                stack.enter_context(optimizer.view(self.model))
            for view in self._offered("view"):
                stack.enter_context(view())
            if self.communication is not None:  # last, so that it averages what the others show
                stack.enter_context(self.communication.view())
            yield self.model

    def export(self) -> nn.Module:
        """Return a copy of the model for others: with the weights of `view`, and with surgery undone where that can be.

        The copy computes what the model computes inside `view`; wrappers of the whole model are left off.

        Raises:
            SoonerError: a part that can't be undone in this model.
        """
        with self.view() as model:
            plain: nn.Module = copy.deepcopy(unwrapped_model(model))
        for part in reversed(self.others):
            if hasattr(part, "export"):
                plain = part.export(plain)
        return plain

    @property
    def saver(self) -> LazySaver | None:
        """What writes checkpoints while training goes on; None where nothing does."""
        return next((part for part in self.others if isinstance(part, LazySaver)), None)

    def finish(self) -> None:
        """Bring to an end what is still under way between the workers, after the last step."""
        if self.communication is not None:
            self.communication.finish()

    def _parts(self) -> list[Any]:
        """Return what has a state, of the workers' own (the last) or the same for all of them."""
        sent = [] if self.communication is None else [self.communication]
        return [p for p in (*self.optimizers, *self.schedules, *self.others, *sent) if hasattr(p, "state_dict")]

    def _names(self) -> list[str]:
        return [type(part).__name__ for part in self._parts()]

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the model's own weights that is needed to go on bit for bit."""
        return {"names": self._names(), "parts": [part.state_dict() for part in self._parts()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            SoonerError: the state was saved by a recipe with other parts.
        """
        if state.get("names") != self._names():
            theirs, ours = (", ".join(names) or "nothing" for names in (state.get("names") or [], self._names()))
            raise SoonerError(
                f"the state holds {theirs} where this recipe has {ours}; load with the recipe that saved it"
            )
        for part, one in zip(self._parts(), state["parts"], strict=True):
            part.load_state_dict(one)
