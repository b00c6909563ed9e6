"""A LightningModule without a recipe, with one by hand, and with `sooner.integrations.lightning`."""

from typing import Any

import torch
from data import EPOCHS, RECIPE, Net, examples
from lightning import pytorch as pl

from sooner import Recipe
from sooner.integrations.lightning import configure_optimizers


class Shared(pl.LightningModule):
    """What all three share."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def training_step(self, batch: Any, index: int) -> Any:
        """Return the loss."""
        return self.net(**batch)["loss"]

    def validation_step(self, batch: Any, index: int) -> None:
        """Log the loss."""
        self.log("loss", self.net(**batch)["loss"])


def fit(module: pl.LightningModule, folder: str, resume: str | None, callbacks: list[Any]) -> pl.Trainer:
    """Train it."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    saver = pl.callbacks.ModelCheckpoint(folder, save_top_k=-1, filename="{epoch}")
    trainer = pl.Trainer(accelerator="cpu", max_epochs=EPOCHS, callbacks=[*callbacks, saver], **quiet)
    loaders = [torch.utils.data.DataLoader(examples(), batch_size=4) for _ in range(2)]
    trainer.fit(module, *loaders, ckpt_path=resume, weights_only=False)
    return trainer


def plain(folder: str, resume: str | None = None) -> pl.Trainer:
    """Train as the library does."""

    class Module(Shared):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters())

    return fit(Module(), folder, resume, callbacks=[])


def before(folder: str, resume: str | None = None) -> pl.Trainer:
    """Train by a recipe, hung into the module by hand."""

    class Module(Shared):
        def configure_optimizers(self) -> Any:
            self.recipe = Recipe(RECIPE).build(self, int(self.trainer.estimated_stepping_batches))
            optimizer, schedule = self.recipe.attach()
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["ema"] = self.recipe.others[-1].state_dict()
            with self.recipe.view():
                checkpoint["state_dict"] = {name: value.clone() for name, value in self.state_dict().items()}
            checkpoint["weights"] = self.state_dict()

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.resumed = checkpoint

        def on_train_start(self) -> None:
            if hasattr(self, "resumed"):
                self.load_state_dict(self.resumed["weights"])
                self.recipe.others[-1].load_state_dict(self.resumed["ema"])

    class Showing(pl.Callback):
        def on_validation_start(self, trainer: pl.Trainer, module: Any) -> None:
            self.view = module.recipe.view()
            self.view.__enter__()

        def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
            self.view.__exit__(None, None, None)

    return fit(Module(), folder, resume, callbacks=[Showing()])


def now(folder: str, resume: str | None = None) -> pl.Trainer:
    """Train by a recipe."""

    class Module(Shared):
        def configure_optimizers(self) -> Any:
            return configure_optimizers(self, "clip_norm + muon + cosine + ema")

    return fit(Module(), folder, resume, callbacks=[])
