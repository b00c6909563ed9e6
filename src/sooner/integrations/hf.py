"""Recipes in Hugging Face's Trainer and in what is built on it, such as those of TRL.

trainer = RecipeTrainer(model, args, train_dataset=data, recipe="clip_norm + muon + cosine + ema")

or, for any other Trainer, once it is made:

trainer.add_callback(RecipeCallback("clip_norm + muon + cosine + ema", trainer))
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
from typing import Any

from torch import nn

from sooner.error import SoonerError
from sooner.integrations._driven import Driven, Pace, acts_on_loss, clips, drive, driven, recipe_for
from sooner.recipe import Recipe, create_optimizer
from sooner.recipe.training import Training

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    raise SoonerError(
        "sooner.integrations.hf drives the Trainer of transformers, which is not installed; pip install sooner[hf]"
    ) from error

__all__ = ["RecipeCallback", "RecipeMixin", "RecipeTrainer", "optimizer"]

log = logging.getLogger(__name__)

_TRAINER = "Hugging Face's Trainer"

_SAID_BY_RECIPE = (
    "learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "optim",
    "optim_args",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "warmup_ratio",
)
"""Settings of TrainingArguments that have no say where a recipe moves the weights."""


class RecipeMixin:
    """What makes a Trainer train by a recipe; put it first: ``class Tuner(RecipeMixin, SFTTrainer)``.

    The recipe is built when `train` begins, for as many steps as the Trainer then plans. Evaluations, predictions and
    saved models hold the weights that the recipe shows (`Training.view`), such as an average; the training weights come
    back afterwards. A checkpoint keeps the training weights and the whole state of the recipe in ``optimizer.pt``, so
    that ``resume_from_checkpoint`` goes on bit for bit on a CPU. With ``load_best_model_at_end`` the model that was
    evaluated best is loaded, and from then on it is what is evaluated and saved.

    Gradients are averaged over processes as the Trainer does it (DDP). A part that clips takes the place of
    ``max_grad_norm`` where that has its default.

    Args:
        *args: as the Trainer takes them.
        recipe: a recipe or its text.
        **kwargs: as the Trainer takes them.

    Raises:
        SoonerError: a part that the Trainer's loop would drop, settings that say the same as the recipe, or FSDP,
            DeepSpeed and the like.
    """

    recipe_training: Training | None = None
    """The recipe at work, from the beginning of `train` on; its `view` and `export` give the weights to use."""

    def __init__(self, *args: Any, recipe: Recipe | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._take_recipe(recipe)

    def _take_recipe(self: Any, recipe: Recipe | str) -> None:
        self._recipe = recipe_for(recipe, _TRAINER)
        self._recipe_loaded_best = self._recipe_in_step = False
        given = self.optimizer is not None or self.lr_scheduler is not None
        if given or self.optimizer_cls_and_kwargs is not None:
            raise SoonerError(
                "the Trainer was given optimizers of its own, next to which a recipe would not act; leave out "
                "optimizers= and optimizer_cls_and_kwargs="
            )
        self._check_arguments()
        if self.model_init is None:
            self._operate(self.model)

    def _operate(self: Any, model: nn.Module) -> nn.Module:
        """Let the parts change the model that do so; before a checkpoint is loaded into it."""
        prepared: nn.Module = self._recipe.prepare(model, seed=self.args.seed)
        self.model = self.model_wrapped = self.callback_handler.model = prepared
        return prepared

    def _check_arguments(self: Any) -> None:
        """Refuse arguments that the recipe leaves without effect; a sweep may have changed them since."""
        args = self.args
        for kind in ("is_fsdp_enabled", "is_deepspeed_enabled", "is_distributed_loading_by_transformers"):
            if getattr(self, kind, False):
                raise SoonerError(
                    "the Trainer shards this model itself (FSDP, DeepSpeed or a distributed_config), before which a "
                    "recipe can't be built; call Recipe(...).build(model, steps) on the sharded one in your own loop"
                )
        defaults = {field.name: field.default for field in dataclasses.fields(args)}
        for name in _SAID_BY_RECIPE:
            value = getattr(args, name, None)
            if name in defaults and _plain(value) != _plain(defaults[name]) and not _empty(value, defaults[name]):
                raise SoonerError(
                    f"{type(args).__name__}({name}={_plain(value)!r}) has no effect where a recipe trains; write it "
                    f"into {str(self._recipe)!r} and leave it out here"
                )
        clipping, usual = clips(self._recipe), defaults.get("max_grad_norm")
        if clipping and args.max_grad_norm not in (0, None, usual):
            raise SoonerError(
                f"{type(args).__name__}(max_grad_norm={args.max_grad_norm:g}) and {clipping} would both clip; set "
                f"max_grad_norm=0, or leave {clipping} out"
            )
        if clipping and args.max_grad_norm:
            log.info("%s takes the place of max_grad_norm=%g, the Trainer's default", clipping, args.max_grad_norm)
            self.args = copy.copy(args)  # others may have been given the same
            self.args.max_grad_norm = 0.0

    def call_model_init(self: Any, trial: Any = None) -> nn.Module:
        """Return a new model, changed as the recipe does."""
        model: nn.Module = super().call_model_init(trial)  # type: ignore[misc]
        return self._operate(model) if hasattr(self, "_recipe") else model

    def create_optimizer(self: Any, model: nn.Module | None = None) -> Driven:
        """Build the recipe for the steps that are planned now, and return it as one optimizer.

        Raises:
            SoonerError: called before `train`, or a recipe that does not fit the model.
        """
        self._check_arguments()
        steps = self.state.max_steps
        if steps < 1:
            raise SoonerError(
                "the steps of a recipe are known once train() runs; call that instead of create_optimizer()"
            )
        if self.args.max_grad_norm and not clips(self._recipe):
            log.warning(
                "the Trainer clips gradients at max_grad_norm=%g, which recipe %r does not say; max_grad_norm=0 leaves "
                "them alone",
                self.args.max_grad_norm,
                str(self._recipe),
            )
        made = drive(self._recipe, self.model if model is None else model, steps, prepared=True, weights=True)
        self.optimizer, self.recipe_training = made, made.training
        if self.args.n_gpu > 1 and acts_on_loss(self.recipe_training):
            raise SoonerError(
                "a part that acts on the loss can't follow it into the threads of DataParallel; start with torchrun, "
                "or show one GPU with CUDA_VISIBLE_DEVICES=0"
            )
        self._recipe_loaded_best = False
        return made

    def create_scheduler(self: Any, num_training_steps: int, optimizer: Any = None) -> Pace:
        """Return what shows the recipe's learning rates to the Trainer."""
        real = driven(self.optimizer if optimizer is None else optimizer)
        if real is None:
            raise SoonerError("another optimizer has taken the recipe's place; leave it to the recipe to make one")
        self.lr_scheduler = made = Pace(real)
        self._created_lr_scheduler = True
        return made

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's, with the parts that act on the training loss."""
        self._recipe_in_step = True
        try:
            return super().training_step(*args, **kwargs)  # type: ignore[misc]
        finally:
            self._recipe_in_step = False

    def compute_loss_context_manager(self: Any) -> contextlib.ExitStack:
        """Return the Trainer's contexts around a loss, in training with those of the recipe."""
        stack: contextlib.ExitStack = super().compute_loss_context_manager()  # type: ignore[misc]
        if self._recipe_in_step and self.recipe_training is not None:
            stack.enter_context(self.recipe_training.during_loss())
        return stack

    def _shown(self: Any) -> contextlib.AbstractContextManager[Any]:
        """Return a context with the weights to evaluate and to save."""
        if self.recipe_training is None or self._recipe_loaded_best:
            return contextlib.nullcontext()
        view: contextlib.AbstractContextManager[Any] = self.recipe_training.view()
        return view

    def evaluation_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's, with the weights that the recipe shows."""
        with self._shown():
            return super().evaluation_loop(*args, **kwargs)  # type: ignore[misc]

    def save_model(self: Any, *args: Any, **kwargs: Any) -> None:
        """As the Trainer's, with the weights that the recipe shows."""
        with self._shown():
            super().save_model(*args, **kwargs)  # type: ignore[misc]

    def _load_best_model(self: Any) -> None:
        super()._load_best_model()  # type: ignore[misc]
        self._recipe_loaded_best = True


