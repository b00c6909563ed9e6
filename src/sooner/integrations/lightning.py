"""Recipes in Lightning: one line in `configure_optimizers`, and an average of the weights as a callback.

class Net(LightningModule):
    def configure_optimizers(self):
        return sooner.integrations.lightning.configure_optimizers(self, "clip_norm + muon + cosine + ema")

Trainer(callbacks=[sooner.integrations.lightning.EMA(decay=0.999)])  # beside optimizers of your own
"""

from __future__ import annotations

import abc
import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from sooner import weights
from sooner.error import SoonerError
from sooner.foundation.hooks import steps_taken
from sooner.foundation.unwrap import unwrapped
from sooner.integrations._driven import Pace, Views, acts_on_loss, clips, drive, driven, recipe_for, trained
from sooner.part import SURGERY
from sooner.recipe import Recipe
from sooner.recipe.training import Training

try:
    try:
        import lightning.pytorch as pl
    except ModuleNotFoundError:
        import pytorch_lightning as pl  # the same library under its older name
except ImportError as error:
    raise SoonerError(
        "sooner.integrations.lightning needs Lightning, which is not installed; pip install sooner[lightning]"
    ) from error

__all__ = ["EMA", "configure_optimizers", "training_of"]

_LIGHTNING = "Lightning"


class _Shown(pl.Callback, abc.ABC):  # type: ignore[misc]
    """Lets evaluations and checkpoints see other weights than those that are trained.

    Checkpoints made while training hold the weights shown as the model's, also those with weights only; what the
    training itself needs to go on is with its state.
    """

    def __init__(self) -> None:
        super().__init__()
        self._views = Views()
        self._replaced = False  # by the weights of a checkpoint, which was saved as it is shown

    @abc.abstractmethod
    def _view(self) -> contextlib.AbstractContextManager[Any] | None:
        """Return a context in which the model holds what is to be seen; None where that is what it holds."""

    def _follow(self, module: Any) -> None:
        """Change what the module's checkpoints hold, until the end of the run."""
        usual = module.on_save_checkpoint

        @functools.wraps(usual)
        def shown(checkpoint: dict[str, Any]) -> None:
            if self._views.entered:
                raise SoonerError(
                    "a checkpoint inside an evaluation would take the averaged weights for those in training; save "
                    "before or after it"
                )
            view = None if self._replaced else self._view()
            if view is not None:
                with view:
                    checkpoint["state_dict"] = {
                        name: value.detach().clone() if isinstance(value, torch.Tensor) else value
                        for name, value in module.trainer.strategy.lightning_module_state_dict().items()
                    }
            usual(checkpoint)

        module.on_save_checkpoint = shown

    def _enter(self, trainer: Any, *_: Any) -> None:
        if trainer.state.fn != "fit" and trainer.ckpt_path is not None:
            self._replaced = True
        view = None if self._replaced else self._view()
        if view is not None:
            self._views.enter(view)

    def _leave(self, *_: Any) -> None:
        self._views.leave()

    on_validation_start = on_test_start = on_predict_start = _enter
    on_validation_end = on_test_end = on_predict_end = on_exception = _leave


