"""What shapes promises: images without end that are all different, known label noise, and something to learn."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from descent import train

from sooner.workloads import shapes


def test_images_are_of_one_scale_and_all_different():
    batches = shapes.batches(3, "train")
    images = torch.cat([batches[index][0] for index in range(32)])
    assert len(images.flatten(1).unique(dim=0)) == 32 * shapes.BATCH
    assert abs(float(images.mean())) < 0.1
    assert 0.5 < float(images.std()) < 1.5


def test_classes_come_equally_often_and_a_few_labels_are_wrong():
    batches, counts, wrong = shapes.batches(3, "train"), torch.zeros(shapes.CLASSES), 0
    for index in range(100):
        labels = batches[index][1]
        counts += torch.bincount(labels, minlength=shapes.CLASSES)
        _, own = shapes._images(shapes.generator(3, "train", index), shapes.BATCH)
        wrong += int((labels.numpy() != own).sum())
    assert float(((counts - 640).square() / 640).sum()) < 28  # chi-square, 9 degrees of freedom, 1 in 1,000
    expected = 6400 * shapes.WRONG
    assert abs(wrong - expected) < 4 * math.sqrt(expected)


def test_the_floor_is_the_loss_of_who_knows_every_class():
    """The expected loss on the evaluation labels of a network that is certain of the class, and of its errors."""
    _, labels = shapes.batches(0, "eval")[0]
    torch.testing.assert_close(labels.sum(1), torch.ones(len(labels)))
    knowing = -(labels * labels.log()).sum(1).mean()
    assert float(knowing) == pytest.approx(shapes.floor(), rel=1e-5)


def test_rare_outlines_come_in_proportion_to_their_rank():
    shares = np.diff(shapes._cumulative(), prepend=0)
    np.testing.assert_allclose(shares[0] / shares, np.arange(1, shapes.OUTLINES + 1))
    assert shapes._cumulative()[-1] == pytest.approx(1)


def test_an_outline_is_where_its_equation_says(monkeypatch):
    """One image without noise, by an independent loop over its pixels."""

    class Still:
        """Draws the middle of every law: no turn, no shift, contrast 1 and light on dark, the occluder far away."""

        def integers(self, high, size):
            return np.full(size, 4)

        def random(self, shape):
            return np.full(shape, 0.1)

        def uniform(self, low, high, size):
            return np.full(size, high if low == 3 else (low + high) / 2)

        def standard_normal(self, shape, dtype):
            return np.zeros(shape, dtype)

    pixels, _ = shapes._images(Still(), 1)
    waves, hollow = (array[4, 0] for array in shapes._outlines())
    for row in range(shapes.SIDE):
        for column in range(shapes.SIDE):
            x, y = column - 7.5, row - 7.5
            angle, distance = math.atan2(y, x), math.hypot(x, y)
            reach = 1 + sum(abs(w) * math.cos(k * angle + np.angle(w)) for k, w in enumerate(waves, start=2))
            edge = 5.25 * reach
            inside = 1 / (1 + math.exp(-2 * (edge - distance))) - 1 / (1 + math.exp(-2 * (edge * hollow - distance)))
            assert abs(float(pixels[0, 0, row, column])) == pytest.approx(abs(2 * inside - 0.7), abs=1e-3)


def test_a_short_run_learns():
    steps = 60
    _, losses, (found,) = train(shapes, partial(torch.optim.SGD, lr=0.05, momentum=0.9), steps, watch=[steps])
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 0.15
    assert found["error"] < 0.85
