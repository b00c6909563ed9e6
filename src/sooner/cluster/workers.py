"""The workers of a simulated cluster: whose gradients and weights meet when, and where everyone goes on from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from sooner.cluster.data import Data
from sooner.cluster.movers import Alike, Mover, mover_of
from sooner.communication._attached import only
from sooner.communication._codec import Buffers, Codec
from sooner.communication._cohort import Cohort, Round
from sooner.communication._exchange import Exchange
from sooner.communication._local import Local, Place
from sooner.communication._memory import Memory
from sooner.communication._outer import Outer, Window
from sooner.communication._wire import Sim
from sooner.communication.full import Full
from sooner.error import SoonerError
from sooner.foundation.lanes import Lanes
from sooner.part import Part
from sooner.recipe import Recipe
from sooner.task import Task, derived_seed

log = logging.getLogger(__name__)


class Cluster:
    """All workers of one run.

    Where gradients are averaged before every step, all workers have the same weights, and one optimizer moves them.
    With an outer part that averages weights, they go their own ways in between, see `cluster_movers`.

    Args:
        task: what to train.
        recipe: how to train it.
        seed: of the run.
        steps: optimizer steps planned.
        workers: how many there are.

    Attributes:
        model: shows weights for evaluation; the average model at the end.
        passes: gradients computed per step.
        worker_steps: optimizer steps that all workers have taken together.
        rounds: exchanges so far.
        seconds: on the simulated clock.
        drift: consensus distance just before the last outer step, 0-d.

    Raises:
        SoonerError: the recipe's parts do not go together, or not with this model.
    """

    def __init__(self, task: Task, recipe: Recipe, seed: int, steps: int, workers: int) -> None:
        parts: list[Part] = [s.factory(**s.settings) for s in recipe.slots if s.station == "communication"]
        self.outer, self.local, self.cohort = only(parts, Outer), only(parts, Local), only(parts, Cohort) or Full()
        self.common = self.outer is None or self.outer.averages_gradients
        _check(self.outer, self.local, self.cohort, steps, self.common)
        self.workers, self._planned = workers, steps
        self.data = Data(task, self.cohort, seed, workers)
        self.model = task.model(derived_seed(seed, "init")).train()
        self.lanes = Lanes(self.model, workers, task.loss)
        self.exchange = Exchange(self.lanes.layout, Sim(workers), only(parts, Codec), only(parts, Memory))
        self.passes = float(self.local.passes if self.local else 1)
        self.worker_steps = self.rounds = 0
        self.seconds = 0.0
        self.drift = self._loss = torch.zeros(())
        self._partial = self.cohort.uneven or self.cohort.count(workers) < workers
        self._local_state: Buffers = self._zeros(self.local.slots if self.local else ())
        self._local_state |= {
            name: self.lanes.start.new_zeros(workers, 1) for name in (self.local.numbers if self.local else ())
        }
        self._outer_state: Buffers = {}
        self._slow = self.lanes.start.clone()  # [d] or [n, d]: the weights from which the workers go on
        self._moved = torch.zeros_like(self._slow)  # how far that was from the ones before, [d]
        self._anchor = self._slow[None]  # [m, d]: the weights from which those that take part have started
        self._past = [self._slow]  # [d] each, newest last, for workers that start from old weights
        self._round: Round | None = None  # the one under way; None between two
        self._first = 0  # its first step
        self._end: Tensor | None = None  # [d], the outer part's last word
        self._mover = self._choose_mover(Recipe(*(s for s in recipe.slots if s.station != "communication")))

    def _choose_mover(self, recipe: Recipe) -> Mover:
        if self.outer is not None:
            self.outer.check(self.exchange)
        if self.common:
            model = self.model
            self.model = self.lanes.copy()  # what is shown is not what is trained
            mover: Mover = Alike(self.lanes, model, recipe, self._planned)
            self.exchange.memory.check(mover.trainings[0].optimizers)
        else:
            assert self.outer is not None
            resting = [self.outer.rests(self.lanes.layout, i, self.workers) for i in range(self.workers)]
            count = self.cohort.count(self.workers)
            mover = mover_of(self.lanes, recipe, self._planned, count, self._partial, resting)
        for part in mover.trainings[0].others:
            if hasattr(part, "backward"):
                raise SoonerError(
                    f"{type(part).__name__} finds gradients itself, which a simulated cluster does for all workers at "
                    "once; leave it out"
                )
        if mover.trainings[0].saver is not None:
            raise SoonerError(
                "lazy_saver waits with the step of an optimizer, and a simulated cluster steps many models at once; "
                "leave it out, for checkpoints of a cluster are written at once"
            )
        self.lanes.around = mover.trainings[0].around_loss
        return mover

    def _zeros(self, names: tuple[str, ...]) -> Buffers:
        return {name: self.lanes.start.new_zeros(self.workers, self.lanes.layout.size) for name in names}

    def current(self) -> Tensor:
        """Return the weights of the workers that take part, ``[m, d]``, or ``[d]`` where all are the same."""
        if self.common:
            return self._mover.weights[0]
        return self._slow if self._round is None else self._taking_part()

    def _taking_part(self) -> Tensor:
        if self._round is None or not self._partial or not self._mover.by_worker:
            return self._mover.weights
        return self._mover.weights[self._round.active]

    def evaluated(self, stack: ExitStack) -> tuple[Tensor, Tensor]:
        """Return the average weights to evaluate, ``[d]``, and those of the workers as `current` does.

        Args:
            stack: keeps the views open that choose weights for evaluation.
        """
        chosen = any(hasattr(part, "view") for part in self._mover.trainings[0].others)
        for training in self._mover.trainings:
            stack.enter_context(training.view())
        if not chosen:
            return self.average(), self.current()
        everyone = self.current() if self.common else self._mover.weights
        return everyone if everyone.ndim == 1 else everyone.mean(0), everyone

    def average(self) -> Tensor:
        """Return the average weights, ``[d]``; after `finish`, what the outer part makes of them."""
        if self._end is not None:
            return self._end
        now = self.current()
        return now if now.ndim == 1 else now.mean(0)

    def show(self, weights: Tensor) -> None:
        """Put weights ``[d]`` into `model`."""
        self.lanes.write(weights, self.model)

    @torch.no_grad()
    def step(self, step: int) -> Tensor:
        """Let every worker that is due take optimizer step number `step` (from 0), and return their mean loss, 0-d."""
        if self._round is None:
            self._begin_round(step)
        losses = self._common_step(step) if self.common else self._own_step(step)
        if len(losses):  # otherwise all have taken their steps and wait for the end of the round
            self._loss = losses.mean()
        if self.outer is None or self.outer.due(step + 1):
            self._end_round(step)
        return self._loss

    def _begin_round(self, step: int) -> None:
        asked = (self.outer.every or self._planned) if self.outer else 1
        weights = self._mover.weights[0] if self.common else self._slow
        now = self.data.next_round(self.rounds + 1, self._planned / asked, asked, self.lanes, weights)
        self._round, self._first = now, step
        if self.common:
            return
        if self.cohort.oldest:
            ages = now.staleness.clamp(max=len(self._past) - 1)
            self._anchor = torch.stack([self._past[-1 - int(age)] for age in ages])
        else:
            self._anchor = self._slow.expand(len(now.active), -1)
        if self._partial and self._mover.by_worker:
            self._mover.weights[now.active] = self._anchor
        else:
            self._mover.weights.copy_(self._anchor)
        self._with_local_state(now.active, lambda local, state: local.window_begins(self._moved, state))

    def _common_step(self, step: int) -> Tensor:
        assert self._round is not None
        active, weights = self._round.active, self._mover.weights[0]
        batches = self.data.batches(active, step)
        losses, gradients = self.lanes(weights, batches)
        tokens = self.lanes.counts
        if self.local is not None:
            place = Place(weights, weights, gradients, lambda there: self.lanes(there, batches)[1], {})
            gradients = self.local.direction(place)
        counts = self.data.weights(active)
        if counts is None and tokens is not None:
            counts = tokens / tokens.sum().clamp(min=torch.finfo(tokens.dtype).tiny)
            losses = losses * (len(active) * counts).to(losses)
        if counts is not None:
            gradients = gradients * (len(active) * counts).to(gradients)[:, None]
        update = self.exchange(gradients, active if self._partial else None)
        self._mover.move(slice(None), update[None])
        self.worker_steps += len(active)
        return losses

    def _own_step(self, step: int) -> Tensor:
        now = self._round
        assert now is not None
        going = torch.arange(len(now.active))  # places among those that take part
        if self.cohort.uneven:
            going = going[now.steps > step - self._first]
        if len(going) == 0:
            return self.lanes.start.new_empty(0)
        workers = now.active[going]
        rows = workers if self._mover.by_worker else going
        moved: Tensor | slice = slice(None) if len(rows) == len(self._mover.weights) else rows
        weights = self._mover.weights[moved]
        batches = self.data.batches(workers, step)
        losses, gradients = self.lanes(weights, batches)
        state: Buffers = {}
        place = Place(weights, self._anchor[going], gradients, lambda there: self.lanes(there, batches)[1], state)
        scales = self.local is not None and type(self.local).step is not Local.step
        before = weights.clone() if scales else weights
        if self.local is not None:
            state |= {name: value[workers] for name, value in self._local_state.items()}
            gradients = self.local.direction(place)
        self._mover.move(moved, gradients)
        if scales and self.local is not None:
            place.weights = before
            self._mover.weights[moved] = before + self.local.step(self._mover.weights[moved] - before, place)
        for name, value in state.items():
            self._local_state[name][workers] = value
        self.worker_steps += len(workers)
        return losses

    def _end_round(self, step: int) -> None:
        now = self._round
        assert now is not None
        self.rounds += 1
        # rounds end early where an outer part does something in between
        self.seconds += now.seconds * (1.0 if self.cohort.uneven else (step + 1 - self._first) / int(now.steps[0]))
        if self.outer is not None:
            fast = self._mover.weights[0] if self.common else self._taking_part()
            if not self.common:
                self.drift = (fast - fast.mean(0)).square().sum(1).mean()
            self._go_on_from(self.outer.step(self._window(now, fast, step + 1)), fast, now)
        self._round = None

    def _window(self, now: Round | None, fast: Tensor, step: int) -> Window:
        assert self.outer is not None
        if not self._outer_state and self.common:
            names = (*self.outer.slots, *self.outer.own_slots)
            self._outer_state = {name: torch.zeros_like(fast) for name in names}
        elif not self._outer_state:
            self._outer_state = self._zeros(self.outer.own_slots)
            self._outer_state |= {name: torch.zeros_like(fast[0]) for name in self.outer.slots}
        # where all workers have the same weights, the rule's vectors are no worker's own
        active = now.active if now is not None and self._partial and not self.common else None
        state = dict(self._outer_state)
        if active is not None:
            state |= {name: state[name][active] for name in self.outer.own_slots}
        slow = self._slow if self.common or self._partial or fast.ndim == 1 else self._slow.expand_as(fast)
        weights = None if now is None or self.common else self.data.weights(now.active)
        weights = None if weights is None else weights.to(fast)
        window = Window(slow, fast, state, self.exchange, self.rounds, step, weights, active)
        window.started = self._anchor if self.cohort.oldest else None
        window.taken = now.steps if now is not None and self.cohort.uneven else None
        self._written = state
        return window

    def _go_on_from(self, made: Tensor, fast: Tensor, now: Round) -> None:
        """Keep the outer part's state, and begin the next round at what it returned and the local part corrected."""
        assert self.outer is not None
        for name, value in self._written.items():
            if self._partial and not self.common and name in self.outer.own_slots:
                self._outer_state[name][now.active] = value
            else:
                self._outer_state[name] = value
        if made.ndim == 2 and bool((made == made[:1]).all()):
            made = made[0]
        if made.ndim == 2 and self._partial:
            raise SoonerError(
                f"{self.outer.name()} moves every worker's own weights, so all of them have to take part in every "
                f"round; leave {self.cohort.name()} out"
            )
        if self.local is not None and not self.common:
            self._with_local_state(now.active, lambda local, state: local.window_ended(self._anchor, fast, state))
            added = self.local.correction(self._local_state)
            made = made if added is None else made + added
        before, self._slow = self._slow, made.clone()
        moved = self._slow - before
        self._moved = moved if moved.ndim == 1 else moved.mean(0)
        if self.common:
            self._mover.weights.copy_(self._slow[None])
        if self.cohort.oldest:
            self._past = [*self._past, self._slow][-1 - self.cohort.oldest :]

    def _with_local_state(self, workers: Tensor, act: Callable[[Local, Buffers], None]) -> None:
        if self.local is not None:
            state = {name: value[workers] for name, value in self._local_state.items()}
            act(self.local, state)
            for name, value in state.items():
                self._local_state[name][workers] = value

    @torch.no_grad()
    def finish(self, step: int) -> None:
        """Hear the outer part's last word on the weights of a run that ends after `step` steps; it counts no bytes."""
        if self.outer is None or self._end is not None:
            return
        counts = self.exchange.wire.traffic.state_dict()
        fast = self.current()
        if fast.ndim == 1 and not self.common:
            fast = fast.expand(self.cohort.count(self.workers), -1)
        self._end = self.outer.finish(self._window(self._round, fast, step))
        self.exchange.wire.traffic.load_state_dict(counts)

    def state_bytes(self) -> int:
        """Return the bytes of optimizer state of one worker."""
        return sum(t.state_bytes() for t in self._mover.trainings) // len(self._mover.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the shown model that is needed to go on bit for bit."""
        return {
            "trainings": [training.state_dict() for training in self._mover.trainings],
            "weights": self._mover.weights,
            "exchange": self.exchange.state_dict(),
            "buffers": {"local": self._local_state, "outer": self._outer_state},
            "places": {"slow": self._slow, "moved": self._moved, "anchor": self._anchor.clone()},
            "numbers": {"drift": self.drift, "loss": self._loss, "lost": self.exchange.lost},
            "past": self._past,
            "end": self._end,  # what made it may be used up: the average under way of co2 lands once
            "round": None if self._round is None else asdict(self._round),
            "open": self.data.open,
            "counts": [self.worker_steps, self.rounds, self.seconds, self._first],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned in a run with the same arguments."""
        for training, one in zip(self._mover.trainings, state["trainings"], strict=True):
            training.load_state_dict(one)
        self._mover.weights.copy_(state["weights"])
        self.exchange.load_state_dict(state["exchange"])
        self._local_state, self._outer_state = state["buffers"]["local"], state["buffers"]["outer"]
        self._slow, self._moved, self._anchor = state["places"].values()
        self.drift, self._loss, self.exchange.lost = state["numbers"].values()
        self._past, self.data.open, self._end = state["past"], state["open"], state.get("end")
        self._round = None if state["round"] is None else Round(**state["round"])
        self.worker_steps, self.rounds, self.seconds, self._first = state["counts"]


def _check(outer: Outer | None, local: Local | None, cohort: Cohort, steps: int, common: bool) -> None:
    if common and local is not None and local.needs_window:
        raise SoonerError(
            f"{local.name()} needs workers that take steps of their own; add an outer part such as local_sgd"
        )
    if common and cohort.uneven:
        raise SoonerError(
            f"{cohort.name()} lets workers take their own number of steps; add an outer part such as afa_cd"
        )
    if outer is not None and cohort.oldest and not outer.takes_stale:
        raise SoonerError(
            f"{cohort.name()} lets workers start from old weights, which {outer.name()} can't use; use afa_cd or "
            "afa_cs, or set oldest=0"
        )
    if outer is not None and outer.every > steps:
        log.warning(
            "%s: every=%d is more than the %d steps of the run, so that weights are averaged only at its end",
            outer.name(),
            outer.every,
            steps,
        )