class _Recipe(_Shown):
    """Shows the weights of a training, and lets its parts act on the loss.

    Args:
        training: the training.
        module: the module that it trains.
    """

    def __init__(self, training: Training, module: Any) -> None:
        super().__init__()
        self.training = training
        self.module = module
        self._undo = contextlib.ExitStack()
        if training.shows_others:
            self._follow(module)
            self._undo.callback(vars(module).pop, "on_save_checkpoint", None)
        if acts_on_loss(training):
            training.loss_elsewhere = True  # here: Lightning evaluates it in the module's training_step, and only there
            module.training_step = _within(training, module.training_step)
            self._undo.callback(vars(module).pop, "training_step", None)

    def _view(self) -> contextlib.AbstractContextManager[Any] | None:
        return self.training.view()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave nothing on the module behind a fit."""
        self._views.leave()
        if stage == "fit":
            self.undo()

    def undo(self) -> None:
        """Take everything off the module."""
        self._undo.close()


def _within(training: Training, usual: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(usual)
    def training_step(*args: Any, **kwargs: Any) -> Any:
        with training.during_loss():
            return usual(*args, **kwargs)

    return training_step


def configure_optimizers(module: Any, recipe: Recipe | str, *, prepared: bool = False) -> dict[str, Any]:
    """Return what `LightningModule.configure_optimizers` shall return for a recipe: all of it as one optimizer.

    The recipe is built for as many steps as the Trainer plans (`estimated_stepping_batches`). Validation, tests,
    predictions and checkpoints see the weights that the recipe shows, such as an average; the training weights and the
    whole state of the recipe are in the checkpoint's optimizer state, so that ``fit(ckpt_path=...)`` goes on exactly.
    Where ``validate``, ``test`` or ``predict`` load a checkpoint, they see what is in it.

    Args:
        module: the LightningModule, inside its own `configure_optimizers`.
        recipe: a recipe or its text.
        prepared: parts that change the model itself have done so: ``Recipe(recipe).prepare(self)`` in ``__init__``, so
            that Lightning can load checkpoints before it asks for optimizers.

    Raises:
        SoonerError: a part that Lightning's loop would drop, a training without an end, two that clip or average, or a
            strategy that shards the model.
    """
    read, trainer = recipe_for(recipe, _LIGHTNING), module.trainer
    kind = type(trainer.strategy).__name__
    if any(word in kind for word in ("FSDP", "DeepSpeed", "ModelParallel", "XLA")):
        raise SoonerError(
            f"{kind} shards the model itself, for which a recipe is not built here; use ddp or one device"
        )
    changing = next((slot.name for slot in read.slots if slot.station in SURGERY), None)
    if changing and not prepared:
        raise SoonerError(
            f"{changing} changes the model itself, and Lightning loads checkpoints before it asks for optimizers; call "
            "sooner.Recipe(recipe).prepare(self) in __init__, and pass prepared=True here"
        )
    clipping = clips(read)
    if clipping and trainer.gradient_clip_val:
        raise SoonerError(
            f"Trainer(gradient_clip_val={trainer.gradient_clip_val}) and {clipping} would both clip; leave one out"
        )
    steps = trainer.estimated_stepping_batches
    if not math.isfinite(steps):
        raise SoonerError("this Trainer never ends, so a recipe can't plan its steps; set max_steps or max_epochs")
    optimizer = drive(read, module, int(steps), prepared=prepared, weights=True)
    training = optimizer.training
    if training.shows_others and any(isinstance(one, EMA) for one in trainer.callbacks):
        raise SoonerError(f"recipe {str(read)!r} and the callback EMA both average the weights; leave one out")
    kept = []
    for one in trainer.callbacks:
        if isinstance(one, _Recipe):  # of an earlier fit
            one.undo()
        else:
            kept.append(one)
    trainer.callbacks[:] = [_Recipe(training, module), *kept]  # in front of what saves behind an evaluation
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": Pace(optimizer), "interval": "step"}}


def training_of(trainer: Any) -> Training:
    """Return the recipe at work in a Lightning Trainer, for its `view` and `export`.

    Raises:
        SoonerError: there is none.
    """
    for one in trainer.callbacks:
        if isinstance(one, _Recipe):
            return one.training
    raise SoonerError("no recipe drives this Trainer; return configure_optimizers(self, recipe) from the module's own")


class EMA(_Shown):
    """An exponential moving average of the weights, `sooner.weights.EMA`, beside optimizers of any kind.

    It follows the steps really taken. Validation, tests and predictions see the average, and checkpoints hold it as the
    model's weights, with the training weights in the callback's state: ``fit(ckpt_path=...)`` goes on from those.

    Args:
        decay: weight of the past in [0, 1), default 0.99.
        device: where the average is kept; None for where the weights are.

    Raises:
        SoonerError: a decay outside its range.
    """

    def __init__(self, decay: float = 0.99, device: torch.device | str | None = None) -> None:
        super().__init__()
        self._decay, self._device = decay, device
        weights.EMA(torch.nn.Linear(1, 1), decay)  # refuses a decay out of range at once
        self._average: weights.EMA | None = None
        self._module: Any = None
        self._stage = ""
        self._taken = 0

    @property
    def state_key(self) -> str:
        """What the callback's state is called in a checkpoint."""
        return f"sooner.EMA(decay={self._decay!r})"

    def _view(self) -> contextlib.AbstractContextManager[Any] | None:
        return None if self._average is None else self._average.view()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Begin an average where a fit begins."""
        self._stage = stage
        if stage == "fit":
            trainer.callbacks[:] = [self, *(one for one in trainer.callbacks if one is not self)]
            self._average = weights.EMA(pl_module, self._decay, self._device)
            self._module, self._replaced = pl_module, False
            self._follow(pl_module)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave nothing on the module behind a fit."""
        self._views.leave()
        if stage == "fit":
            vars(pl_module).pop("on_save_checkpoint", None)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to count steps."""
        self._taken = sum(map(steps_taken, _real(trainer)))

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Take the weights into the average, if an optimizer has moved them."""
        taken = sum(map(steps_taken, _real(trainer)))
        if taken > self._taken and self._average is not None:
            self._average.after_step()
        self._taken = taken

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the training weights."""
        if self._average is None:
            return {}
        return {"average": self._average.state_dict(), "weights": trained(self._module)}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from both, where a fit goes on."""
        if self._stage != "fit" or self._average is None:
            return
        ours = trained(self._module)
        for name, value in state_dict["weights"].items():
            ours[name].copy_(value)
        self._average.load_state_dict(state_dict["average"])


def _real(trainer: Any) -> Iterator[torch.optim.Optimizer]:
    for one in trainer.optimizers:
        whole = driven(one)
        yield from [unwrapped(one)] if whole is None else whole.training.optimizers
