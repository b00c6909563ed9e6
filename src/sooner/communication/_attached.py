"""The parts of the communication station attached to optimizers: exchanges before steps, outer steps after them."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from sooner.communication import _meeting as meeting
from sooner.communication._agree import agree, describe
from sooner.communication._buffers import average, averageable, start_together
from sooner.communication._codec import Buffers, Codec
from sooner.communication._exchange import Exchange
from sooner.communication._gradients import Gradients, wide
from sooner.communication._group import Group
from sooner.communication._local import Local
from sooner.communication._local_steps import LocalSteps
from sooner.communication._meeting import Meeting
from sooner.communication._memory import Memory
from sooner.communication._outer import Outer, Window
from sooner.communication._scaler import scaler_at_work
from sooner.communication._watch import Watch, named
from sooner.communication._wire import Wire
from sooner.communication._wrappers import Wrappers, averaging
from sooner.error import SoonerError
from sooner.execute.shards import is_sharded
from sooner.foundation import snapshots
from sooner.foundation.layout import Layout
from sooner.foundation.unwrap import unwrapped
from sooner.objective import Objective
from sooner.part import Part

log = logging.getLogger(__name__)

Kind = TypeVar("Kind", bound=Part)


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
        self.outer: Outer | None = None
        self._model, self._look = model, look_every_step
        self._watch = Watch(model, self.optimizers)
        self.parameters = {n: p for n, p in self._watch.named.items() if p.requires_grad}
        refusal = ""
        try:
            self._prepare()
        except SoonerError as error:
            refusal = str(error)
        agree(self.wire, describe(model, parts), refusal)
        self._say(parts, steps)
        self.steps = 0
        self.rounds = 0
        self.finished = False
        self._unused: set[int] = set()  # numbers of the optimizers that have not stepped by the last average yet
        self._added = False  # whether a backward pass has added to the gradients since
        self._handles: list[RemovableHandle] = []
        self._ears: list[RemovableHandle] = []
        self._rests: list[nn.Parameter] = []
        self._state: Buffers = {}
        self._slow: Tensor | None = None
        self._local: LocalSteps | None = None
        start_together((*model.parameters(), *model.buffers()), self.wire, self._device)
        self._attach()

    def _prepare(self) -> None:
        """Make what needs no other rank, or refuse."""
        self.layout = Layout.of(self.parameters)
        _check(self._model, self._watch.named, self.parameters, self.optimizers)
        if averaging(self._model, self.wire):
            raise SoonerError(
                "the model is wrapped in DistributedDataParallel, which averages gradients itself, so that all would "
                "be sent twice; pass and train the module inside of it, or leave Communication out and give the "
                "wrapper a DDPBuckets"
            )
        if any(p.requires_grad for p in self._watch.strangers()):
            raise SoonerError(meeting.sentence(meeting.STRANGER))
        self.exchange = Exchange(self.layout, self.wire, only(self.parts, Codec), only(self.parts, Memory))
        self.outer, local = only(self.parts, Outer), only(self.parts, Local)
        if self.outer is None or self.outer.averages_gradients:
            self.exchange.memory.check(self.optimizers)
        if self.outer is not None:
            self.outer.check(self.exchange)
        if local is not None:
            if self.outer is None and local.needs_window:
                raise SoonerError(
                    f"{local.name()} needs workers that take steps of their own; add an outer part such as local_sgd"
                )
            LocalSteps(local, self.parameters, self.layout, self._weights)
        self._lay_out()

    def _lay_out(self) -> None:
        """Make what follows from the parameters that are communicated."""
        self._meeting = Meeting(self.wire, list(self._watch.named))
        places = {name: number for number, name in enumerate(self._watch.named)}
        self._numbers = [places[name] for name in self.parameters]
        self._gradients = Gradients(self.parameters, self.layout, self.exchange, self._look)

    @property
    def _device(self) -> torch.device:
        return next(iter(self.parameters.values())).device

    def _say(self, parts: Sequence[Part], steps: int | None) -> None:
        if self.wire.size == 1 and parts and not _said:
            _said.add("alone")
            names = " + ".join(part.name() for part in parts)
            log.warning("there is one worker only: %s is at work, but nothing is sent", names)
        if self.outer is not None and steps is not None and self.outer.every > steps and self.wire.rank == 0:
            log.warning(
                "%s: every=%d is more than the %d steps of the run, so that weights are averaged only at its end",
                self.outer.name(),
                self.outer.every,
                steps,
            )

    def _attach(self) -> None:
        self._wrappers = Wrappers(self.wire)
        self._hook()
        if self.outer is None:
            return
        self._rests = [self.parameters[n] for n in self._resting()]
        self._slow = self._weights()
        if (local := only(self.parts, Local)) is not None:
            self._local = LocalSteps(local, self.parameters, self.layout, self._weights)

    def _hook(self) -> None:
        """Be called around the optimizers' steps: before everybody else who looks at the gradients, clipping say."""
        self._handles = []
        for number, one in enumerate(self.optimizers):
            handle = one.register_step_pre_hook(functools.partial(self._before_step, number))
            hooks: Any = one._optimizer_step_pre_hooks  # an OrderedDict
            hooks.move_to_end(handle.id, last=False)
            self._handles.append(handle)
        if self.outer is not None:
            self._handles.append(self.optimizers[-1].register_step_post_hook(self._after_step))
        self._listen()

    def _listen(self) -> None:
        """Hear of backward passes, from the first and the last parameter of every optimizer."""
        for handle in self._ears:
            handle.remove()
        ours = set(map(id, self.parameters.values()))
        self._ears.clear()
        if not self.averages_gradients:
            return
        for one in self.optimizers:
            held = [p for g in one.param_groups for p in g["params"] if id(p) in ours and p.requires_grad]
            for p in {id(p): p for p in (*held[:1], *held[-1:])}.values():
                self._ears.append(p.register_post_accumulate_grad_hook(self._note_backward))

    def _note_backward(self, _: Tensor) -> None:
        self._added = True

    def _resting(self) -> list[str]:
        return [] if self.outer is None else sorted(self.outer.rests(self.layout, self.wire.rank, self.wire.size))

    def detach(self) -> None:
        """Take the hooks off: from now on nothing is exchanged."""
        for handle in (*self._handles, *self._ears):
            handle.remove()

    def __deepcopy__(self, memo: dict[int, Any]) -> Communication:
        """Return another one between the same processes, for the copies of model and optimizers.

        Copy them together, as in ``copy.deepcopy((model, optimizer, communication))``: PyTorch's optimizers lose their
        hooks when they are copied, and the copy of this puts its own on theirs.
        """
        made = object.__new__(type(self))
        memo[id(self)] = made
        left_out = ("_handles", "_ears", "_watch", "_wrappers", "_meeting", "_gradients", "_local")
        for name, value in vars(self).items():
            if name not in left_out:
                setattr(made, name, copy.deepcopy(value, memo))
        made._handles, made._ears, made._local = [], [], None
        made._watch = Watch(made._model, made.optimizers)
        made._wrappers = Wrappers(made.wire)
        made._lay_out()
        made._gradients.use(self._gradients.trained, self._gradients.present)
        made._unused = set()
        if self._local is not None:
            made._local = LocalSteps(self._local.local, made.parameters, made.layout, made._weights)
            made._local.state.update({name: value.clone() for name, value in self._local.state.items()})
        if not self.finished:
            made._hook()
        return made

    def _weights(self) -> Tensor:
        """Return the weights (d,) now, in a vector of their own."""
        first = next(iter(self.parameters.values()))
        flat = torch.empty(self.layout.size, dtype=wide(self.parameters), device=first.device)
        return self.layout.flatten({n: p.detach() for n, p in self.parameters.items()}, flat)

    def _write(self, flat: Tensor) -> None:
        places = self.layout.views(flat)
        snapshots.settle()
        torch._foreach_copy_([p.detach() for p in self.parameters.values()], list(places.values()))

    def _arrived(self) -> Tensor:
        """Return the weights (d,) at which this window has arrived, free of how those of its start were rounded."""
        assert self._slow is not None
        now = self._weights()
        if all(p.dtype == now.dtype for p in self.parameters.values()):
            return now
        begun = self.layout.views(self._slow)
        rounded = self.layout.flatten({n: begun[n].to(p.dtype) for n, p in self.parameters.items()}, now.clone())
        return self._slow + (now - rounded)

    @torch.no_grad()
    def _before_step(self, number: int, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)  # args[0] is the optimizer
        changed = self.averages_gradients or self._local is not None or self._rests
        if changed and closure is not None and not isinstance(closure, Objective):
            raise SoonerError(
                f"{type(optimizer).__name__}.step got a closure, which finds gradients after communication has had its "
                "part in them; call backward before step, and step without it"
            )
        if self.averages_gradients:
            if number not in self._unused or self._added:
                self._average()
            self._unused.discard(number)
        elif self.wire.size > 1 and (scaler := scaler_at_work()) is not None:
            raise SoonerError(
                f"{type(scaler).__name__} leaves out steps of one worker alone, whose windows would then end after "
                "other steps than those of the others; train in bfloat16 or float32, without a scaler"
            )
        if number:
            return
        if self.outer is not None:
            self._follow()
        for p in self._rests:
            p.grad = None
        if self._local is not None:
            assert self._slow is not None
            self._local.before(self._slow)

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
        if everyone and not self._added and self._gradients.untouched():
            return
        self._average()
        self._gradients.note()

    def _average(self) -> None:
        if self.wire.size > 1 and scaler_at_work() is not None:
            raise SoonerError(
                "the gradient scaler has looked for infinities in this worker's own gradients, so that it would leave "
                "out steps that others take; call communication.average_gradients() before scaler.unscale_ and "
                "scaler.step"
            )
        self._follow()
        wrong: tuple[int, int] | None = None
        if self._wrappers.averaged(self.parameters.values()):
            wrong = meeting.WRAPPED, 0
        elif any(p.grad is not None for p in self._watch.strangers()):  # what was replaced may stay without one
            wrong = meeting.STRANGER, 0
        self._gradients.average(self._meeting, wrong, self._numbers)
        self._unused = set(range(len(self.optimizers)))
        self._added = False
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
        before, layout, shapes = self.parameters, self.layout, self._watch.shapes
        now = named(self._model)
        # what is frozen stays, with a gradient of nobody, as it may come back; outer steps would move it
        kept = before if self.outer is None else {}
        parameters = {n: p for n, p in now.items() if p.requires_grad or n in kept}
        refusal = ""
        try:
            _check(self._model, now, parameters, self.optimizers)
            self._check_state(Layout.of(parameters))
        except SoonerError as error:
            refusal = str(error)
        agree(self.wire, describe(self._model, self.parts), refusal)
        self._watch.remember()
        self.parameters, self.layout = parameters, Layout.of(parameters)
        # those that are new may have begun differently, and nobody has made them equal yet
        new = [p for n, p in parameters.items() if shapes.get(n) != p.shape or n not in before]
        replaced = [p for n, p in parameters.items() if before.get(n, p) is not p]
        start_together([*new, *replaced] if self.averages_gradients else new, self.wire, self._device)
        self._take_along(layout)

    def _check_state(self, layout: Layout) -> None:
        """Refuse another layout where something is kept that fits no other than the one before."""
        if layout.shapes == self.layout.shapes:
            return
        pieces = [n for n, v in self._state.items() if v.numel() > 1 and v.shape[-1] != self.layout.size]
        if self.outer is not None and (pieces or self.exchange.flights.pieces()):
            raise SoonerError(
                f"{self.outer.name()} has divided the parameters that are trained into fragments, and these have "
                "changed; freeze, unfreeze or replace them before Communication is made"
            )

    def _take_along(self, before: Layout) -> None:
        """Bring everything that is kept into the present layout, and onto the device and into the type of now."""
        weights = self._weights()
        self.exchange.follow(self.layout, weights)
        trained = self._gradients.trained
        self._lay_out()
        self._gradients.use(None if trained is None else trained & self.parameters.keys())
        self._unused.clear()
        self._listen()
        if self.outer is None:
            return

        def moved(name: str, v: Tensor) -> Tensor:
            v = v.to(weights.device, weights.dtype)
            if v.shape[-1:] != (before.size,) or before.shapes == self.layout.shapes:
                return v
            return self.layout.taken_from(before, v, weights if name in {"slow", *self.outer.weights_kept} else None)  # type: ignore[union-attr]

        assert self._slow is not None
        self._slow = moved("slow", self._slow)
        self._state = {name: moved(name, v) for name, v in self._state.items()}
        self._rests = [self.parameters[n] for n in self._resting()]
        if self._local is not None:
            state = self._local.state
            self._local = LocalSteps(self._local.local, self.parameters, self.layout, self._weights)
            self._local.state.update({name: moved(name, v) for name, v in state.items()})

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
        self.steps += 1
        if self._local is not None:
            moved = self._local.after()
            if moved is not None:
                self._write(moved)
        if not self.outer.due(self.steps):
            return
        self.rounds += 1
        if self.outer.meets != "never":
            self._meeting.begin(meeting.OUTER)
        if self.outer.meets == "first":
            self._meeting.end()
        window = self._window()
        made = self.outer.step(window)
        if self._local is not None:
            self._local.next_window(window.slow, window.fast, made)
        self._slow = made
        self._write(made)

    def _window(self) -> Window:
        assert self.outer is not None
        assert self._slow is not None
        if not self._state:
            names = (*self.outer.slots, *self.outer.own_slots)
            self._state = {name: torch.zeros_like(self._slow) for name in names}
        return Window(self._slow, self._arrived(), self._state, self.exchange, self.rounds, self.steps)

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
        if self.outer is not None:
            self._slow = self.outer.finish(self._window())
            self._write(self._slow)
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
        kept = ([p.detach() for p in self.parameters.values()] if apart else []) + buffers
        before = [t.clone() for t in kept]
        counted = self.wire.traffic.state_dict()
        with torch.no_grad():
            if apart:
                self._write(self.wire.mean((self._weights(),))[0])
            if kept:
                average(buffers, self.wire)
        self.wire.traffic.load_state_dict(counted)
        try:
            yield self._model
        finally:
            with torch.no_grad():
                for t, own in zip(kept, before, strict=True):
                    t.copy_(own)

    def state_dict(self) -> dict[str, Any]:
        """Return what this rank must keep to go on bit for bit, beside model and optimizers; every rank has its own.

        What is under way is waited for first.
        """
        trained = self._gradients.trained
        return {
            "steps": self.steps,
            "rounds": self.rounds,
            "finished": self.finished,
            "outer": self._state,
            "slow": self._slow,
            "local": {} if self._local is None else self._local.state,
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
        slow = state["slow"]
        if (slow is None) != (self._slow is None) or (slow is not None and len(slow) != self.layout.size):
            theirs = "no outer part" if slow is None else f"an outer part over {len(slow)} weights"
            raise SoonerError(f"the state is of {theirs}; load it into the recipe and the model that saved it")
        saved = Layout(state.get("layout", self.layout.shapes))
        if saved.shapes != self.layout.shapes:
            pairs = [
                (n, saved.shapes.get(n), self.layout.shapes.get(n)) for n in {**saved.shapes, **self.layout.shapes}
            ]
            name, theirs_, ours_ = next(pair for pair in pairs if pair[1] != pair[2])
            raise SoonerError(
                f"the state is of another model: parameter {name} is {_told(theirs_)} there and {_told(ours_)} here; "
                "load it into the model that saved it, with the same parameters to train"
            )

        def placed(v: Tensor) -> Tensor:
            return self.layout.taken_from(saved, v) if v.shape[-1:] == (saved.size,) else v.clone()

        self.exchange.load_state_dict(state["exchange"], placed)
        self.steps, self.rounds, self.finished = state["steps"], state["rounds"], state["finished"]
        self._state = {name: placed(value) for name, value in state["outer"].items()}
        self._slow = None if slow is None else placed(slow)
        if self._local is not None:
            self._local.state.update({name: placed(value) for name, value in state["local"].items()})
        trained = state["trained"]
        present = state.get("present") if state.get("workers") == self.wire.size else None
        self._gradients.use(None if trained is None else frozenset(trained), present)
        self._unused.clear()


_said: set[str] = set()


def only(parts: Sequence[Part], kind: type[Kind]) -> Kind | None:
    """Return the part of this kind, None where there is none.

    Raises:
        SoonerError: there are several.
    """
    found = [part for part in parts if isinstance(part, kind)]
    if len(found) > 1:
        names = " and ".join(type(part).__name__ for part in found)
        raise SoonerError(f"{names} can't share one wire: both are a {kind.__name__.lower()}; keep one of them")
    return found[0] if found else None


def _told(shape: tuple[int, ...] | None) -> str:
    return "not trained" if shape is None else str(list(shape))


def _check(
    model: nn.Module,
    everything: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    optimizers: Sequence[Optimizer],
) -> None:
    """Refuse parameters that have no average, and optimizers that no average reaches."""
    if any(is_sharded(p) for p in everything.values()) or _in_fsdp(model):
        raise SoonerError(
            "the model is sharded (FSDP), so that no process has whole gradients to average; use FSDPReplicas on a "
            "model with fully_shard, or leave Communication out"
        )
    devices = {p.device for p in parameters.values()}
    if len(devices) > 1:
        raise SoonerError(
            f"the parameters are on {len(devices)} devices ({', '.join(map(str, devices))}); put the model on one"
        )
    if found := next((n for n, p in parameters.items() if not p.is_floating_point()), None):
        raise SoonerError(
            f"parameter {found} is {parameters[found].dtype}, and only real numbers are averaged; keep its real and "
            "imaginary parts as parameters, and make it of them in the model"
        )
    for one in optimizers:
        if not isinstance(one, Optimizer):
            raise SoonerError(f"{type(one).__name__} is no optimizer; pass those that move the model's weights")
        closure = inspect.signature(type(one).step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise SoonerError(
                f"{type(one).__name__} finds its gradients inside its own step, where no worker hears of them; "
                "use an optimizer that takes the gradients as they are"
            )


def _in_fsdp(model: nn.Module) -> bool:
    """Whether FSDP's first version wraps any of it (importing nothing: if one does, its module is loaded)."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and any(isinstance(m, fsdp.FullyShardedDataParallel) for m in model.modules())
