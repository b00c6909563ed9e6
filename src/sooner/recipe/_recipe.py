"""A recipe: which part sits in which station, written as text such as ``muon(lr=0.02) + linear`` or in Python.

A recipe goes one way, a file for each station of it:

    text        what is written                                                  text.py
    slots       which parts these are, what is fixed and what a race tunes       slots.py
    plan        their order, who owns what, who needs what                       plan.py
    surgery     parts that change the model itself do so                         surgery.py
    partition   every trained parameter gets exactly one optimizer               partition.py
    build       everything is made around these                                  build.py, attach.py
    training    the parts at work in a loop                                      training.py

Everything that cannot work (an unknown name, two owners of one thing, an unmet need, a parameter without exactly one
optimizer) is refused in one sentence before step 0. `Recipe` is only the plan; `Recipe.build` makes a `Training` for
one model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from sooner.communication._wire import Wire
from sooner.error import SoonerError, nearest
from sooner.part import STATIONS
from sooner.recipe.build import assemble
from sooner.recipe.plan import check_needs, check_owners, in_order
from sooner.recipe.sampling import sampler
from sooner.recipe.slots import Slot, read, slot
from sooner.recipe.surgery import operate
from sooner.recipe.training import Training
from sooner.space import Knob


class Recipe:
    """The parts of one way to train, at most one per station except for optimizers that share the parameters.

    Args:
        *what: text such as ``"adamw + cosine"``, slots made by `slot`, or classes.

    Raises:
        SoonerError: the text can't be parsed, a name is unknown, two parts own the same thing, or no part moves the
            weights.
    """

    def __init__(self, *what: str | Slot | type[Any] | Recipe) -> None:
        slots: list[Slot] = []
        for item in what:
            if isinstance(item, str):
                slots += read(item)
            elif isinstance(item, Recipe):
                slots += item.slots
            else:
                slots.append(item if isinstance(item, Slot) else slot(item))
        self.slots: tuple[Slot, ...] = in_order(slots)
        check_owners(self.slots, str(self))

    def __str__(self) -> str:
        return " + ".join(str(s) for s in self.slots)

    def __repr__(self) -> str:
        return f"Recipe({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.slots == other.slots

    def __hash__(self) -> int:
        return hash(tuple(s.name for s in self.slots))  # equal recipes may differ in the order of their settings

    def __reduce__(self) -> tuple[Any, ...]:
        return Recipe, self.slots

    @property
    def horizon_free(self) -> bool:
        """Whether the recipe trains the same first n steps whatever the planned number of steps is."""
        return all(s.horizon_free for s in self.slots)

    @property
    def space(self) -> dict[str, Knob]:
        """Everything a race tunes, keyed by hyper-parameter.

        Where two parts use the same word the key is ``part.hyper-parameter``, and where two parts have the same name
        ``part(on='pattern').hyper-parameter``.
        """
        return {self._key(s, k): knob for s in self.slots for k, knob in s.space.items()}

    @property
    def default(self) -> dict[str, Any]:
        """The parts' own defaults for everything in `space`."""
        return {self._key(s, k): s.default(k) for s in self.slots for k in s.space}

    def _key(self, owner: Slot, knob: str) -> str:
        sharing = [s.name for s in self.slots if knob in s.space]
        if len(sharing) == 1:
            return knob
        name = owner.name if sharing.count(owner.name) == 1 else f"{owner.name}(on={owner.on!r})"
        return f"{name}.{knob}"

    def with_settings(self, settings: Mapping[str, Any]) -> Recipe:
        """Return the recipe with some of its tunable hyper-parameters fixed (keys as in `space`).

        Raises:
            SoonerError: a key that is not tunable in this recipe.
        """
        for key in settings:
            if key not in self.space:
                raise SoonerError(f"recipe {str(self)!r} does not tune {key!r}{nearest(key, self.space)}")
        slots = []
        for s in self.slots:
            chosen = {k: settings[self._key(s, k)] for k in s.space if self._key(s, k) in settings}
            rest = {k: v for k, v in s.space.items() if k not in chosen}
            slots.append(replace(s, settings={**s.settings, **chosen}, space=rest))
        return Recipe(*slots)

    def left_out(self, baseline: Recipe) -> list[Recipe]:
        """Return this stack with one difference from `baseline` undone at a time; empty if there are fewer than two.

        Stacks that do not go together, such as a rule that needs no schedule with the baseline's, are not among them.
        """
        ours, theirs = self._by_station(), baseline._by_station()
        different = [station for station in STATIONS if ours.get(station) != theirs.get(station)]
        if len(different) < 2:
            return []
        mixed = [{**ours, station: theirs.get(station, ())} for station in different]
        found = []
        for one in mixed:
            with contextlib.suppress(SoonerError):
                found.append(Recipe(*(s for group in one.values() for s in group)))
        return found

    def _by_station(self) -> dict[str, tuple[Slot, ...]]:
        present = {s.station for s in self.slots}
        return {name: tuple(s for s in self.slots if s.station == name) for name in STATIONS if name in present}

    def build(
        self,
        model: nn.Module,
        steps: int,
        provides: Iterable[str] = (),
        wire: Wire | None = None,
        *,
        seed: int | None = None,
        prepared: bool = False,
    ) -> Training:
        """Make the recipe's parts for one model.

        First the parts of the stations model, adapter and precision change the model itself. Then every trained
        parameter gets its optimizer, and the rest follows. To resume, build again for a fresh model, and load the
        states of the model and of the training after that.

        Where several processes train together (torch.distributed is initialised), a recipe without communication parts
        averages gradients as they are, unless the model sees to that itself (DDP, FSDP2).

        Args:
            model: the model to train, already on its device; go on with ``training.model``, which may be another one.
            steps: number of optimizer steps planned; schedules end there.
            provides: what the caller's loop offers beyond plain gradients, e.g. ``{"closure"}``.
            wire: connects the workers; None for the default process group.
            seed: decides what surgery draws; None for PyTorch's global state.
            prepared: the model has been through `prepare`, or is a copy of one that has; it is not changed again.

        Raises:
            SoonerError: an unmet need, surgery that does not fit the model, a parameter with no or two optimizers, or a
                part that refuses the model.
        """
        check_needs(self.slots, provides)
        model, surgeons = operate(self.slots, model, seed, done=prepared)
        return assemble(self.slots, model, surgeons, steps, wire)

    def sampler(self, examples: Any, steps: int, seed: int = 0, rank: int = 0, world: int = 1) -> Any:
        """Return what draws the batches of a loop: ``sampler[step]`` are the positions of a step's examples.

        Give it to ``DataLoader(data, batch_sampler=...)``; it is None where the recipe has no part of the data station.

        Args:
            examples: a `sooner.task.Examples`, with the domains, labels or weights that the part needs.
            steps: batches of the whole run.
            seed: decides, with the step, what is drawn; the same on all workers.
            rank: this worker's number.
            world: how many workers share a batch.

        Raises:
            SoonerError: the examples have none of what the part needs.
        """
        return sampler(self.slots, examples, steps, seed, rank, world)

    def prepare(self, model: nn.Module, seed: int | None = None) -> nn.Module:
        """Do the surgery alone: change the model as `build` would, and return it.

        Args:
            model: the model, changed in place where a part does not return another one.
            seed: decides what is drawn; None for PyTorch's global state.

        Raises:
            SoonerError: surgery that does not fit the model.
        """
        return operate(self.slots, model, seed)[0]
