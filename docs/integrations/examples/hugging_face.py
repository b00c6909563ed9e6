"""A Trainer without a recipe, with one by hand, and with `sooner.integrations.hf`; each can be resumed."""

import math
from typing import Any

import torch
from data import EPOCHS, RECIPE, Net, examples
from transformers import Trainer, TrainerCallback, TrainingArguments

from sooner import Recipe
from sooner.integrations.hf import RecipeTrainer


def arguments(folder: str) -> TrainingArguments:
    """Return settings that all three share."""
    quiet: dict[str, Any] = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False}
    often: dict[str, Any] = {"eval_strategy": "epoch", "save_strategy": "epoch", "max_grad_norm": 0}
    sizes: dict[str, Any] = {"num_train_epochs": EPOCHS, "per_device_train_batch_size": 4}
    return TrainingArguments(folder, **quiet, **often, **sizes)


def plain(folder: str, resume: str | None = None) -> Trainer:
    """Train as the library does."""
    model = Net()
    data = {"train_dataset": examples(), "eval_dataset": examples()}
    trainer = Trainer(model, arguments(folder), **data)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def before(folder: str, resume: str | None = None) -> Trainer:
    """Train by a recipe, hung into the Trainer by hand."""
    model = Net()
    steps = EPOCHS * math.ceil(len(examples()) / 4)
    training = Recipe(RECIPE).build(model, steps)

    class Averaging(Trainer):
        def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
            with training.view():
                return super().evaluation_loop(*args, **kwargs)

        def save_model(self, *args: Any, **kwargs: Any) -> None:
            with training.view():
                super().save_model(*args, **kwargs)

    class Keeping(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            kept = {"weights": model.state_dict(), "ema": training.others[-1].state_dict()}
            torch.save(kept, f"{args.output_dir}/checkpoint-{state.global_step}/recipe.pt")

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if resume:
                kept = torch.load(f"{resume}/recipe.pt")
                model.load_state_dict(kept["weights"])
                training.others[-1].load_state_dict(kept["ema"])

    data = {"train_dataset": examples(), "eval_dataset": examples()}
    trainer = Averaging(model, arguments(folder), **data, optimizers=training.attach(), callbacks=[Keeping()])
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def now(folder: str, resume: str | None = None) -> Trainer:
    """Train by a recipe."""
    model = Net()
    data = {"train_dataset": examples(), "eval_dataset": examples()}
    trainer = RecipeTrainer(model, arguments(folder), **data, recipe="clip_norm + muon + cosine + ema")
    trainer.train(resume_from_checkpoint=resume)
    return trainer
