"""A whole training in the place of one optimizer, for frameworks that step, save and load optimizers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.hooks import RemovableHandle

from sooner.communication._group import Group
from sooner.error import SoonerError
from sooner.foundation.unwrap import unwrapped
from sooner.recipe import Recipe
from sooner.recipe.slots import Slot
from sooner.recipe.training import Training

CLIPPING = frozenset({"clip_norm", "clip_value", "clip_adaptive"})
"""Parts that do what a framework's own clipping of gradients does."""


class _Elsewhere(Group):
    """Stands for workers whose gradients the framework averages, so that nobody else does."""

    def __init__(self) -> None:
        super().__init__()
        self._alone = True


class Driven(Optimizer):
    """A training of a recipe as one `torch.optim.Optimizer`: a step of it is a step of everything in the recipe.

    Schedules advance inside, once for every step really taken, whoever steps the scheduler of the framework and how
    often. The state is that of the whole training.

    Args:
        training: the training.
        recipe: what it was built from.
        steps: the steps it was built for.
        weights: whether the state holds the training weights too. Needed where a framework saves the weights of
            `Training.view` as the model's.

    Attributes:
        training: the training.
    """

    def __init__(self, training: Training, recipe: Recipe, steps: int, *, weights: bool = False) -> None:
        # nothing of the base class's own: what it would keep is the training's
        self.training = training
        self._recipe = recipe
        self._steps = steps
        self._weights = weights and training.shows_others
        self.rates: list[Any] = self._rates()

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of all optimizers."""
        return self.training.param_groups

    @property
    def state(self) -> dict[Any, Any]:  # type: ignore[override]
        """What all optimizers keep for their parameters."""
        return self.training.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The settings of new groups, of the first optimizer."""
        return self.training.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refuse it: the recipe has given every parameter its optimizer.

        Raises:
            SoonerError: always.
        """
        raise SoonerError(
            "a recipe at work takes no further parameter groups; unfreeze or add the parameters before training begins"
        )

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(training, args, kwargs)`` before every step."""
        return self.training.register_step_pre_hook(hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(training, args, kwargs)`` after every step."""
        return self.training.register_step_post_hook(hook)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Let the closure find gradients, where there is one, and take a step of the whole recipe.

        Returns:
            What the closure has returned, or None.
        """
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        self.rates = self._rates()
        self.training.step()
        return result

    def _rates(self) -> list[Any]:
        return [group["lr"] for group in self.param_groups if "lr" in group] or [0.0]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, or fill them with zeros."""
        self.training.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the whole training and, where asked for, the training weights."""
        state = {"recipe": str(self._recipe), "steps": self._steps, "training": self.training.state_dict()}
        return {**state, "weights": trained(self.training.model)} if self._weights else state

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            SoonerError: it is the state of another optimizer or recipe, or of a run of another length, with which a
                schedule of the recipe would not end where this run does.
        """
        if "training" not in state_dict:
            raise SoonerError(
                f"the checkpoint holds the state of another optimizer, not of recipe {str(self._recipe)!r}; resume "
                "with what has written it, or start anew from its weights"
            )
        if state_dict["recipe"] != str(self._recipe):
            raise SoonerError(
                f"the checkpoint was written by recipe {state_dict['recipe']!r} and this is {str(self._recipe)!r}; "
                "resume with the recipe that has written it"
            )
        if state_dict["steps"] != self._steps and not self._recipe.horizon_free:
            raise SoonerError(
                f"the checkpoint is of a run of {state_dict['steps']} steps and this one has {self._steps}, so the "
                "schedule would end elsewhere; resume with the same number of steps, or use a schedule without a "
                "horizon such as constant"
            )
        self.training.load_state_dict(state_dict["training"])
        ours = trained(self.training.model)
        for name, value in (state_dict.get("weights") or {}).items() if self._weights else ():
            if name not in ours:
                raise SoonerError(f"the checkpoint holds {name}, which this model does not train; resume the same one")
            ours[name].copy_(value)
        self.rates = self._rates()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"Driven({str(self._recipe)!r}, steps={self._steps})"


class Pace(LRScheduler):
    """Shows a framework the learning rates of a recipe; `step` does nothing, for they advance with the recipe's steps.

    Args:
        optimizer: the training, as an optimizer.
    """

    def __init__(self, optimizer: Driven) -> None:
        # the base class would set learning rates anew
        self.optimizer = optimizer
        self.base_lrs = list(optimizer.rates)
        self.last_epoch = self._step_count = 0

    def step(self, *_: Any) -> None:
        """Do nothing: the learning rates are those of the next step already."""

    def get_last_lr(self) -> list[Any]:
        """Return the learning rates of the last step taken, before it those of the first."""
        return list(unwrapped(self.optimizer).rates)

    def get_lr(self) -> list[Any]:
        """Return the same."""
        return self.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the schedules are saved with the training."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load nothing."""


def recipe_for(recipe: Recipe | str, framework: str) -> Recipe:
    """Return the recipe, if all of it can act in a framework's loop.

    Raises:
        SoonerError: naming the part that can't.
    """
    read = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
    for slot in read.slots:
        why = _left_out(slot, framework)
        if why:
            raise SoonerError(f"{slot.name} {why}; leave it out, or train with sooner.train or a loop of your own")
    return read


def _left_out(slot: Slot, framework: str) -> str:
    """Return why a framework's loop would drop the part; empty where it wouldn't."""
    if slot.needs:
        need = sorted(slot.needs)[0]
        return f"needs {need if need.endswith('s') else f'a {need}'}, which the loop of {framework} does not provide"
    if hasattr(slot.factory, "backward"):
        return f"finds the gradients itself, which {framework} does"
    if slot.station == "data":
        return f"draws the batches, which {framework} does"
    if slot.station == "communication":
        return f"is part of the exchange between workers, which {framework} sees to"
    if slot.station == "memory":
        return f"writes the checkpoints, which {framework} does"
    return ""


def clips(recipe: Recipe) -> str:
    """Return the name of the part that clips gradients, or nothing."""
    return next((slot.name for slot in recipe.slots if slot.name in CLIPPING), "")


def acts_on_loss(training: Training) -> bool:
    """Whether a part has to do with how the training loss is evaluated."""
    return bool(training.around_loss)


def drive(
    recipe: Recipe, model: nn.Module, steps: int, *, seed: int | None = None, prepared: bool = False, weights: bool
) -> Driven:
    """Build the recipe for a model whose gradients the framework averages, and return it as an optimizer."""
    training = recipe.build(model, steps, wire=_Elsewhere(), seed=seed, prepared=prepared)
    return Driven(training, recipe, steps, weights=weights)


def driven(optimizer: Any) -> Driven | None:
    """Return the training inside a framework's wrappers, or None where another optimizer is there."""
    real = unwrapped(optimizer)
    return real if isinstance(real, Driven) else None


class Views:
    """Holds the view of a training open between two calls, as frameworks call back before and behind an evaluation."""

    def __init__(self) -> None:
        self._open: contextlib.ExitStack | None = None

    @property
    def entered(self) -> bool:
        """Whether one is open."""
        return self._open is not None

    def enter(self, context: contextlib.AbstractContextManager[Any]) -> None:
        """Enter it, behind leaving one that an exception has left open."""
        self.leave()
        stack = contextlib.ExitStack()
        stack.enter_context(context)
        self._open = stack

    def leave(self) -> None:
        """Leave it, if one is open."""
        stack, self._open = self._open, None
        if stack is not None:
            stack.close()


def trained(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that are trained and the buffers, by name and without their graph."""
    named: Iterator[tuple[str, Tensor]] = iter([*model.named_parameters(), *model.named_buffers()])
    return {
        name: tensor.detach() for name, tensor in named if not isinstance(tensor, nn.Parameter) or tensor.requires_grad
    }
