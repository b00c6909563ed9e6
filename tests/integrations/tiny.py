"""What the tests of the integrations share: small data, a small net, and what a recipe does to it in a plain loop."""

import torch
from torch import nn

from sooner.recipe import Recipe

WHOLE = "clip_norm(max_norm=0.5) + muon(lr=0.02) + cosine + ema(decay=0.5)"
SEVERAL = "muon(on='*0.weight', lr=0.02) + torch.optim.AdamW(on='rest', lr=0.01) + linear(warmup=0) + ema(decay=0.5)"
ON_THE_LOSS = "stablemax + adamw + cosine"
RECIPES = {"whole": WHOLE, "several optimizers": SEVERAL, "loss": ON_THE_LOSS}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def examples(count=32):
    drawn = torch.Generator().manual_seed(1)
    return list(zip(torch.randn(count, 6, generator=drawn), torch.randint(3, (count,), generator=drawn), strict=True))


def loader(count=32, batch=4):
    return torch.utils.data.DataLoader(examples(count), batch_size=batch)


def loss_of(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


def flat(model):
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


def by_hand(recipe, steps, batches, accumulate=1):
    """Train a net in a loop of one's own; return weights, the weights shown, and the learning rates used."""
    model = net()
    training = Recipe(recipe).build(model, steps)
    rates = []
    taken = 0
    micro = list(batches)
    while taken < steps:
        for start in range(0, len(micro), accumulate):
            if taken == steps:
                break
            group = micro[start : start + accumulate]
            for batch in group:
                with training.during_loss():
                    loss = loss_of(model, batch)
                (loss / accumulate).backward()
            rates.append(training.learning_rates()[0])
            training.step()
            training.zero_grad()
            taken += 1
    with training.view():
        shown = flat(model)
    return flat(model), shown, rates
