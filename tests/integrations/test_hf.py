"""Recipes in Hugging Face's Trainer: as in a loop of one's own, what is evaluated, saved and resumed, and refusals."""

import logging

import pytest
import tiny
import torch
import words
from torch import nn

import sooner

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
safetensors = pytest.importorskip("safetensors.torch")

from sooner.integrations.hf import RecipeCallback, RecipeTrainer, optimizer  # noqa: E402


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = tiny.net()
        self.seen = []

    def forward(self, x, labels):
        if not self.training:
            self.seen.append(tiny.flat(self.net))
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


DATA = [{"x": x, "labels": y} for x, y in tiny.examples()]


def arguments(folder, **more):
    settings = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "train_sampling_strategy": "sequential"}
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False}
    saving = {"save_strategy": "no", "logging_strategy": "no"}
    return transformers.TrainingArguments(str(folder), **{**settings, **quiet, **saving, **more})


def trainer_of(folder, recipe=tiny.WHOLE, model=None, **more):
    model = Classifier() if model is None else model
    args = arguments(folder, **more)
    return RecipeTrainer(model, args, train_dataset=DATA, eval_dataset=DATA[:4], recipe=recipe)


def stored(folder):
    """The weights in a saved model's file, in the model's order."""
    found = safetensors.load_file(folder / "model.safetensors")
    return torch.cat([found[name].double().flatten() for name, _ in Classifier().named_parameters()])


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", tiny.RECIPES)
def test_a_recipe_trains_as_in_a_loop_of_ones_own(kind, accumulate, tmp_path):
    trainer = trainer_of(tmp_path, tiny.RECIPES[kind], gradient_accumulation_steps=accumulate, max_grad_norm=0)
    trainer.train()
    wanted = tiny.by_hand(tiny.RECIPES[kind].replace("*0.", "0."), 16 // accumulate, tiny.loader(), accumulate)
    assert torch.equal(tiny.flat(trainer.model), wanted[0])
    trainer.evaluate()
    assert torch.equal(trainer.model.seen[-1], wanted[1])
    assert torch.equal(tiny.flat(trainer.model), wanted[0])
    trainer.predict(DATA[:4])
    assert torch.equal(trainer.model.seen[-1], wanted[1])


def test_learning_rates_are_logged_for_the_steps_that_they_were_used_in(tmp_path):
    trainer = trainer_of(tmp_path, "sgd(lr=1) + linear(warmup=0)", logging_strategy="steps", logging_steps=1)
    trainer.train()
    seen = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert seen == pytest.approx([1 - k / 16 for k in range(16)])


@pytest.mark.parametrize("kind", tiny.RECIPES)
def test_training_goes_on_bit_for_bit_from_the_middle(kind, tmp_path):
    every = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}
    whole, again = (trainer_of(tmp_path, tiny.RECIPES[kind], gradient_accumulation_steps=2, **every) for _ in range(2))
    whole.train()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert torch.equal(tiny.flat(again.model), tiny.flat(whole.model))
    assert torch.equal(again.model.seen[-1], whole.model.seen[-1])
    assert torch.equal(stored(tmp_path / "checkpoint-6"), whole.model.seen[1])  # what is saved is what was evaluated
    other = trainer_of(tmp_path, tiny.RECIPES[kind], num_train_epochs=3)
    with pytest.raises(sooner.SoonerError, match="the checkpoint is of a run of 8 steps and this one has 24"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_the_best_model_is_the_one_that_was_evaluated(tmp_path):
    every = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4}
    recipe = "sgd(lr=3) + ema(decay=0.5)"  # so high a learning rate that the last is not the best
    trainer = trainer_of(tmp_path, recipe, load_best_model_at_end=True, metric_for_best_model="loss", **every)
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert losses.index(min(losses)) < len(losses) - 1
    best = trainer.model.seen[losses.index(min(losses))]
    assert torch.equal(tiny.flat(trainer.model), best)
    trainer.evaluate()
    assert torch.equal(trainer.model.seen[-1], best)
    trainer.save_model(str(tmp_path / "final"))
    assert torch.equal(stored(tmp_path / "final"), best)


def test_a_callback_makes_a_trainer_of_any_kind_train_by_a_recipe(tmp_path):
    class Own(transformers.Trainer):
        pass

    trainer = Own(Classifier(), arguments(tmp_path, max_grad_norm=0), train_dataset=DATA)
    trainer.add_callback(RecipeCallback(tiny.ON_THE_LOSS, trainer))
    assert isinstance(trainer, Own)
    trainer.train()
    assert torch.equal(tiny.flat(trainer.model), tiny.by_hand(tiny.ON_THE_LOSS, 16, tiny.loader())[0])
    plain = transformers.Trainer(Classifier(), arguments(tmp_path), train_dataset=DATA)
    with pytest.raises(sooner.SoonerError, match="deepzero needs a closure, which the loop of Hugging Face's Trainer"):
        RecipeCallback("deepzero + sgd", plain)
    assert type(plain) is transformers.Trainer
    callback = next(one for one in trainer.callback_handler.callbacks if isinstance(one, RecipeCallback))
    with pytest.raises(sooner.SoonerError, match="the recipe does not drive this training"):
        callback.on_train_begin(
            trainer.args, trainer.state, trainer.control, optimizer=torch.optim.SGD([torch.zeros(1)])
        )


