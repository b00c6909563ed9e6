"""A task that offers what any part may need, on a net small enough to train in milliseconds.

Three classes are told apart (with a module for the loss, so that losses can be exchanged), a velocity is learned at
training times, a policy is improved on answers, and every example comes from one of two domains. A weight is used
twice, one branch often rests, and one parameter is frozen.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from sooner.diffusion import training_times
from sooner.rl import Rollouts, policy_loss
from sooner.task import Examples

steps = 6
evaluations = 2
provides = {"domains", "flow times", "rollouts"}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 8)
        self.twice = nn.Linear(8, 8, bias=False)
        self.again = nn.Linear(8, 8, bias=False)
        self.again.weight = self.twice.weight
        self.norm = nn.LayerNorm(8)
        self.rests = nn.Linear(8, 8)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.frozen = nn.Parameter(torch.ones(8), requires_grad=False)
        self.head = nn.Linear(8, 3)
        self.velocity = nn.Linear(9, 2)
        self.loss = nn.CrossEntropyLoss()

    def forward(self, x):
        h = self.norm(self.again(F.gelu(self.twice(F.gelu(self.first(x))))))
        h = h + sum(expert(h) for expert in self.experts) / 4
        return h * self.frozen


def model(seed):
    torch.manual_seed(seed)
    return Net()


def examples(split):
    generator = torch.Generator().manual_seed(len(split))
    x = torch.randn(32, 5, generator=generator)
    times = torch.rand(32, generator=generator)
    return Examples(TensorDataset(x, (x[:, :3]).argmax(1), times), 8, domains=[0] * 24 + [1] * 8)


def losses(model, batch):
    x, y, uniform = batch
    x = x.to(model.head.weight.dtype)
    h = model(x)
    logits = model.head(h)
    times = training_times(uniform).to(x.dtype)
    difference = model.velocity(torch.cat([h, times[:, None]], 1)) - x[:, :2]
    logp = logits.log_softmax(1).gather(1, y[:, None])
    answers = Rollouts(torch.full_like(logp, -1.0).detach(), torch.ones_like(logp).bool(), (y == 0).float())
    return {
        "classes": model.loss(logits, y),
        "flow": difference.square().mean(),
        "policy": 0.1 * policy_loss(logp, answers),
    }


def loss(model, batch):
    return sum(losses(model, batch).values())


class Part:
    """A worker's share of the training data: every so manyth example."""

    batch_size = 8

    def __init__(self, worker, workers, seed):
        everything = examples("train").dataset.tensors
        self.examples = [tensor[worker::workers] for tensor in everything]
        self.labels = self.examples[1]
        self.seed = seed * workers + worker

    def __getitem__(self, step):
        generator = torch.Generator().manual_seed(self.seed * 1_009 % 999_983 + step)
        chosen = torch.randperm(len(self.labels), generator=generator)[: self.batch_size]
        return [tensor[chosen] for tensor in self.examples]


def shards(worker, workers, seed):
    return Part(worker, workers, seed)
