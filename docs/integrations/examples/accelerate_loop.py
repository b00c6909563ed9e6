"""A loop of Accelerate without a recipe, with one by hand, and with `sooner.integrations.accelerate`."""

import math

import torch
from accelerate import Accelerator
from data import EPOCHS, RECIPE, Net, examples

from sooner import Recipe
from sooner.integrations.accelerate import prepare


def evaluate(model: torch.nn.Module) -> float:
    """Return the mean loss."""
    batch = torch.utils.data.default_collate(examples())
    with torch.no_grad():
        return float(model(**batch)["loss"])


def plain(folder: str, resume: str | None = None) -> list[float]:
    """Train as the library does."""
    losses = []
    accelerator, model = Accelerator(cpu=True), Net()
    loader = torch.utils.data.DataLoader(examples(), batch_size=4)
    optimizer = torch.optim.AdamW(model.parameters())
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    if resume:
        accelerator.load_state(resume)
    for epoch in range(1 if resume else 0, EPOCHS):
        for batch in loader:
            accelerator.backward(model(**batch)["loss"])
            optimizer.step()
            optimizer.zero_grad()
        losses.append(evaluate(model))
        accelerator.save_state(f"{folder}/{epoch}")
    return losses


def before(folder: str, resume: str | None = None) -> list[float]:
    """Train by a recipe, hung into the loop by hand."""
    losses = []
    accelerator, model = Accelerator(cpu=True), Net()
    loader = torch.utils.data.DataLoader(examples(), batch_size=4)
    steps = EPOCHS * math.ceil(len(loader) / accelerator.num_processes)
    training = Recipe(RECIPE).build(model, steps)
    optimizer, schedule = training.attach()
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    accelerator.register_for_checkpointing(schedule, training.others[-1])
    if resume:
        accelerator.load_state(resume)
    for epoch in range(1 if resume else 0, EPOCHS):
        for batch in loader:
            accelerator.backward(model(**batch)["loss"])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        with training.view():
            losses.append(evaluate(model))
        accelerator.save_state(f"{folder}/{epoch}")
    return losses


def now(folder: str, resume: str | None = None) -> list[float]:
    """Train by a recipe."""
    losses = []
    accelerator, model = Accelerator(cpu=True), Net()
    loader = torch.utils.data.DataLoader(examples(), batch_size=4)
    recipe = "clip_norm + muon + cosine + ema"
    model, optimizer, loader, training = prepare(accelerator, recipe, model, loader, epochs=EPOCHS)
    if resume:
        accelerator.load_state(resume)
    for epoch in range(1 if resume else 0, EPOCHS):
        for batch in loader:
            accelerator.backward(model(**batch)["loss"])
            optimizer.step()
            optimizer.zero_grad()
        with training.view():
            losses.append(evaluate(model))
        accelerator.save_state(f"{folder}/{epoch}")
    return losses
