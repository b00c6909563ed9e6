"""Three small encoders with a shared trunk learn to match views of the same thing; two in five of the texts are wrong.

A thing is one of 20 classes with a code of its own; "video", "audio" and "text" are fixed random networks of class
and code. The two losses, video with audio and video with text, conflict where the text belongs to another class.
"""

from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.workloads._seeded import Batch, Finite, Stream, generator, seeded

steps = 300
metric = "error"
evaluations = 20

CLASSES = 20
CODE = 8
WIDTH = 32
BATCH = 32
MISMATCHED = 0.4
TEMPERATURE = 0.2
CONSTANT = 2022  # seeds the three renderings, which belong to the task and not to a run


class Encoders(nn.Module):
    """Three views [N, WIDTH] -> three unit vectors [N, WIDTH] through one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.trunk = nn.Sequential(nn.ReLU(), nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, views: Tensor) -> list[Tensor]:
        """Return the three embeddings of views [3, N, WIDTH]."""
        return [F.normalize(self.trunk(layer(view)), dim=1) for layer, view in zip(self.inputs, views, strict=True)]


def model(seed: int) -> nn.Module:
    """Return the encoders with weights drawn from `seed`."""
    with seeded(seed):
        return Encoders()


def batches(seed: int, split: str) -> Stream:
    """Return batches (views [3, N, WIDTH],); in the evaluation split every text is right."""
    if split == "eval":
        return Finite(partial(_drawn, seed, split, 400, 0.0), 1)
    return Stream(partial(_drawn, seed, split, BATCH, MISMATCHED))


def losses(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the contrastive losses of video with audio and of video with text, in nats."""
    video, audio, text = model(batch[0])
    return {"audio": _contrast(video, audio), "text": _contrast(video, text)}


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return their sum."""
    return sum(losses(model, batch).values(), torch.zeros(()))


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the share of videos whose nearest text, out of 20 at a time, is not their own."""
    video, _, text = model(batch[0])
    groups = video.view(-1, 20, WIDTH) @ text.view(-1, 20, WIDTH).transpose(1, 2)
    return {"error": (groups.argmax(dim=2) != torch.arange(20)).float().mean()}


def _contrast(a: Tensor, b: Tensor) -> Tensor:
    return F.cross_entropy(a @ b.T / TEMPERATURE, torch.arange(len(a), device=a.device))


def _drawn(seed: int, split: str, rows: int, mismatched: float, index: int) -> Batch:
    random = generator(seed, split, index)
    classes, codes = random.integers(0, CLASSES, rows), random.standard_normal((rows, CODE))
    wrong = random.random(rows) < mismatched
    things = [(classes, codes)] * 2 + [(np.where(wrong, random.integers(0, CLASSES, rows), classes), codes)]
    things[2] = (things[2][0], np.where(wrong[:, None], random.standard_normal((rows, CODE)), codes))
    views = [_rendered(view, *thing) for view, thing in enumerate(things)]
    return (torch.from_numpy(np.stack(views)).float(),)


def _rendered(view: int, classes: np.ndarray, codes: np.ndarray) -> np.ndarray:
    first, second = _rendering(view)
    hidden = np.tanh(np.concatenate([np.eye(CLASSES)[classes] * 2, codes], axis=1) @ first)
    return np.asarray(hidden @ second)


@cache
def _rendering(view: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng([CONSTANT, view])
    return random.standard_normal((CLASSES + CODE, 64)) / 3, random.standard_normal((64, WIDTH)) / 8
