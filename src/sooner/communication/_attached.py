"""The parts of the communication station attached to optimizers: exchanges before steps, outer steps after them."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner.communication._agree import agree, describe
from sooner.communication._buffers import average, averageable, start_together
from sooner.communication._codec import Buffers, Codec
from sooner.communication._exchange import Exchange
from sooner.communication._gradients import Gradients, wide
from sooner.communication._group import Group
from sooner.communication._local import Local
from sooner.communication._local_steps import LocalSteps
from sooner.communication._memory import Memory
from sooner.communication._outer import Outer, Window
from sooner.communication._wire import Wire
from sooner.error import SoonerError
from sooner.layout import Layout
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

    Buffers such as the running statistics of BatchNorm stay each worker's own while training goes on, which does not
    look at them; they are averaged for evaluation (`view`) and at the end (`finish`). Counters stay as they are.

    Args:
        model: the model; only parameters that require gradients are communicated.
        optimizers: those that move its weights; they are stepped in this order.
        parts: a codec, a memory, an outer part, a local part, each at most once; none means dense averaging.
        wire: connects the workers; None for the default process group.
        steps: how many optimizer steps are planned, if that is known.
        look_every_step: ask at every step which parameters have a gradient on any worker. Otherwise the first step
            decides: those without one anywhere are left alone from then on.

    Raises:
        SoonerError: on all ranks: parts that do not go together, parameters on several devices, workers that disagree.
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
        self.optimizers = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
        self.wire = wire or Group()
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.outer: Outer | None = None
        refusal = ""
        try:
            self._prepare(parts, look_every_step)
        except SoonerError as error:
            refusal = str(error)
        agree(self.wire, describe(model, parts), refusal)
        self._say(parts, steps)
        self.steps = 0
        self.rounds = 0
        self.finished = False
        self._averaged = False
        self._state: Buffers = {}
        self._slow: Tensor | None = None
        self._local: LocalSteps | None = None
        self._averageable = averageable(model)
        self._model = model
        start_together(model, self.wire, next(iter(self.parameters.values())).device)
        self._attach(only(parts, Local))

    def _prepare(self, parts: Sequence[Part], look_every_step: bool) -> None:
        """Make what needs no other rank, or refuse."""
        self.layout = Layout.of(self.parameters)
        _check(self.parameters, self.optimizers)
        self.exchange = Exchange(self.layout, self.wire, only(parts, Codec), only(parts, Memory))
        self.outer, local = only(parts, Outer), only(parts, Local)
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
        self._gradients = Gradients(self.parameters, self.layout, self.exchange, look_every_step)

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

    def _attach(self, local: Local | None) -> None:
        first, last = self.optimizers[0], self.optimizers[-1]
        self._rests = [self.parameters[n] for n in self._resting()]
        self._handles = [first.register_step_pre_hook(self._before_step)]
        if self.outer is None:
            return
        self._slow = self._weights()
        self._handles.append(last.register_step_post_hook(self._after_step))
        if local is not None:
            self._local = LocalSteps(local, self.parameters, self.layout, self._weights)

    def _resting(self) -> list[str]:
        return [] if self.outer is None else sorted(self.outer.rests(self.layout, self.wire.rank, self.wire.size))

    def detach(self) -> None:
        """Take the hooks off: from now on nothing is exchanged."""
        for handle in self._handles:
            handle.remove()

    def _weights(self) -> Tensor:
        """Return the weights (d,) now, in a vector of their own."""
        first = next(iter(self.parameters.values()))
        flat = torch.empty(self.layout.size, dtype=wide(self.parameters), device=first.device)
        return self.layout.flatten({n: p.detach() for n, p in self.parameters.items()}, flat)

    def _write(self, flat: Tensor) -> None:
        places = self.layout.views(flat)
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
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)  # args[0] is the optimizer
        changed = self.averages_gradients or self._local is not None or self._rests
        if changed and closure is not None and not isinstance(closure, Objective):
            raise SoonerError(
                f"{type(optimizer).__name__}.step got a closure, which finds gradients after communication has had its "
                "part in them; call backward before step, and step without it"
            )
        if self.averages_gradients:
            self.average_gradients()
            self._averaged = False
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
        """Average now what the coming step would average, for whoever looks at the gradients first; once per step."""
        if self._averaged or not self.averages_gradients:
            return
        self._averaged = True
        if self.outer is None:
            self.steps += 1
        self._gradients.average()

    def skip_step(self) -> None:
        """Note that the step is not taken for which gradients were averaged, so that the next ones are averaged too."""
        self._averaged = False

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
        self.finished = True
        self.detach()
        if self.outer is not None:
            self._slow = self.outer.finish(self._window())
            self._write(self._slow)
        average(self._averageable, self.wire)

    @contextlib.contextmanager
    def view(self) -> Iterator[nn.Module]:
        """Inside, the model holds the average of the workers' weights and buffers; afterwards each has its own back.

        All ranks enter it together. It is not counted as traffic of the training.
        """
        apart = not self.averages_gradients and self.wire.size > 1 and not self.finished
        kept = [p.detach() for p in self.parameters.values()] if apart else []
        kept += self._averageable if self.wire.size > 1 and not self.finished else []
        before = [t.clone() for t in kept]
        counted = self.wire.traffic.state_dict()
        with torch.no_grad():
            if apart:
                self._write(self.wire.mean((self._weights(),))[0])
            if kept:
                average(self._averageable, self.wire)
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
            "exchange": self.exchange.state_dict(),
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
        self.exchange.load_state_dict(state["exchange"])
        self.steps, self.rounds, self.finished = state["steps"], state["rounds"], state["finished"]
        self._state = {name: value.clone() for name, value in state["outer"].items()}
        self._slow = None if slow is None else slow.clone()
        if self._local is not None:
            self._local.state.update({name: value.clone() for name, value in state["local"].items()})
        self._gradients.use(None if state["trained"] is None else frozenset(state["trained"]))


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


def _check(parameters: Mapping[str, Tensor], optimizers: Sequence[Optimizer]) -> None:
    devices = {p.device for p in parameters.values()}
    if len(devices) > 1:
        raise SoonerError(
            f"the parameters are on {len(devices)} devices ({', '.join(map(str, devices))}); put the model on one"
        )
    for one in optimizers:
        closure = inspect.signature(type(one).step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise SoonerError(
                f"{type(one).__name__} finds its gradients inside its own step, where no worker hears of them; "
                "use an optimizer that takes the gradients as they are"
            )
