"""The parts of the communication station attached to optimizers: exchanges before steps, outer steps after them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner.communication._codec import Buffers, Codec
from sooner.communication._exchange import Exchange
from sooner.communication._group import Group
from sooner.communication._memory import Memory
from sooner.communication._outer import Outer, Window
from sooner.communication._wire import Wire
from sooner.error import SoonerError
from sooner.layout import Layout
from sooner.part import Part

Kind = TypeVar("Kind", bound=Part)


class Communication:
    """Lets the workers of a process group train one model; afterwards the optimizers' own steps are enough.

    Without an outer part the gradients are averaged before every step, and ``p.grad`` holds the average afterwards, as
    with DistributedDataParallel. With one, workers step on their own and the outer part moves the weights every so many
    steps. The model needs no wrapper. Its weights are made equal to those of rank 0 here.

    Args:
        model: the model; only parameters that require gradients are communicated.
        optimizers: those that move its weights; they are stepped in this order.
        parts: a codec, a memory, an outer part, each at most once; none means dense averaging.
        wire: connects the workers; None for the default process group.

    Raises:
        SoonerError: parts that do not go together, parameters on several devices, workers that disagree.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Optimizer | Sequence[Optimizer],
        parts: Sequence[Part] = (),
        wire: Wire | None = None,
    ) -> None:
        self.optimizers = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
        self.wire = wire or Group()
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        _check(self.parameters, self.optimizers)
        self.layout = Layout.of(self.parameters)
        self.outer = only(parts, Outer)
        self.exchange = Exchange(self.layout, self.wire, only(parts, Codec), only(parts, Memory))
        self.steps = 0
        self.rounds = 0
        self._averaged = False
        self._state: Buffers = {}
        self._slow: Tensor | None = None
        self._flat: Tensor | None = None
        self._start_together(model)
        if self.outer is None:
            self.exchange.memory.check(self.optimizers)
            self._handle = self.optimizers[0].register_step_pre_hook(self._before_step)
        else:
            self._slow = self._weights().clone()
            self._handle = self.optimizers[-1].register_step_post_hook(self._after_step)

    def detach(self) -> None:
        """Take the hook off: from now on nothing is exchanged."""
        self._handle.remove()

    @torch.no_grad()
    def _start_together(self, model: nn.Module) -> None:
        if self.wire.size > 1 and isinstance(self.wire, Group):
            for tensor in (*model.parameters(), *model.buffers()):
                torch.distributed.broadcast(tensor.detach(), group=self.wire.group, group_src=0)

    def _buffer(self) -> Tensor:
        if self._flat is None:
            first = next(iter(self.parameters.values()))
            dtype = torch.promote_types(first.dtype, torch.float32)
            self._flat = torch.zeros(self.layout.size, dtype=dtype, device=first.device)
        return self._flat

    def _weights(self) -> Tensor:
        return self.layout.flatten({n: p.detach() for n, p in self.parameters.items()}, self._buffer())

    def _before_step(self, *_: Any) -> None:
        self.average_gradients()
        self._averaged = False

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Average now what the coming step would average, for whoever looks at the gradients first; once per step."""
        if self._averaged or self.outer is not None:
            return
        self._averaged = True
        flat = self._buffer()
        places = self.layout.views(flat)
        missing = [places[n] for n, p in self.parameters.items() if p.grad is None]
        if missing:
            torch._foreach_zero_(missing)
        have = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        torch._foreach_copy_([places[n] for n in have], list(have.values()))
        self.steps += 1
        found = self.layout.views(self.exchange(flat))
        torch._foreach_copy_(list(have.values()), [found[n] for n in have])
        for name, p in self.parameters.items():
            if p.grad is None:
                p.grad = found[name].to(p.dtype).clone()

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        assert self.outer is not None
        assert self._slow is not None
        self.steps += 1
        if not self.outer.due(self.steps):
            return
        self.rounds += 1
        fast = self._weights()
        if not self._state:
            names = (*self.outer.slots, *self.outer.own_slots)
            self._state = {name: torch.zeros_like(fast) for name in names}
        window = Window(self._slow, fast, self._state, self.exchange, self.rounds, self.steps)
        self._slow = self.outer.step(window).clone()
        places = self.layout.views(self._slow)
        torch._foreach_copy_([p.detach() for p in self.parameters.values()], list(places.values()))

    def state_dict(self) -> dict[str, Any]:
        """Return what this rank must keep to go on bit for bit, beside model and optimizers; every rank has its own."""
        return {
            "steps": self.steps,
            "rounds": self.rounds,
            "outer": self._state,
            "slow": self._slow,
            "exchange": self.exchange.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned on the same rank.

        Raises:
            SoonerError: the state belongs to another model or other parts.
        """
        self.exchange.load_state_dict(state["exchange"])
        self.steps, self.rounds = state["steps"], state["rounds"]
        self._state = {name: value.clone() for name, value in state["outer"].items()}
        self._slow = None if state["slow"] is None else state["slow"].clone()


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
