"""The parts of the communication station attached to optimizers: exchanges before steps, outer steps after them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner.communication import _meeting as meeting
from sooner.communication._agree import agree, describe
from sooner.communication._buffers import average, averageable, start_together
from sooner.communication._codec import Codec
from sooner.communication._exchange import Exchange
from sooner.communication._flat import Flat
from sooner.communication._gradients import Gradients
from sooner.communication._group import Group
from sooner.communication._hooks import Hooks
from sooner.communication._local import Local
from sooner.communication._local_steps import LocalSteps
from sooner.communication._meeting import Meeting
from sooner.communication._memory import Memory
from sooner.communication._notes import say
from sooner.communication._outer import Outer
from sooner.communication._refusals import check, only, refuse_closure
from sooner.communication._saved import layout_of
from sooner.communication._scaler import refuse_before_average, refuse_in_windows
from sooner.communication._view import averaged
from sooner.communication._watch import Watch, named
from sooner.communication._windows import Windows
from sooner.communication._wire import Wire
from sooner.communication._wrappers import Wrappers, averaging
from sooner.error import SoonerError
from sooner.foundation.layout import Layout
from sooner.foundation.unwrap import unwrapped
from sooner.part import Part


class Communication:
    """Lets the workers of a process group train one model; afterwards the optimizers' own steps are enough.

    Without an outer part the gradients are averaged before every step, and ``p.grad`` holds the average afterwards, as
    with DistributedDataParallel. With one, workers step on their own and the outer part moves the weights every so many
    steps. The model needs no wrapper. Weights and buffers are made equal to those of rank 0 here. Whoever looks at the
    gradients before the step (clipping, a gradient scaler) calls `average_gradients` first.

    The model and the groups of the optimizers may change later, on all ranks at the same step: layers may be frozen,
    unfrozen, replaced, resized, cast, moved or tied. What is remembered goes along by names, and what is new begins as
    on rank 0. Where only some ranks change something, all of them end with one sentence; so they do when a wrapper such
    as DistributedDataParallel averages the same gradients, or when ranks are at different places of the program.

    A parameter that any worker has a gradient of gets the average, in which a missing one counts as zero; one that none
    has a gradient of keeps none. Several optimizers may step in turn, each behind a backward pass of its own.

    Buffers such as the running statistics of BatchNorm stay each worker's own while training goes on, which does not
    look at them; they are averaged for evaluation (`view`) and at the end (`finish`). Counters stay as they are.

    Args:
        model: the model; only parameters that require gradients are communicated.
        optimizers: those that move its weights; they are stepped in this order. Those wrapped by Accelerate, Lightning
            or Fabric are unwrapped.
        parts: a codec, a memory, an outer part, a local part, each at most once; none means dense averaging.
        wire: connects the workers; None for the default process group.
        steps: how many optimizer steps are planned, if that is known.
        look_every_step: ask at every step which parameters have a gradient on any worker, rather than only when one of
            them has gradients of others than before. The result is the same.

    Raises:
        SoonerError: on all ranks: parts that do not go together, parameters on several devices, sharded or complex,
            an optimizer that holds others, a wrapper that averages itself, workers that disagree.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Optimizer | Sequence[Optimizer],
        parts: Sequence[Part] = (),
        wire: Wire | None = None,
        *,
        steps: int | None = None,
        look_every_step: bool = False,
    ) -> None:
        given = list(optimizers) if isinstance(optimizers, Sequence) else [optimizers]
        self.optimizers: list[Optimizer] = [unwrapped(one) for one in given]
        self.wire = wire or Group()
        self.parts = list(parts)
        self._model, self._look = model, look_every_step
        self._watch = Watch(model, self.optimizers)
        self.parameters = {n: p for n, p in self._watch.named.items() if p.requires_grad}
        refusal = ""
        try:
            self._prepare()
        except SoonerError as error:
            refusal = str(error)
        agree(self.wire, describe(model, parts), refusal)
        say(parts, self.wire, self.outer, steps)
        self.steps = 0
        self.rounds = 0
        self.finished = False
        self._unused: set[int] = set()  # numbers of the optimizers that have not stepped by the last average yet
        start_together((*model.parameters(), *model.buffers()), self.wire, self._device)
        self._wrappers = Wrappers(self.wire)
        self._hooks: Hooks | None = self._hook()
        self._windows: Windows | None = None
        if self.outer is not None:
            self._windows = Windows(self.outer, only(self.parts, Local), self._flat, self.exchange)

    def _prepare(self) -> None:
        """Make what needs no other rank, or refuse."""
        self.layout = Layout.of(self.parameters)
        check(self._model, self._watch.named, self.parameters, self.optimizers)
        if averaging(self._model, self.wire):
            raise SoonerError(
                "the model is wrapped in DistributedDataParallel, which averages gradients itself, so that all would "
                "be sent twice; pass and train the module inside of it, or leave Communication out and give the "
                "wrapper a DDPBuckets"
            )
        if any(p.requires_grad for p in self._watch.strangers()):
            raise SoonerError(meeting.sentence(meeting.STRANGER))
        self.exchange = Exchange(self.layout, self.wire, only(self.parts, Codec), only(self.parts, Memory))
        self.outer: Outer | None = only(self.parts, Outer)
        local = only(self.parts, Local)
        if self.outer is None or self.outer.averages_gradients:
            self.exchange.memory.check(self.optimizers)
        if self.outer is not None:
            self.outer.check(self.exchange)
        if local is not None:
            if self.outer is None and local.needs_window:
                raise SoonerError(
                    f"{local.name()} needs workers that take steps of their own; add an outer part such as local_sgd"
                )
            LocalSteps(local, Flat(self.parameters, self.layout))
        self._lay_out()

    def _lay_out(self) -> None:
        """Make what follows from the parameters that are communicated."""
        self._meeting = Meeting(self.wire, list(self._watch.named))
        places = {name: number for number, name in enumerate(self._watch.named)}
        self._numbers = [places[name] for name in self.parameters]
        self._gradients = Gradients(self.parameters, self.layout, self.exchange, self._look)
        self._flat = Flat(self.parameters, self.layout)

    @property
    def _device(self) -> torch.device:
        return next(iter(self.parameters.values())).device

    def detach(self) -> None:
        """Take the hooks off: from now on nothing is exchanged."""
        if self._hooks is not None:
            self._hooks.remove()

    def _hook(self) -> Hooks:
        after = None if self.outer is None else self._after_step
        return Hooks(self.optimizers, self._before_step, after, self._heard)

    @property
    def _heard(self) -> list[nn.Parameter]:
        """The parameters whose backward passes matter."""
        return list(self.parameters.values()) if self.averages_gradients else []

    def __deepcopy__(self, memo: dict[int, Any]) -> Communication:
        """Return another one between the same processes, for the copies of model and optimizers.

        Copy them together, as in ``copy.deepcopy((model, optimizer, communication))``: PyTorch's optimizers lose their
        hooks when they are copied, and the copy of this puts its own on theirs.
        """
        made = object.__new__(type(self))
        memo[id(self)] = made
        left_out = ("_hooks", "_watch", "_wrappers", "_meeting", "_gradients", "_flat", "_windows")
        for name, value in vars(self).items():
            if name not in left_out:
                setattr(made, name, copy.deepcopy(value, memo))
        made._watch = Watch(made._model, made.optimizers)
        made._wrappers = Wrappers(made.wire)
        made._lay_out()
        made._gradients.use(self._gradients.trained, self._gradients.present)
        made._unused = set()
        made._windows = None if self._windows is None else self._windows.copied(memo, made._flat, made.exchange)
        made._hooks = None if self.finished else made._hook()
        return made

    @torch.no_grad()
    def _before_step(self, number: int, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self.averages_gradients or (self._windows is not None and self._windows.changes_gradients):
            refuse_closure(optimizer, args, kwargs)
        if self.averages_gradients:
            if number not in self._unused or self._backward_since:
                self._average()
            self._unused.discard(number)
        else:
            refuse_in_windows(self.wire)
        if number == 0 and self._windows is not None:
            self._follow()
            self._windows.before_step()

    @property
    def _backward_since(self) -> bool:
        """Whether a backward pass has added to the gradients since they were averaged."""
        return self._hooks is not None and self._hooks.added

    @property
    def averages_gradients(self) -> bool:
        """Whether gradients are averaged before every step."""
        return self.outer is None or self.outer.averages_gradients

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Average now what the coming step would average, for whoever looks at the gradients first; once per step.

        Call it before `torch.nn.utils.clip_grad_norm_`, and before ``scaler.unscale_`` or ``scaler.step`` of a gradient
        scaler. Change gradients in place afterwards: others in their place, and those of another backward pass, are
        new, and averaged by the next call or step.

        Raises:
            SoonerError: on all ranks: one of them can't go on, or they are at different places; on this one: it is
                called after a gradient scaler has looked for infinities.
        """
        if not self.averages_gradients:
            return
        everyone = len(self._unused) == len(self.optimizers)
        if everyone and not self._backward_since and self._gradients.untouched():
            return
        self._average()
        self._gradients.note()

    def _average(self) -> None:
        refuse_before_average(self.wire)
        self._follow()
        wrong: tuple[int, int] | None = None
        if self._wrappers.averaged(self.parameters.values()):
            wrong = meeting.WRAPPED, 0
        elif any(p.grad is not None for p in self._watch.strangers()):  # what was replaced may stay without one
            wrong = meeting.STRANGER, 0
        self._gradients.average(self._meeting, wrong, self._numbers)
        self._unused = set(range(len(self.optimizers)))
        if self._hooks is not None:
            self._hooks.added = False
        if self.outer is None:
            self.steps += 1

    def skip_step(self) -> None:
        """Note that the step is not taken for which gradients were averaged, so that the next ones are averaged too."""
        self._unused.clear()

    def _follow(self) -> None:
        """Go on with what the model holds now, on all ranks in the same way.

        Raises:
            SoonerError: on all ranks: they do not hold the same, or it can't be followed.
        """
        change = self._watch.change()
        if change is None:
            return
        self._meeting.begin(meeting.CHANGED, change=change)
        try:
            self._meeting.end()
        except SoonerError as error:
            self._stand_in(error)
            raise
        before, shapes = self.parameters, self._watch.shapes
        now = named(self._model)
        # what is frozen stays, with a gradient of nobody, as it may come back; outer steps would move it
        kept = before if self.outer is None else {}
        parameters = {n: p for n, p in now.items() if p.requires_grad or n in kept}
        refusal = ""
        try:
            check(self._model, now, parameters, self.optimizers)
            if self._windows is not None and Layout.of(parameters).shapes != self.layout.shapes:
                self._windows.check_layout(Layout.of(parameters))
        except SoonerError as error:
            refusal = str(error)
        agree(self.wire, describe(self._model, self.parts), refusal)
        self._watch.remember()
        self.parameters, self.layout = parameters, Layout.of(parameters)
        # those that are new may have begun differently, and nobody has made them equal yet
        new = [p for n, p in parameters.items() if shapes.get(n) != p.shape or n not in before]
        replaced = [p for n, p in parameters.items() if before.get(n, p) is not p]
        start_together([*new, *replaced] if self.averages_gradients else new, self.wire, self._device)
        self._take_along()

    def _take_along(self) -> None:
        """Bring everything that is kept into the present layout, and onto the device and into the type of now."""
        weights = Flat(self.parameters, self.layout).read()
        self.exchange.follow(self.layout, weights)
        trained = self._gradients.trained
        self._lay_out()
        self._gradients.use(None if trained is None else trained & self.parameters.keys())
        self._unused.clear()
        if self._hooks is not None:
            self._hooks.listen(self._heard)
        if self._windows is not None:
            self._windows.take_along(self._flat, weights)

    def _stand_in(self, error: SoonerError) -> None:
        """Come to the exchange that the others have begun, so that all ranks are at the same place afterwards."""

        def stop() -> None:
            raise error

        if self._meeting.others_average:
            self.wire.minding.append(stop)
            with contextlib.suppress(SoonerError):
                self.exchange.in_place(self._gradients.flat)

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        assert self.outer is not None
        assert self._windows is not None
        self.steps += 1
        self._windows.after_step()
        if not self.outer.due(self.steps):
            return
        self.rounds += 1
        if self.outer.meets != "never":
            self._meeting.begin(meeting.OUTER)
        if self.outer.meets == "first":
            self._meeting.end()
        self._windows.end(self.rounds, self.steps)

    @torch.no_grad()
    def finish(self) -> None:
        """End with one model on all ranks: average what is left of a window, and the buffers, and take the hooks off.

        All ranks call it, after their last step.
        """
        if self.finished:
            return
        self._follow()
        self._meeting.begin(meeting.FINISH)
        self._meeting.end()
        self.finished = True
        self.detach()
        if self._windows is not None:
            self._windows.finish(self.rounds, self.steps)
        average(averageable(self._model), self.wire)

    @contextlib.contextmanager
    def view(self) -> Iterator[nn.Module]:
        """Inside, the model holds the average of the workers' weights and buffers; afterwards each has its own back.

        All ranks enter it together. It is not counted as traffic of the training.
        """
        apart = not self.averages_gradients and self.wire.size > 1 and not self.finished
        buffers = averageable(self._model) if self.wire.size > 1 and not self.finished else []
        if apart or buffers:
            self._follow()
            self._meeting.begin(meeting.VIEW)
            self._meeting.end()
        with averaged(self._model, self.parameters.values() if apart else (), self._flat, buffers, self.wire):
            yield self._model

    def state_dict(self) -> dict[str, Any]:
        """Return what this rank must keep to go on bit for bit, beside model and optimizers; every rank has its own.

        What is under way is waited for first.
        """
        trained = self._gradients.trained
        return {
            "steps": self.steps,
            "rounds": self.rounds,
            "finished": self.finished,
            **({"outer": {}, "slow": None, "local": {}} if self._windows is None else self._windows.state_dict()),
            "trained": None if trained is None else sorted(trained),
            "present": self._gradients.present,
            "workers": self.wire.size,
            "exchange": self.exchange.state_dict(),
            "layout": {name: list(shape) for name, shape in self.layout.shapes.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned on the same rank.

        Raises:
            SoonerError: the state belongs to another model or other parts.
        """
        saved = layout_of(state, self.layout, outer=self._windows is not None)

        def placed(v: Tensor) -> Tensor:
            return self.layout.taken_from(saved, v) if v.shape[-1:] == (saved.size,) else v.clone()

        self.exchange.load_state_dict(state["exchange"], placed)
        self.steps, self.rounds, self.finished = state["steps"], state["rounds"], state["finished"]
        if self._windows is not None:
            self._windows.load_state_dict(state, placed)
        trained = state["trained"]
        present = state.get("present") if state.get("workers") == self.wire.size else None
        self._gradients.use(None if trained is None else frozenset(trained), present)
        self._unused.clear()