def test_clipping_by_the_trainer_is_replaced_said_or_refused(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "sooner.integrations.hf"):
        args = arguments(tmp_path)
        clipping = RecipeTrainer(Classifier(), args, train_dataset=DATA, recipe="clip_norm + sgd")
        assert clipping.args.max_grad_norm == 0
        assert args.max_grad_norm == 1  # another Trainer may have it too
        assert "clip_norm takes the place of max_grad_norm=1" in caplog.text
        trainer_of(tmp_path, "sgd").train()
        assert "clips gradients at max_grad_norm=1, which recipe 'sgd' does not say" in caplog.text
    with pytest.raises(sooner.SoonerError, match=r"\(max_grad_norm=0.5\) and clip_norm would both clip"):
        trainer_of(tmp_path, "clip_norm + sgd", max_grad_norm=0.5)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"learning_rate": 3e-4}, r"TrainingArguments\(learning_rate=0.0003\) has no effect where a recipe trains"),
        ({"lr_scheduler_type": "cosine"}, r"TrainingArguments\(lr_scheduler_type='cosine'\) has no effect"),
        ({"optim": "adafactor"}, r"TrainingArguments\(optim='adafactor'\) has no effect"),
        ({"weight_decay": 0.1}, r"TrainingArguments\(weight_decay=0.1\) has no effect"),
        ({"warmup_steps": 5}, r"TrainingArguments\(warmup_steps=5\) has no effect"),
    ],
)
def test_arguments_without_effect_are_refused(more, sentence, tmp_path):
    with pytest.raises(sooner.SoonerError, match=sentence):
        trainer_of(tmp_path, **more)


def test_optimizers_next_to_a_recipe_are_refused(tmp_path):
    model = Classifier()
    for more in (
        {"optimizers": (torch.optim.SGD(model.parameters()), None)},
        {"optimizer_cls_and_kwargs": optimizer("sgd")},
    ):
        with pytest.raises(sooner.SoonerError, match="the Trainer was given optimizers of its own"):
            RecipeTrainer(model, arguments(tmp_path), train_dataset=DATA, recipe="sgd", **more)


def test_an_optimizer_made_too_early_is_refused(tmp_path):
    with pytest.raises(sooner.SoonerError, match=r"the steps of a recipe are known once train\(\) runs"):
        trainer_of(tmp_path).create_optimizer()


def test_a_model_made_by_a_function_and_a_second_training_start_anew(tmp_path):
    trainer = RecipeTrainer(args=arguments(tmp_path), train_dataset=DATA, model_init=Classifier, recipe=tiny.WHOLE)
    trainer.train()
    first = tiny.flat(trainer.model)
    trainer.train()
    assert torch.equal(tiny.flat(trainer.model), first)
    again = trainer_of(tmp_path, "dora + adamw + ema")
    again.train()
    before = again.recipe_training
    again.train()
    assert again.recipe_training is not before
    assert [type(m) for m in again.recipe_training.export().net] == [type(m) for m in tiny.net()]


def test_frozen_parameters_rest_and_half_precision_trains(tmp_path):
    model = Classifier()
    model.net[0].requires_grad_(False)
    rest = model.net[0].weight.clone()
    every = {"save_strategy": "steps", "save_steps": 10, "bf16": True}
    whole = trainer_of(tmp_path, "clip_norm + adamw + cosine + ema", model, **every)
    whole.train()
    assert torch.equal(model.net[0].weight, rest)
    other = Classifier()
    other.net[0].requires_grad_(False)
    again = trainer_of(tmp_path, "clip_norm + adamw + cosine + ema", other, **every)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    assert torch.equal(tiny.flat(other), tiny.flat(model))


def test_one_optimizer_under_the_trainers_own_schedule_sees_the_whole_model(tmp_path):
    model = Classifier()
    chosen = optimizer("sooner.update.Muon", lr=0.02)
    trainer = transformers.Trainer(model, arguments(tmp_path), train_dataset=DATA, optimizer_cls_and_kwargs=chosen)
    trainer.train()
    made = sooner.update.Muon(Classifier(), lr=0.02)
    ours = [[len(g["params"]), g.get("initial_lr", g["lr"])] for g in trainer.optimizer.optimizer.param_groups]
    assert ours == [[len(g["params"]), g["lr"]] for g in made.param_groups]
    with pytest.raises(sooner.SoonerError, match="did you mean"):
        optimizer("muonn")


def test_a_part_of_the_loss_acts_in_language_models_of_the_library(tmp_path):
    drawn = torch.Generator().manual_seed(0)
    data = [{"input_ids": x, "labels": x} for x in torch.randint(3, 20, (16, 8), generator=drawn)]
    found = []
    for recipe in ("adamw", "stablemax + adamw"):
        trainer = RecipeTrainer(
            words.model(), arguments(tmp_path), train_dataset=data, eval_dataset=data, recipe=recipe
        )
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        found.append((before, tiny.flat(trainer.model)))
    assert found[0][0] == found[1][0]  # evaluations measure the usual loss
    assert not torch.equal(found[0][1], found[1][1])
