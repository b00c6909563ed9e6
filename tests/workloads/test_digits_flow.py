"""The closed form of digits_flow against what it claims to be: the best velocity there is."""

import math

import pytest
import torch

import sooner
from sooner.diffusion import integrate
from sooner.workloads import digits_flow


def test_the_closed_form_is_the_mean_over_all_images():
    generator = torch.Generator().manual_seed(2)
    images, classes = digits_flow.centres()
    images = images.double()
    for t, label in ((0.3, 4), (0.9, digits_flow.NO_LABEL)):
        x = torch.randn(64, generator=generator, dtype=torch.float64)
        mine = images if label == digits_flow.NO_LABEL else images[classes == label]
        variance = (digits_flow.SPREAD * (1 - t)) ** 2 + t**2
        density = torch.stack([torch.exp(-(x - (1 - t) * c).square().sum() / (2 * variance)) for c in mine])
        velocity = torch.zeros(64, dtype=torch.float64)
        for weight, c in zip(density / density.sum(), mine, strict=True):
            rest = (x - (1 - t) * c) / variance
            velocity += weight * (t * rest - c - digits_flow.SPREAD**2 * (1 - t) * rest)
        found = digits_flow.optimal_velocity(x[None], torch.tensor([t]), torch.tensor([label]))
        torch.testing.assert_close(found[0], velocity)


def test_what_is_left_of_the_loss_is_noise_that_no_velocity_predicts():
    """The regression's residual is orthogonal to its answer, so loss = floor + excess for every network."""
    x0, labels, uniform, noise = digits_flow._batch(7, "train", 20_000, 0)
    t = uniform[:, None]
    x = (1 - t) * x0 + t * noise
    best = digits_flow.optimal_velocity(x, uniform, labels)
    residual = noise - x0 - best
    floor = float(residual.square().mean())
    assert 0.2 < floor < 0.35
    assert abs(float((residual * best).mean())) < 0.01
    with torch.no_grad():
        other = best + torch.sin(3 * x)
        assert float((noise - x0 - other).square().mean() - floor) == pytest.approx(
            float((other - best).square().mean()), rel=0.02
        )


def test_following_the_best_velocity_makes_images_of_the_label():
    generator = torch.Generator().manual_seed(5)
    noise, labels = torch.randn(40, 64, generator=generator), torch.arange(10).repeat(4)
    images = integrate(digits_flow.optimal_velocity, noise, 20, labels)
    centres, classes = digits_flow.centres()
    nearest = torch.cdist(images, centres)
    assert torch.equal(classes[nearest.argmin(1)], labels)
    # about SPREAD * sqrt(64) away from an image, as the law says
    assert float(nearest.min(1).values.mean()) == pytest.approx(digits_flow.SPREAD * 8, rel=0.15)


def test_a_batch_drops_labels_and_gives_each_example_its_own_time():
    x0, labels, uniform, noise = digits_flow._batch(3, "train", 5000, 1)
    assert x0.shape == noise.shape == (5000, 64)
    assert float((labels == digits_flow.NO_LABEL).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.01)
    evaluation = digits_flow.batches(0, "eval")[0][2]
    assert (float(evaluation[0]), float(evaluation[-1])) == (pytest.approx(0.01), pytest.approx(0.99))


def test_a_short_run_comes_nearer():
    run = sooner.train(sooner.workload("digits_flow"), "adamw(lr=3e-3)", steps=60, evaluate_at=[0, 60])
    assert run.values[0] > 1.2
    assert run.values[1] < 0.8
    assert all(math.isfinite(v) for v in run.values)
    excess, floor = run.values[1], 0.28
    assert run.metrics[1]["loss"] == pytest.approx(excess + floor, abs=0.06)
