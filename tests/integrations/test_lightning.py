"""Recipes in Lightning: as in a loop of one's own, views at evaluation and in checkpoints, exact resume, refusals."""

import pytest
import tiny
import torch

import sooner

pl = pytest.importorskip("lightning.pytorch")

from sooner.integrations.lightning import EMA, configure_optimizers, training_of  # noqa: E402

pytestmark = [
    # Lightning's advice to whoever trains something larger, and what it calls of PyTorch
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning"),
]


class Net(pl.LightningModule):
    def __init__(self, recipe=tiny.WHOLE, *, manual=False, prepared=False):
        super().__init__()
        self.net = tiny.net()
        self.recipe, self.prepared = recipe, prepared
        self.automatic_optimization = not manual
        self.seen = []

    def training_step(self, batch, index):
        loss = tiny.loss_of(self.net, batch)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            self.manual_backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        return loss

    def validation_step(self, batch, index):
        self.log("loss", tiny.loss_of(self.net, batch))
        self.seen.append(tiny.flat(self.net))

    test_step = validation_step

    def configure_optimizers(self):
        return configure_optimizers(self, self.recipe, prepared=self.prepared)


class OwnOptimizer(Net):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module, folder, *callbacks, ckpt_path=None, validate=False, **settings):
    settings = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_progress_bar": False, **settings}
    trainer = pl.Trainer(
        default_root_dir=folder, enable_model_summary=False, callbacks=[*callbacks], num_sanity_val_steps=0, **settings
    )
    trainer.fit(module, tiny.loader(), tiny.loader(4) if validate else None, ckpt_path=ckpt_path, weights_only=False)
    return trainer


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", tiny.RECIPES)
def test_a_recipe_trains_as_in_a_loop_of_ones_own(kind, accumulate, tmp_path):
    module = Net(tiny.RECIPES[kind])
    trainer = fit(module, tmp_path, accumulate_grad_batches=accumulate, enable_checkpointing=False)
    wanted = tiny.by_hand(module.recipe, 16 // accumulate, tiny.loader(), accumulate)
    assert torch.equal(tiny.flat(module.net), wanted[0])
    with training_of(trainer).view():
        assert torch.equal(tiny.flat(module.net), wanted[1])
    assert "training_step" not in vars(module)  # nothing stays on it


@pytest.mark.parametrize("kind", ["whole", "loss"])
def test_steps_taken_by_hand_in_the_module_do_the_same(kind, tmp_path):
    module = Net(tiny.RECIPES[kind], manual=True)
    fit(module, tmp_path, enable_checkpointing=False)
    assert torch.equal(tiny.flat(module.net), tiny.by_hand(module.recipe, 16, tiny.loader())[0])


def test_evaluations_and_checkpoints_see_the_average_and_resuming_goes_on_exactly(tmp_path):
    saver = pl.callbacks.ModelCheckpoint(tmp_path, monitor="loss", save_top_k=-1, filename="{epoch}")
    module = Net()
    trainer = fit(module, tmp_path, saver, validate=True, max_epochs=3)
    shown = [tiny.by_hand(module.recipe, 24, list(tiny.loader()) * 3)[1]]
    assert torch.equal(module.seen[-1], shown[0])
    assert not torch.equal(tiny.flat(module.net), shown[0])
    for epoch in range(3):  # what is saved is what was evaluated
        state = torch.load(tmp_path / f"epoch={epoch}.ckpt", weights_only=True)["state_dict"]
        assert torch.equal(torch.cat([v.double().flatten() for v in state.values()]), module.seen[epoch])
    other = Net()
    saver = pl.callbacks.ModelCheckpoint(tmp_path, monitor="loss", save_top_k=-1, filename="again {epoch}")
    fit(other, tmp_path, saver, validate=True, max_epochs=3, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert torch.equal(tiny.flat(other.net), tiny.flat(module.net))
    assert torch.equal(other.seen[-1], module.seen[-1])

    trainer.test(module, tiny.loader(4), verbose=False)
    assert torch.equal(module.seen[-1], shown[0])
    trainer.test(module, tiny.loader(4), ckpt_path=tmp_path / "epoch=0.ckpt", weights_only=False, verbose=False)
    assert torch.equal(module.seen[-1], module.seen[0])
    trainer.test(module, tiny.loader(4), verbose=False)  # goes on with what was loaded
    assert torch.equal(module.seen[-1], module.seen[0])


def test_a_checkpoint_of_weights_only_holds_the_average_too(tmp_path):
    module = Net()
    saver = pl.callbacks.ModelCheckpoint(tmp_path, save_weights_only=True, filename="w")
    trainer = fit(module, tmp_path, saver)
    state = torch.load(tmp_path / "w.ckpt", weights_only=True)["state_dict"]
    with training_of(trainer).view():
        assert torch.equal(tiny.flat(module.net), torch.cat([v.double().flatten() for v in state.values()]))


def test_a_checkpoint_inside_an_evaluation_is_refused(tmp_path):
    class Saving(Net):
        def validation_step(self, batch, index):
            self.trainer.save_checkpoint(tmp_path / "inside.ckpt")

    with pytest.raises(sooner.SoonerError, match="a checkpoint inside an evaluation would take the averaged weights"):
        fit(Saving(), tmp_path, validate=True)


def half(kind):
    """Float16 or bfloat16 on a CPU, for which Lightning has no word where a scaler is needed."""
    return pl.plugins.MixedPrecision(
        kind, "cpu", torch.amp.GradScaler("cpu", enabled=True) if kind == "16-mixed" else None
    )


@pytest.mark.parametrize("kind", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains_the_same_steps(kind, tmp_path):
    module = Net("clip_norm + torch.optim.SGD(lr=0.5) + linear(warmup=0) + ema")
    trainer = fit(module, tmp_path, plugins=[half(kind)], enable_checkpointing=False)
    training = training_of(trainer)
    assert (training.schedules[0].last_epoch, training.others[-1].steps) == (16, 16)
    wanted = tiny.by_hand(module.recipe, 16, tiny.loader())[0]
    torch.testing.assert_close(tiny.flat(module.net), wanted, rtol=0.05, atol=0.02)


def test_a_step_that_the_scaler_leaves_out_counts_for_nobody(tmp_path):
    class Overflowing(Net):
        def training_step(self, batch, index):
            return super().training_step(batch, index) * (torch.inf if index == 1 else 1.0)

    module = Overflowing("torch.optim.SGD(lr=0.5) + linear(warmup=0) + ema")
    trainer = fit(module, tmp_path, plugins=[half("16-mixed")], enable_checkpointing=False)
    training = training_of(trainer)
    assert (training.schedules[0].last_epoch, training.others[-1].steps) == (14, 14)


def test_learning_rates_are_shown_to_monitors(tmp_path):
    seen = []

    class Logger(pl.loggers.logger.DummyLogger):
        def log_metrics(self, metrics, step=None):
            seen.extend(value for key, value in metrics.items() if key.startswith("lr-"))

    monitor = pl.callbacks.LearningRateMonitor("step")
    fit(Net("sgd(lr=1) + linear(warmup=0)"), tmp_path, monitor, logger=Logger(), log_every_n_steps=1)
    assert seen == pytest.approx([1 - k / 16 for k in range(16)])


def test_an_average_beside_optimizers_of_ones_own(tmp_path):
    def trained(name, ckpt_path=None):
        module = OwnOptimizer()
        saver = pl.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, filename=name + " {epoch}")
        return module, fit(module, tmp_path, saver, EMA(decay=0.5), ckpt_path=ckpt_path, validate=True)

    module, trainer = trained("first")
    recipe = "torch.optim.SGD(lr=0.1) + ema(decay=0.5)"
    weights, shown, _ = tiny.by_hand(recipe, 16, tiny.loader())
    assert torch.equal(tiny.flat(module.net), weights)
    assert torch.equal(module.seen[-1], shown)
    state = torch.load(tmp_path / "first epoch=1.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(torch.cat([v.double().flatten() for v in state.values()]), shown)
    again, _ = trained("second", tmp_path / "first epoch=0.ckpt")
    assert torch.equal(tiny.flat(again.net), weights)
    assert torch.equal(again.seen[-1], shown)
    trainer.test(module, tiny.loader(4), ckpt_path=tmp_path / "first epoch=0.ckpt", weights_only=False, verbose=False)
    assert torch.equal(module.seen[-1], module.seen[0])
    with pytest.raises(sooner.SoonerError, match=r"decay=1.5 is not a number in \[0, 1\)"):
        EMA(decay=1.5)


@pytest.mark.parametrize(
    ("recipe", "settings", "sentence"),
    [
        ("deepzero + sgd", {}, "deepzero needs a closure, which the loop of Lightning does not provide"),
        (
            "clip_norm + sgd",
            {"gradient_clip_val": 1.0},
            r"Trainer\(gradient_clip_val=1.0\) and clip_norm would both clip",
        ),
        ("sgd + ema", {"callbacks": True}, "and the callback EMA both average the weights"),
        ("sgd", {"max_epochs": -1}, "this Trainer never ends"),
        ("dora + sgd", {}, "dora changes the model itself, and Lightning loads checkpoints before"),
    ],
)
def test_what_lightning_would_drop_is_refused(recipe, settings, sentence, tmp_path):
    callbacks = [EMA()] if settings.pop("callbacks", False) else []
    with pytest.raises(sooner.SoonerError, match=sentence):
        fit(Net(recipe), tmp_path, *callbacks, enable_checkpointing=False, **settings)


def test_surgery_done_before_goes_on():
    module = Net("dora + adamw", prepared=True)
    sooner.Recipe("dora + adamw").prepare(module)
    trainer = fit(module, None, enable_checkpointing=False)
    assert training_of(trainer).model is module
    with pytest.raises(sooner.SoonerError, match="no recipe drives this Trainer"):
        training_of(pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"))


def test_a_second_fit_starts_the_recipe_anew(tmp_path):
    module = Net()
    trainer = fit(module, tmp_path, enable_checkpointing=False)
    first = training_of(trainer)
    again = fit(module, tmp_path, *trainer.callbacks, enable_checkpointing=False)
    assert training_of(again) is not first
    assert len([one for one in again.callbacks if hasattr(one, "training")]) == 1
