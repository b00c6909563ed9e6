"""The workers of a simulated cluster: whose gradients and weights meet when, and which optimizer moves whom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from sooner.communication._attached import only
from sooner.communication._codec import Buffers, Codec
from sooner.communication._cohort import Cohort, Round
from sooner.communication._exchange import Exchange
from sooner.communication._local import Local, Place
from sooner.communication._memory import Memory
from sooner.communication._outer import Outer, Window
from sooner.communication._wire import Sim, Traffic
from sooner.communication.full import Full
from sooner.error import SoonerError
from sooner.lanes import Lanes, Stacked, elementwise, remembers
from sooner.part import Part
from sooner.recipe import Recipe
from sooner.task import Task, derived_seed, worker_batches
from sooner.training import Training


class Cluster:
    """All workers of one run.

    Without an outer part all have the same weights, which one optimizer moves along the averaged gradient. With one,
    they go their own ways in between: one optimizer moves all of them as one parameter where its rule looks at single
    numbers only, and every worker has its own optimizer otherwise.

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
        base = Recipe(*(s for s in recipe.slots if s.station != "communication"))
        self.outer, self.local = only(parts, Outer), only(parts, Local)
        self.cohort = only(parts, Cohort) or Full()
        self.workers, self._planned, self.seed = workers, steps, derived_seed(seed, "cohort")
        _check(self.outer, self.local, self.cohort, steps)
        self.batches = [worker_batches(task, seed, worker, workers) for worker in range(workers)]
        self.model = task.model(derived_seed(seed, "init")).train()
        self.lanes = Lanes(self.model, workers, task.loss)
        self.exchange = Exchange(self.lanes.layout, Sim(workers), only(parts, Codec), only(parts, Memory))
        self.passes = float(self.local.passes if self.local else 1)
        self.worker_steps = self.rounds = 0
        self.seconds = 0.0
        self.drift = torch.zeros(())
        self._partial = self.cohort.uneven or self.cohort.count(workers) < workers
        self._local_state: Buffers = {
            slot: self.lanes.start.new_zeros(workers, self.lanes.layout.size)
            for slot in (self.local.slots if self.local else ())
        }
        self._outer_state: Buffers = {}
        self._slow = self.lanes.start.clone()  # [d] or [n, d]: the weights from which the workers go on
        self._anchor = self._slow  # [m, d]: the weights from which each of those that take part started
        self._past = [self._slow]  # [d] each, newest last, for workers that start from old weights
        self._round: Round | None = None  # the one under way; None between two
        self._first = 0  # its first step
        self._build(base, steps, task)

    def _build(self, recipe: Recipe, steps: int, task: Task) -> None:
        """Choose how the weights are moved, and make the parts that do it."""
        self._stacked = None if self.outer is None else self._together(recipe, steps, task)
        if self._stacked is not None:
            self.trainings = [self._stacked]
        elif self.outer is None:
            self.trainings = [recipe.build(self.model, steps)]
            self.exchange.memory.check(self.trainings[0].optimizers)
        else:
            self.trainings = [recipe.build(replica, steps) for replica in self.lanes.replicas()]
        for part in self.trainings[0].others:
            if hasattr(part, "backward"):
                raise SoonerError(
                    f"{type(part).__name__} finds gradients itself, which a simulated cluster does for all workers at "
                    "once; leave it out"
                )
        self.lanes.around = self.trainings[0].around_loss
        self._trained = {n: p for n, p in self.model.named_parameters() if n in self.lanes.layout.shapes}

    def _together(self, recipe: Recipe, steps: int, task: Task) -> Training | None:
        """Return the recipe at work on all workers as one parameter; None where it must see each of them apart."""
        count = self.cohort.count(self.workers)
        plain = [s for s in recipe.slots if s.station in ("update", "schedule", "loss")]
        if len(plain) < len(recipe.slots) or any(s.on for s in recipe.slots):
            return None
        lanes = Lanes(self.model, count, task.loss)
        try:
            training = recipe.build(Stacked(lanes.weights), steps)
        except SoonerError:  # such as a rule for matrices; what is wrong with the recipe itself is said there again
            return None
        alike = len(training.optimizers) == 1 and elementwise(training.optimizers[0])
        if not alike or (self._partial and remembers(training.optimizers[0])):
            return None
        self.lanes = lanes
        return training

    @property
    def traffic(self) -> Traffic:
        """What a worker that takes part in every round has sent so far."""
        return self.exchange.wire.traffic

    @property
    def lost(self) -> Tensor | None:
        """Share of the last vector that was not sent."""
        return self.exchange.lost

    def current(self) -> Tensor:
        """Return the weights of the workers that take part, ``[m, d]``, or ``[d]`` where all are the same."""
        if self.outer is None:
            return self.lanes.layout.flatten({name: p.detach() for name, p in self._trained.items()})
        return self._slow if self._round is None else self._own(self.lanes.weights)

    def evaluated(self, stack: ExitStack) -> Tensor:
        """Return the weights to evaluate, as `current` does; `stack` keeps the views open that choose them."""
        averaging = any(hasattr(part, "view") for part in self.trainings[0].others)
        for training in self.trainings:
            stack.enter_context(training.view())
        return self.lanes.weights if averaging and self.outer is not None else self.current()

    def show(self, weights: Tensor) -> None:
        """Put weights ``[d]``, or the mean of ``[m, d]``, into `model`."""
        self.lanes.write(weights if weights.ndim == 1 else weights.mean(0), self.model)

    @torch.no_grad()
    def step(self, step: int) -> Tensor:
        """Let every worker that is due take optimizer step number `step` (from 0), and return their mean loss, 0-d."""
        return self._common_step(step) if self.outer is None else self._own_step(self.outer, step)

    def _common_step(self, step: int) -> Tensor:
        now = self.cohort.round(step + 1, self.workers, 1, self.seed)
        training, weights = self.trainings[0], self.current()
        losses, gradients = self._gradients(weights, now.active, step, weights, {})
        update = self.exchange(gradients, now.active if self._partial else None)
        for name, place in self.lanes.layout.views(update).items():
            self._trained[name].grad = place
        training.step()
        training.zero_grad()
        self._count(now, now.steps)
        return losses.mean()

    def _own_step(self, outer: Outer, step: int) -> Tensor:
        if self._round is None:
            self._begin_round(outer, step)
        now = self._round
        assert now is not None
        going = torch.arange(len(now.active))  # places among those that take part
        if self.cohort.uneven:
            going = going[now.steps > step - self._first]
        everyone = len(going) == len(now.active)
        places = going if self._stacked is not None else now.active[going]  # their rows of the lanes
        rows = slice(None) if everyone and len(places) == len(self.lanes.weights) else places
        weights, anchor = self.lanes.weights[rows], self._anchor if everyone else self._anchor[going]
        state = {name: value[now.active[going]] for name, value in self._local_state.items()}
        losses, gradients = self._gradients(weights, now.active[going], step, anchor, state)
        if self._stacked is not None:
            self._move_together(self._stacked, gradients, rows)
        else:
            self._move_each(gradients, places.tolist())
        self._count(None, now.steps[going] * 0 + 1)
        if outer.due(step + 1):
            self._end_round(outer, now, step)
        return losses.mean()

    def _begin_round(self, outer: Outer, step: int) -> None:
        now = self._next_round(outer)
        if self.cohort.oldest:
            ages = now.staleness.clamp(max=len(self._past) - 1)
            self._anchor = torch.stack([self._past[-1 - int(age)] for age in ages])
        else:
            self._anchor = self._slow.expand(len(now.active), -1)
        if self._stacked is not None or not self._partial:
            self.lanes.weights.copy_(self._anchor)
        else:
            self.lanes.weights[now.active] = self._anchor
        self._round, self._first = now, step

    def _next_round(self, outer: Outer) -> Round:
        return self.cohort.round(self.rounds + 1, self.workers, outer.every or self._planned, self.seed)

    def _end_round(self, outer: Outer, now: Round, step: int) -> None:
        fast = self._own(self.lanes.weights)
        center = fast.mean(0)
        self.drift = (fast - center).square().sum(1).mean()
        active = now.active if self._partial else None
        if not self._outer_state:
            like = self._slow.new_zeros(self.lanes.layout.size)
            self._outer_state = {slot: torch.zeros_like(like) for slot in outer.slots}
            self._outer_state |= {slot: like.repeat(self.workers, 1) for slot in outer.own_slots}
        own = {k: v[active] if active is not None and k in outer.own_slots else v for k, v in self._outer_state.items()}
        slow = self._slow if self._partial else self._anchor
        self.rounds += 1
        window = Window(slow, fast, own, self.exchange, self.rounds, step + 1, None, active)
        window.started = self._anchor if self.cohort.oldest else None
        window.taken = now.steps if self.cohort.uneven else None
        made = outer.step(window)
        for name, value in own.items():
            if active is not None and name in outer.own_slots:
                self._outer_state[name][active] = value
            else:
                self._outer_state[name] = value
        if made.ndim == 2 and bool((made == made[:1]).all()):
            made = made[0]
        if made.ndim == 2 and self._partial:
            raise SoonerError(
                f"{type(outer).__name__} moves every worker's own weights, so all have to take part; leave out "
                f"{type(self.cohort).__name__.lower()}"
            )
        self._slow = (made + self._corrected(fast, now)).clone()
        if self.cohort.oldest:
            self._past = [*self._past, self._slow][-1 - self.cohort.oldest :]
        self.seconds += now.seconds
        self._round = None

    def _corrected(self, fast: Tensor, now: Round) -> Tensor | float:
        """Tell the local part that the window has ended, and return what it adds to the weights."""
        if self.local is None:
            return 0.0
        state = {name: value[now.active] for name, value in self._local_state.items()}
        self.local.window_ended(self._anchor, fast, state)
        for name, value in state.items():
            self._local_state[name][now.active] = value
        added = self.local.correction(self._local_state)
        return 0.0 if added is None else added

    def _gradients(
        self, weights: Tensor, workers: Tensor, step: int, anchor: Tensor, state: Buffers
    ) -> tuple[Tensor, Tensor]:
        """Return the losses ``[m]`` of these workers and what their optimizers get, ``[m, d]``."""
        batches = [self.batches[worker][step] for worker in workers.tolist()]
        losses, gradients = self.lanes(weights, batches)
        if self.local is not None:
            place = Place(weights, anchor, gradients, lambda there: self.lanes(there, batches)[1], state)
            gradients = self.local.direction(place)
        return losses, gradients

    def _own(self, weights: Tensor) -> Tensor:
        """Return the rows ``[m, d]`` of the workers that take part."""
        if self._stacked is not None or not self._partial or self._round is None:
            return weights
        return weights[self._round.active]

    def _move_together(self, training: Training, gradients: Tensor, rows: Tensor | slice) -> None:
        parameter = training.optimizers[0].param_groups[0]["params"][0]
        if isinstance(rows, slice):
            parameter.grad = gradients
            training.step()
        else:  # the others have taken all their steps
            kept = self.lanes.weights.clone()
            parameter.grad = torch.zeros_like(kept).index_copy_(0, rows, gradients)
            training.step()
            kept[rows] = self.lanes.weights[rows]
            self.lanes.weights.copy_(kept)
        training.zero_grad()

    def _move_each(self, gradients: Tensor, workers: Sequence[int]) -> None:
        going = dict(zip(workers, gradients, strict=True))
        for worker, training in enumerate(self.trainings):
            if worker in going:
                places = self.lanes.layout.views(going[worker])
                for name, p in training.model.named_parameters():
                    if name in places:
                        p.grad = places[name]
                training.step()
                training.zero_grad()
            else:  # time passes for all workers alike
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                    for schedule in training.schedules:
                        schedule.step()

    def _count(self, now: Round | None, steps: Tensor) -> None:
        self.worker_steps += int(steps.sum())
        if now is not None:
            self.rounds += 1
            self.seconds += now.seconds

    def state_bytes(self) -> int:
        """Return the bytes of optimizer state of one worker."""
        whole = sum(training.state_bytes() for training in self.trainings)
        return whole // (1 if self.outer is None else len(self.lanes.weights))

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the shown model that is needed to go on bit for bit."""
        return {
            "trainings": [training.state_dict() for training in self.trainings],
            "weights": None if self.outer is None else self.lanes.weights,
            "exchange": self.exchange.state_dict(),
            "buffers": {"local": self._local_state, "outer": self._outer_state},
            "places": {"slow": self._slow, "anchor": self._anchor.clone(), "past": self._past, "drift": self.drift},
            "counts": [self.worker_steps, self.rounds, self.seconds, self._first, self._round is not None],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned in a run with the same arguments."""
        for training, one in zip(self.trainings, state["trainings"], strict=True):
            training.load_state_dict(one)
        if self.outer is not None:
            self.lanes.weights.copy_(state["weights"])
        self.exchange.load_state_dict(state["exchange"])
        self._local_state, self._outer_state = state["buffers"]["local"], state["buffers"]["outer"]
        places = state["places"]
        self._slow, self._anchor, self._past = places["slow"], places["anchor"], places["past"]
        self.drift = places["drift"]
        self.worker_steps, self.rounds, self.seconds, self._first, under_way = state["counts"]
        if under_way and self.outer is not None:
            self._round = self._next_round(self.outer)


def _check(outer: Outer | None, local: Local | None, cohort: Cohort, steps: int) -> None:
    if outer is None:
        if local is not None and local.needs_window:
            raise SoonerError(
                f"{type(local).__name__.lower()} needs workers that take steps of their own; add an outer part such as "
                "local_sgd"
            )
        if cohort.uneven:
            raise SoonerError(
                f"{type(cohort).__name__.lower()} lets workers take their own number of steps; add an outer part such "
                "as afa_cd"
            )
        return
    name = type(outer).__module__.rpartition(".")[2]
    if cohort.oldest and not outer.takes_stale:
        raise SoonerError(
            f"{type(cohort).__name__.lower()} lets workers start from old weights, which {name} can't use; use afa_cd "
            "or afa_cs, or set oldest=0"
        )
    if outer.every > steps:
        raise SoonerError(
            f"{name}: every={outer.every} is more than the {steps} steps of the run, so that nothing would ever be "
            f"sent; set every to at most {steps}"
        )
