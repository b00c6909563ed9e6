"""A model and batches of unequal numbers of labels, with the gradient of all of them in one batch as the truth."""

import torch
from torch import nn
from torch.nn import functional as F

COUNTS = {
    "int": lambda y: int((y >= 0).sum()),
    "float": lambda y: float((y >= 0).sum()),
    "int64 tensor": lambda y: (y >= 0).sum(),
    "float32 tensor": lambda y: (y >= 0).sum(dtype=torch.float32),
}


def net(dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)).to(dtype)


def labelled(*known, width=6, seed=0):
    """One micro-batch per number, which says how many of its labels are known."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for number in known:
        x = torch.randint(7, (2, width), generator=generator)
        y = torch.randint(4, (2 * width,), generator=generator)
        y[torch.randperm(2 * width, generator=generator)[number:]] = -100
        made.append((x, y.view(2, width)))
    return made


def joined(batches):
    return tuple(torch.cat([part.flatten() for part in parts])[None] for parts in zip(*batches, strict=True))


def summed(count=COUNTS["int"]):
    def loss(model, batch):
        x, y = batch
        total = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-100, reduction="sum")
        return total, count(y)

    return loss


def mean(model, batch):
    x, y = batch
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-100)


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def truth(batches, model=None):
    """The mean loss of all labels in one batch, and its gradient."""
    model = model or net()
    loss = mean(model, joined(batches))
    loss.backward()
    return loss.detach(), gradient(model)


def net_of_seed(seed):
    return net(seed=seed)
