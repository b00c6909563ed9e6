"""Recipes in TRL's trainers, with and without adapters of peft, on random models: SFT, DPO and GRPO."""

import pytest
import torch
import words

import sooner

pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer  # noqa: E402

from sooner.integrations.hf import RecipeCallback, RecipeMixin  # noqa: E402

# what TRL and peft call of transformers
pytestmark = pytest.mark.filterwarnings("ignore:`.*gradient_checkpointing.*` is deprecated:FutureWarning")

QUIET = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "bf16": False, "dataloader_pin_memory": False}
SHORT = {"per_device_train_batch_size": 2, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
RECIPE = "clip_norm + muon + cosine + ema(decay=0.5)"


def sft(folder, recipe=RECIPE, **more):
    data = datasets.Dataset.from_dict({"text": ["a b c d e", "b c d", "f g h i", "x y z a"] * 2})
    args = SFTConfig(str(folder), gradient_accumulation_steps=2, **QUIET, **SHORT)
    trainer = SFTTrainer(words.model(), args, train_dataset=data, processing_class=words.tokenizer(), **more)
    trainer.add_callback(RecipeCallback(recipe, trainer))
    return trainer


def test_fine_tuning_goes_on_bit_for_bit(tmp_path):
    whole, again = sft(tmp_path), sft(tmp_path)
    before = {name: p.clone() for name, p in whole.model.named_parameters()}
    whole.train()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert whole.recipe_training.others[-1].steps == 4
    for name, p in whole.model.named_parameters():
        assert not torch.equal(p, before[name])
        assert torch.equal(p, dict(again.model.named_parameters())[name])


def test_adapters_are_trained_and_a_part_that_cannot_act_is_refused(tmp_path):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lora_dropout=0.0)
    trainer = sft(tmp_path, peft_config=lora)
    frozen = {name: p.clone() for name, p in trainer.model.named_parameters() if not p.requires_grad}
    trainer.train()
    assert len(trainer.recipe_training.state) == 4
    assert all(torch.equal(p, dict(trainer.model.named_parameters())[name]) for name, p in frozen.items())
    again = sft(tmp_path, peft_config=lora)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for (name, p), q in zip(trainer.model.named_parameters(), again.model.parameters(), strict=True):
        assert torch.equal(p, q), name
    with pytest.raises(sooner.SoonerError, match=r"loss never calls torch\.nn\.functional\.cross_entropy"):
        sft(tmp_path, "stablemax + adamw").train()  # TRL evaluates it in pieces of its own


def test_preferences_are_trained_by_a_recipe(tmp_path):
    data = datasets.Dataset.from_dict({"prompt": ["a b", "c d"], "chosen": [" e f", " g"], "rejected": [" x", " y z"]})
    args = DPOConfig(str(tmp_path), **QUIET, **SHORT)

    class Tuner(RecipeMixin, DPOTrainer):
        pass

    models = {"model": words.model(), "ref_model": words.model(), "processing_class": words.tokenizer()}
    trainer = Tuner(**models, args=args, train_dataset=data, recipe=RECIPE)
    trainer.train()
    assert trainer.recipe_training.others[-1].steps == 4


def test_rewards_are_trained_by_a_recipe(tmp_path):
    data = datasets.Dataset.from_dict({"prompt": ["a b", "c d"]})
    args = GRPOConfig(str(tmp_path), num_generations=2, max_completion_length=4, **QUIET, **{**SHORT, "max_steps": 2})

    def reward(completions, **_):
        return [float(text.count("a") + len(text) % 3) for text in completions]

    trainer = GRPOTrainer(words.model(), reward, args=args, train_dataset=data, processing_class=words.tokenizer())
    trainer.add_callback(RecipeCallback(RECIPE, trainer))
    trainer.train()
    assert trainer.recipe_training.others[-1].steps == 2