class RecipeTrainer(RecipeMixin, Trainer):  # type: ignore[misc]
    """Hugging Face's Trainer, training by a recipe: ``RecipeTrainer(model, args, ..., recipe="muon + cosine + ema")``.

    Everything else is as in `transformers.Trainer`; `RecipeMixin` says what the recipe does. For the Trainers of other
    libraries use the mixin, or `RecipeCallback`.
    """


class RecipeCallback(TrainerCallback):  # type: ignore[misc]
    """Makes a Trainer that exists train by a recipe: ``trainer.add_callback(RecipeCallback("muon", trainer))``.

    Whatever Trainer it is, such as TRL's SFTTrainer, does from then on what `RecipeMixin` says.

    Args:
        recipe: a recipe or its text.
        trainer: the Trainer, before `train`.

    Raises:
        SoonerError: as for `RecipeMixin`.
    """

    def __init__(self, recipe: Recipe | str, trainer: Any) -> None:
        if not isinstance(trainer, RecipeMixin):
            kind = type(trainer)
            trainer.__class__ = _with_recipe(kind)
            try:
                trainer._take_recipe(recipe)
            except BaseException:
                trainer.__class__ = kind
                raise
        else:
            trainer._take_recipe(recipe)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refuse a training in which something has taken the recipe's place.

        Raises:
            SoonerError: the optimizer is another one.
        """
        if driven(kwargs.get("optimizer")) is None:
            raise SoonerError(
                "the recipe does not drive this training: another optimizer is in its place; give no optimizers to the "
                "Trainer, and add the callback before train()"
            )


def _with_recipe(kind: type[Any]) -> type[Any]:
    """Return the class of Trainers of that kind that train by a recipe."""
    return type(kind.__name__, (RecipeMixin, kind), {"__module__": kind.__module__})


def optimizer(name: str, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """Return one optimizer for the Trainer's own schedule: ``optimizer_cls_and_kwargs=optimizer("muon", lr=0.02)``.

    The list of names in ``TrainingArguments(optim=...)`` is closed. This way the optimizer sees the whole model, from
    which methods that treat parameters by kind know embeddings and the output layer. ``TrainingArguments`` has no say
    in its settings then.

    Args:
        name: as `sooner.create_optimizer` takes it: a part of the update station, or a class such as
            ``"sooner.update.Muon"``.
        settings: its hyper-parameters.

    Raises:
        SoonerError: an unknown name or setting, or an optimizer that the Trainer's loop can't drive.
    """
    recipe_for(Recipe(name), _TRAINER)

    def factory() -> Any:
        return lambda model, **given: create_optimizer(model, name, **given)

    return factory, settings


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def _empty(value: Any, default: Any) -> bool:
    return not value and default in (None, dataclasses.MISSING)
