"""The workers of a simulated cluster: whose gradients and weights meet when, and where everyone goes on from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.cluster.data import Data
from sooner.cluster.misfits import refuse_misfits
from sooner.cluster.movers import Alike, Mover, mover_of
from sooner.cluster.slow_weights import SlowWeights
from sooner.communication._codec import Buffers, Codec
from sooner.communication._cohort import Cohort, Round
from sooner.communication._exchange import Exchange
from sooner.communication._local import Local, Place
from sooner.communication._memory import Memory
from sooner.communication._outer import Outer, Window
from sooner.communication._refusals import only
from sooner.communication._wire import Sim
from sooner.communication.full import Full
from sooner.error import SoonerError
from sooner.foundation.lanes import Lanes
from sooner.part import Part
from sooner.recipe import Recipe
from sooner.task import Task, derived_seed


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
        refuse_misfits(self.outer, self.local, self.cohort, steps, self.common)
        self.workers, self._planned = workers, steps
        self.data = Data(task, self.cohort, seed, workers, recipe, steps)
        self.model = recipe.prepare(task.model(derived_seed(seed, "init")).train(), derived_seed(seed, "surgery"))
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
        self._slow = SlowWeights(self.outer, self.cohort, self.exchange, self.lanes.start, workers, self.common)
        self._anchor = self._slow.now[None]  # [m, d]: the weights from which those that take part have started
        self._round: Round | None = None  # the one under way; None between two
        self._first = 0  # its first step
        self._end: Tensor | None = None  # [d], the outer part's last word
        self._mover = self._choose_mover(
            Recipe(*(s for s in recipe.slots if s.station not in ("data", "communication")))
        )

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
            if hasattr(part, "backward") or "backward" in getattr(part, "owns", ()):
                raise SoonerError(
                    f"{type(part).__name__} has backward to itself, which a simulated cluster runs for all workers at "
                    "once; leave it out"
                )
        if mover.trainings[0].saver is not None:
            raise SoonerError(
                "lazy_saver waits with the step of an optimizer, and a simulated cluster steps many models at once; "
                "leave it out, for checkpoints of a cluster are written at once"
            )
        self.lanes.around = mover.trainings[0].around_loss
        for training in mover.trainings:
            training.loss_elsewhere = True
        return mover

    def _zeros(self, names: tuple[str, ...]) -> Buffers:
        return {name: self.lanes.start.new_zeros(self.workers, self.lanes.layout.size) for name in names}

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers of the first worker, or of all where they step alike."""
        return self._mover.trainings[0].optimizers

    def current(self) -> Tensor:
        """Return the weights of the workers that take part, ``[m, d]``, or ``[d]`` where all are the same."""
        if self.common:
            return self._mover.weights[0]
        return self._slow.now if self._round is None else self._taking_part()

    def _taking_part(self) -> Tensor:
        if self._round is None or not self._slow.some or not self._mover.by_worker:
            return self._mover.weights
        return self._mover.weights[self._round.active]

    def evaluated(self, stack: ExitStack) -> tuple[Tensor, Tensor]:
        """Return the average weights to evaluate, ``[d]``, and those of the workers as `current` does.

        Args:
            stack: keeps the views open that choose weights for evaluation.
        """
        chosen = self._mover.trainings[0].shows_others
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
        weights = self._mover.weights[0] if self.common else self._slow.now
        now = self.data.next_round(self.rounds + 1, self._planned / asked, asked, self.lanes, weights)
        self._round, self._first = now, step
        if self.common:
            return
        self._anchor = self._slow.starts(now)
        if self._slow.some and self._mover.by_worker:
            self._mover.weights[now.active] = self._anchor
        else:
            self._mover.weights.copy_(self._anchor)
        self._with_local_state(now.active, lambda local, state: local.window_begins(self._slow.moved, state))

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
            window = self._window(now, fast, step + 1)
            self._go_on_from(self.outer.step(window), window, now)
        self._round = None

    def _window(self, now: Round | None, fast: Tensor, step: int) -> Window:
        weights = None if now is None or self.common else self.data.weights(now.active)
        return self._slow.window(now, fast, self._anchor, self.rounds, step, weights)

    def _go_on_from(self, made: Tensor, window: Window, now: Round) -> None:
        """Keep the outer part's state, and begin the next round at what it returned and the local part corrected."""
        self._slow.keep(window)
        made = self._slow.joined(made)
        if self.local is not None and not self.common:
            fast = window.fast
            self._with_local_state(now.active, lambda local, state: local.window_ended(self._anchor, fast, state))
            added = self.local.correction(self._local_state)
            made = made if added is None else made + added
        self._slow.go_on_from(made)
        if self.common:
            self._mover.weights.copy_(self._slow.now[None])

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
        slow = self._slow.state_dict()
        return {
            "trainings": [training.state_dict() for training in self._mover.trainings],
            "weights": self._mover.weights,
            "exchange": self.exchange.state_dict(),
            "buffers": {"local": self._local_state, "outer": slow["outer"]},
            "places": {"slow": slow["now"], "moved": slow["moved"], "anchor": self._anchor.clone()},
            "past": slow["past"],
            "numbers": {"drift": self.drift, "loss": self._loss, "lost": self.exchange.lost},
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
        self._local_state = state["buffers"]["local"]
        now, moved, self._anchor = state["places"].values()
        self._slow.load_state_dict(
            {"now": now, "moved": moved, "past": state["past"], "outer": state["buffers"]["outer"]}
        )
        self.drift, self._loss, self.exchange.lost = state["numbers"].values()
        self.data.open, self._end = state["open"], state.get("end")
        self._round = None if state["round"] is None else Round(**state["round"])
        self.worker_steps, self.rounds, self.seconds, self._first = state["counts"]
