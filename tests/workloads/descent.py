"""A plain training loop, with torch's own optimizers, so that a task can be tested apart from sooner's loop."""

import torch


def train(task, make_optimizer, steps, seed=0, watch=()):
    """Train at a constant rate; return (model, loss of every step, evaluations after the steps of `watch`)."""
    model, batches = task.model(seed), task.batches(seed, "train")
    optimizer = make_optimizer(model.parameters())
    losses, watched = [], []
    for step in range(steps):
        loss = task.loss(model, batches[step])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if step + 1 in watch:
            watched.append(evaluate(task, model))
    return model, losses, watched


@torch.no_grad()
def evaluate(task, model):
    """Return the loss and the metrics on the first evaluation batch, in evaluation mode."""
    model.eval()
    batch = task.batches(0, "eval")[0]
    found = {"loss": task.loss(model, batch), **(task.metrics(model, batch) if hasattr(task, "metrics") else {})}
    model.train()
    return {name: float(value) for name, value in found.items()}
