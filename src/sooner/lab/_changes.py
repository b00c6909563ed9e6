"""Changed workloads: the same task with another batch, other data, or another network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sooner.foundation.seeded import seeded
from sooner.task import Task
from sooner.workloads import _digits, charlm, grammar, quadratic
from sooner.workloads._seeded import Stream

Change = Callable[[Task], Task]


@dataclass(frozen=True)
class Repeated:
    """Training batches that begin again after `count` of them."""

    batches: Any
    count: int

    def __getitem__(self, step: int) -> Any:
        return self.batches[step % self.count]


@dataclass(frozen=True)
class Averaged:
    """Noise vectors of the bowl, each the mean of `count` of them: a batch that is as many times as large."""

    batches: Any
    count: int

    def __getitem__(self, step: int) -> Any:
        drawn = [self.batches[step * self.count + i][0] for i in range(self.count)]
        return (torch.stack(drawn).mean(0),)


def training(task: Task, made: Callable[[int], Any]) -> Task:
    """Return the task with other training batches; `made` gets the seed."""
    return replace(task, batches=partial(_batches, task.batches, made), spec="")


def _batches(before: Callable[[int, str], Any], made: Callable[[int], Any], seed: int, split: str) -> Any:
    return before(seed, split) if split == "eval" else made(seed)


def repeated(count: int, task: Task) -> Task:
    """Return the task with `count` training batches, again and again."""
    return training(task, lambda seed: Repeated(task.batches(seed, "train"), count))


def averaged(count: int, task: Task) -> Task:
    """Return `quadratic` with batches of `count` draws."""
    return training(task, lambda seed: Averaged(task.batches(seed, "train"), count))


def noiseless(task: Task) -> Task:
    """Return `quadratic` without noise."""
    return training(task, lambda seed: Stream(lambda index: (torch.zeros(quadratic.DIMENSIONS),)))


def images(size: int, task: Task) -> Task:
    """Return `digits` with batches of `size` images."""
    return training(task, lambda seed: _digits.shuffled_passes(seed, "train", size))


def sequences(size: int, task: Task) -> Task:
    """Return `charlm` with batches of `size` windows."""
    return training(task, lambda seed: Stream(partial(charlm.windows, charlm.CONTEXT, seed, "train", size)))


def few_images(task: Task) -> Task:
    """Return `digits` with 128 images to train on, in batches of 64."""
    return training(task, lambda seed: _digits.shuffled_passes(seed, "train", 64, _few))


def _few(split: str) -> _digits.Pair:
    pixels, labels = _digits.divided(split)
    return (pixels, labels) if split == "eval" else (pixels[:128], labels[:128])


def sized(size: float, task: Task) -> Task:
    """Return a task with about `size` times the parameters."""
    return replace(task, model=partial(_sized, task.model, size), spec="")


def _sized(model: Callable[..., nn.Module], size: float, seed: int) -> nn.Module:
    return model(seed, size)


def from_scratch(task: Task) -> Task:
    """Return `finetune` with random weights in place of the pretrained ones."""
    return replace(task, model=grammar.model, spec="")


def sorted_images(task: Task) -> Task:
    """Return `digits` with training passes that go through the classes one after the other."""
    return training(task, lambda seed: Stream(_by_class))


def _by_class(index: int) -> tuple[Tensor, Tensor]:
    pixels, labels = _sorted()
    start = index * 64 % len(labels)
    chosen = torch.arange(start, start + 64) % len(labels)
    return pixels[chosen], labels[chosen]


@functools.cache
def _sorted() -> tuple[Tensor, Tensor]:
    pixels, labels = _digits.divided("train")
    order = labels.argsort(stable=True)
    return pixels[order], labels[order]


def network(made: Callable[[], nn.Module], task: Task) -> Task:
    """Return the task with another network, its weights drawn from the seed."""

    def model(seed: int) -> nn.Module:
        with seeded(seed):
            return made()

    return replace(task, model=model, spec="")


class Deep(nn.Module):
    """Images [N, 1, 8, 8] -> logits [N, 10] by a stack of layers of 64 ReLUs, drawn as He et al. (2015) do.

    Args:
        layers: how many.
        residual: whether each is added to what came before it.
        gain: factor of the initial weights.
    """

    def __init__(self, layers: int, residual: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        self.body = nn.ModuleList(nn.Linear(64, 64) for _ in range(layers))
        self.head = nn.Linear(64, 10)
        self.residual = residual
        with torch.no_grad():
            for layer in self.body:
                assert isinstance(layer, nn.Linear)
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
                layer.weight.mul_(gain / layers**0.5 if residual else gain)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the ten classes."""
        x = images.flatten(1)
        for layer in self.body:
            x = x + torch.relu(layer(x)) if self.residual else torch.relu(layer(x))
        logits: Tensor = self.head(x)
        return logits


def without_batch_norm(task: Task) -> Task:
    """Return `digits` with no batch normalization."""
    return network(lambda: _digits.Network(lambda channels: nn.Identity()), task)


def without_layer_norm(task: Task) -> Task:
    """Return `charlm` with no layer normalization."""

    def made() -> nn.Module:
        model = charlm.GPT()
        for block in model.blocks:
            block.attention_norm, block.mlp_norm = nn.Identity(), nn.Identity()
        model.norm = nn.Identity()  # type: ignore[assignment]
        return model

    return network(made, task)


def shrunk(task: Task) -> Task:
    """Return `charlm` whose weights begin a tenth as large."""

    def made() -> nn.Module:
        model = charlm.GPT()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(0.1)
        return model

    return network(made, task)


CHANGES: dict[str, Change] = {
    "as it is": lambda task: task,
    "20 batches again and again": partial(repeated, 20),
    "without noise": noiseless,
    **{f"batches of {count} draws": partial(averaged, count) for count in (4, 16, 64)},
    **{f"batches of {size} images": partial(images, size) for size in (16, 256, 1024)},
    **{f"batches of {size} windows": partial(sequences, size) for size in (2, 32)},
    "128 images": few_images,
    "sorted by class": sorted_images,
    "without normalization": without_batch_norm,
    "batches of 1024 images, without normalization": lambda task: images(1024, without_batch_norm(task)),
    "no layer normalization": without_layer_norm,
    "weights a tenth as large": shrunk,
    "a quarter of the parameters": partial(sized, 0.25),
    "four times the parameters": partial(sized, 4.0),
    "from scratch": from_scratch,
    "30 layers": partial(network, lambda: Deep(30)),
    "30 residual layers": partial(network, lambda: Deep(30, residual=True)),
    "8 layers": partial(network, lambda: Deep(8)),
    "8 layers from small weights": partial(network, lambda: Deep(8, gain=0.3)),
}
"""By the name that an arm gives."""
