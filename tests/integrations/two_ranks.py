"""Run by test_two_ranks.py as one of two processes: ``two_ranks.py FOLDER`` trains in each framework that is there."""

import importlib.util
import sys
import warnings
from pathlib import Path

import tiny
import torch
from torch import nn

EPOCHS, BATCH = 2, 2


def accelerate(folder):
    from accelerate import Accelerator

    from sooner.integrations.accelerate import prepare

    accelerator = Accelerator(cpu=True)
    net = tiny.net()
    model, optimizer, loader, training = prepare(accelerator, tiny.WHOLE, net, tiny.loader(batch=BATCH), epochs=EPOCHS)
    for _ in range(EPOCHS):
        for batch in loader:
            accelerator.backward(tiny.loss_of(model, batch))
            optimizer.step()
            optimizer.zero_grad()
    return net, training


def hf(folder):
    from transformers import TrainingArguments

    from sooner.integrations.hf import RecipeTrainer

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tiny.net()

        def forward(self, x, labels):
            return {"loss": tiny.loss_of(self.net, (x, labels))}

    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "ddp_backend": "gloo", "save_strategy": "no"}
    sizes = {"num_train_epochs": EPOCHS, "per_device_train_batch_size": BATCH, "train_sampling_strategy": "sequential"}
    data = [{"x": x, "labels": y} for x, y in tiny.examples()]
    args = TrainingArguments(folder, dataloader_pin_memory=False, **quiet, **sizes)
    trainer = RecipeTrainer(Classifier(), args, train_dataset=data, recipe=tiny.WHOLE)
    trainer.train()
    return trainer.model.net, trainer.recipe_training


def lightning(folder):
    from lightning import pytorch as pl

    from sooner.integrations.lightning import configure_optimizers, training_of

    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = tiny.net()

        def training_step(self, batch, index):
            return tiny.loss_of(self.net, batch)

        def configure_optimizers(self):
            return configure_optimizers(self, tiny.WHOLE)

    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    several = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=EPOCHS, **several, **quiet)
    module = Net()
    sampler = torch.utils.data.DistributedSampler(tiny.examples(), shuffle=False)
    trainer.fit(module, torch.utils.data.DataLoader(tiny.examples(), batch_size=BATCH, sampler=sampler))
    return module.net, training_of(trainer)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.distributed.init_process_group("gloo")
    (folder,) = sys.argv[1:]
    for library, train in {"transformers": hf, "accelerate": accelerate, "lightning": lightning}.items():
        if importlib.util.find_spec(library) is None:
            continue
        net, training = train(folder)
        with training.view():
            shown = tiny.flat(net)
        found = {"weights": tiny.flat(net), "shown": shown, "steps": training.schedules[0].last_epoch}
        torch.save(found, Path(folder) / f"{library} {torch.distributed.get_rank()}.pt")
    torch.distributed.destroy_process_group()
