"""What the benchmarks time: our recipes under an executor and other packages' optimizers, behind one interface."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from _lists import with_gradients
from _peers import Peer
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner import part
from sooner.error import SoonerError
from sooner.execute import using
from sooner.objective import PROVIDED, Objective
from sooner.recipe import Recipe

REFERENCE = "torch AdamW (fused)"
CLIP = "clip_norm(max_norm=1.0)"


@dataclass(frozen=True)
class Stepper:
    """Optimizers of one model, and what takes one step of all of them."""

    step: Callable[[], object]
    optimizers: Sequence[Optimizer]

    def state_bytes(self) -> int:
        """Return the bytes of state, memory that several tensors share counted once."""
        stores = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in self._state(self.optimizers)}
        return sum(store.nbytes() for store in stores.values())

    def _state(self, held: Any) -> Iterator[Tensor]:
        if isinstance(held, Optimizer):
            yield from self._state(held.state)
        elif isinstance(held, Tensor):
            yield held
        elif isinstance(held, Mapping | list | tuple):  # heavyball nests mappings
            for value in held.values() if isinstance(held, Mapping) else held:
                yield from self._state(value)


@dataclass(frozen=True)
class Candidate:
    """Something to time.

    Attributes:
        name: as the tables print it.
        build: makes it for a model that has its gradients.
        kind: of a recipe of ours the largest grain in its chain, "element", "sum" or "tensor"; else "".
    """

    name: str
    build: Callable[[nn.Module], Stepper]
    kind: str = ""


def ours(text: str, executor: str, *, labelled: bool = False) -> Candidate:
    """Return a recipe that steps under one executor; the name says which if `labelled`.

    Raises:
        SoonerError: the recipe can't step on gradients alone.
    """

    def build(model: nn.Module) -> Stepper:
        training = Recipe(text).build(model, steps=1000, provides=PROVIDED)
        objective = Objective(model, _no_loss, [None])

        def step() -> None:
            with using(executor):
                training.step(objective)

        return Stepper(step, training.optimizers)

    return Candidate(f"{text} [{executor}]" if labelled else text, build, kind(text))


def theirs(peer: Peer) -> Candidate:
    """Return an optimizer of another package. heavyball takes the gradients away: they are put back after its step."""

    def build(model: nn.Module) -> Stepper:
        optimizer = peer.build(model)
        if peer.module != "heavyball":
            return Stepper(optimizer.step, [optimizer])
        gradients = [(p, p.grad) for p in model.parameters()]

        def step() -> None:
            optimizer.step()
            for p, gradient in gradients:
                p.grad = gradient

        return Stepper(step, [optimizer])

    return Candidate(peer.name, build)


def reference() -> Candidate:
    """Return what everything is compared with."""
    return theirs(
        Peer(REFERENCE, "torch", lambda torch, model: torch.optim.AdamW(model.parameters(), 1e-3, fused=True))
    )


def clipped_by_torch() -> Candidate:
    """Return torch's clipping before fused AdamW. It scales the gradients in place, by 1 from the second step on."""

    def build(model: nn.Module) -> Stepper:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

        def step() -> None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        return Stepper(step, [optimizer])

    return Candidate("clip_grad_norm_, then fused AdamW", build)


def kind(text: str) -> str:
    """Return the largest grain of a recipe's rules; "" for optimizers that are not ours.

    Raises:
        SoonerError: the recipe can't step on gradients alone.
    """
    model = with_gradients(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    training = Recipe(text).build(model, steps=1000, provides=PROVIDED)
    with using("eager"):
        training.step(Objective(model, _no_loss, [None]))
    optimizers = training.optimizers
    chains = [o.full_rule(group) for o in optimizers if hasattr(o, "full_rule") for group in o.param_groups]
    found = [rule.grain for one in chains for rule in one.rules]
    return max(found, key=("element", "sum", "tensor").index, default="")


def _no_loss(model: nn.Module, batch: None) -> Tensor:
    raise SoonerError("it evaluates the loss at every step")


def updates() -> list[str]:
    """Return every update part that works element by element, up to sums, and print which are left out and why.

    Parts that evaluate the loss every so many steps, as Sophia does, are timed between two such steps.
    """
    chosen = []
    for name in (name for name, station in part.names().items() if station == "update"):
        seldom = "every" in inspect.signature(part.load(name)).parameters
        text = f"{name}(every=1000000000)" if seldom else name
        try:
            grain = kind(text)
        except SoonerError as error:
            print(f"not timed: {name}: {error}")
            continue
        if grain == "tensor":
            print(f"not timed: {name}: it works on whole matrices (see muon_step.py); name it in --recipes")
        else:
            chosen.append(text)
    return chosen


def goal(list_name: str, candidate: Candidate, state: float) -> float:
    """Return the ratio to fused AdamW that we aim at, NaN where there is no aim.

    Args:
        list_name: key of `_lists.LISTS`.
        candidate: what is timed.
        state: its bytes of state per parameter; fused AdamW's step moves 28 bytes in all.
    """
    if list_name == "gpt2" and candidate.name.startswith(("adamp", "sgdp")):
        return 2.0
    if candidate.kind != "element" and not candidate.name.startswith("sgd_sai"):  # which adds up at its first step only
        return math.nan
    return {"gpt2": (12 + 2 * state) / 28, "small": 0.3}.get(list_name, math.nan)
