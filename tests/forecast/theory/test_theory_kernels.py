"""Kernel regression and its risk: against closed forms, simulations and the limits of the theory."""

import itertools

import numpy as np
import pytest

from sooner.error import SoonerError
from sooner.forecast.theory.kernel_risk import best_ridge, kernel_risk
from sooner.forecast.theory.neural_tangent_kernel import KernelTraining, relu_kernel


def by_sampling(x, y, depth, width=4000, seed=0):
    """Return the tangent kernel of a wide network by its actual gradients, layer by layer, at a random start."""
    random = np.random.default_rng(seed)
    sizes = [x.shape[1], *[width] * (depth - 1), 1]
    weights = [random.standard_normal((a, b)) for a, b in itertools.pairwise(sizes)]

    def trace(one):
        hidden, kept = one / np.sqrt(sizes[0]), []
        for k, w in enumerate(weights):
            kept.append(hidden)
            before = hidden @ w
            if k < depth - 1:
                kept.append((before > 0).astype(float))
                hidden = np.maximum(before, 0) * np.sqrt(2 / width)
        gradients, back = [], np.ones((len(one), 1))
        for k in range(depth - 1, -1, -1):
            gradients.append((kept[2 * k], back))
            if k:
                back = (back @ weights[k].T) * kept[2 * k - 1] * np.sqrt(2 / width)
        return gradients

    return sum((a @ c.T) * (b @ d.T) for (a, b), (c, d) in zip(trace(x), trace(y), strict=True))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_infinite_width_kernel_is_that_of_a_wide_network(depth):
    random = np.random.default_rng(1)
    x, y = random.standard_normal((4, 6)), random.standard_normal((3, 6))
    expected = np.mean([by_sampling(x, y, depth, seed=seed) for seed in range(6)], axis=0)
    np.testing.assert_allclose(relu_kernel(x, y, depth=depth), expected, atol=0.12 * np.abs(expected).max())


def test_training_in_a_kernel_is_gradient_descent_on_its_weights():
    random = np.random.default_rng(2)
    features, target, other = (random.standard_normal(s) for s in ((12, 30), (12, 1), (5, 30)))
    training = KernelTraining.of(features @ features.T, target)
    weights, lr, steps = np.zeros((30, 1)), 1e-4, 20000
    for _ in range(steps):
        weights -= lr * features.T @ (features @ weights - target) / 12
    made = training.predict(other @ features.T, time=lr * steps)
    np.testing.assert_allclose(made, other @ weights, rtol=2e-3, atol=1e-4)
    error = float(((features @ weights - target) ** 2).mean() / 2)
    assert training.loss(np.array([lr * steps]))[0] == pytest.approx(error, rel=1e-2, abs=1e-8)


def test_infinite_time_is_interpolation_and_half_the_loss_takes_its_time():
    random = np.random.default_rng(3)
    features, target = random.standard_normal((8, 20)), random.standard_normal(8)
    kernel = features @ features.T
    training = KernelTraining.of(kernel, target)
    np.testing.assert_allclose(training.predict(kernel)[:, 0], target, atol=1e-8)
    half = training.time_to(0.5)
    assert training.loss(np.array([half]))[0] == pytest.approx(0.5 * training.loss(np.zeros(1))[0], rel=1e-6)


def test_a_kernel_that_cannot_learn_the_target_never_gets_there():
    features = np.array([[1.0], [1.0]])
    assert KernelTraining.of(features @ features.T, np.array([1.0, -1.0])).time_to(0.5) == np.inf


def test_kernels_refuse_what_they_cannot_be():
    with pytest.raises(SoonerError, match="depth is 0"):
        relu_kernel(np.eye(2), np.eye(2), depth=0)
    with pytest.raises(SoonerError, match="3 and 2 features"):
        relu_kernel(np.ones((1, 3)), np.ones((1, 2)))
    with pytest.raises(SoonerError, match="not symmetric"):
        KernelTraining.of(np.array([[1.0, 2.0], [0.0, 1.0]]), np.ones(2))
    with pytest.raises(SoonerError, match="one row per target"):
        KernelTraining.of(np.eye(2), np.ones(3))


def simulated(samples, features, ridge, noise, draws=24, modes=400):
    random = np.random.default_rng(5)
    values = np.arange(1, modes + 1) ** -1.5
    coefficients = np.arange(1, modes + 1) ** -0.8
    test, train = [], []
    for _ in range(draws):
        x = random.standard_normal((samples, modes)) * np.sqrt(values)
        y = x / np.sqrt(values) @ coefficients + np.sqrt(noise) * random.standard_normal(samples)
        project = np.eye(modes) if np.isinf(features) else random.standard_normal((modes, features)) / np.sqrt(features)
        phi = x @ project
        gram = phi @ phi.T + ridge * np.eye(samples)
        weights = project @ (phi.T @ np.linalg.solve(gram, y))
        gap = coefficients - np.sqrt(values) * weights
        test.append(gap @ gap + noise)
        train.append(np.mean((y - x @ weights) ** 2))
    return values, coefficients, np.mean(test), np.mean(train)


@pytest.mark.parametrize(
    ("samples", "features", "ridge", "noise"),
    [(60, 40, 0.05, 0.1), (60, 200, 0.01, 0.1), (60, np.inf, 0.05, 0.1), (100, 60, 0.1, 0.0)],
)
def test_the_risk_is_what_simulations_give(samples, features, ridge, noise):
    values, coefficients, test, train = simulated(samples, features, ridge, noise)
    made = kernel_risk(values, coefficients, samples, features=features, ridge=ridge, noise=noise)
    assert made.test == pytest.approx(test, rel=0.1)
    assert made.train == pytest.approx(train, rel=0.12)


def test_many_features_are_the_kernel_and_a_vanishing_ridge_none():
    values, coefficients = np.arange(1, 301) ** -1.5, np.arange(1, 301) ** -0.8
    limit = kernel_risk(values, coefficients, 50, ridge=0.1, noise=0.1)
    near = kernel_risk(values, coefficients, 50, features=1e9, ridge=0.1, noise=0.1)
    assert near.test == pytest.approx(limit.test, rel=1e-5)
    for features in (30.0, 80.0):
        bare = kernel_risk(values, coefficients, 50, features=features, noise=0.1)
        small = kernel_risk(values, coefficients, 50, features=features, ridge=1e-9, noise=0.1)
        assert small.test == pytest.approx(bare.test, rel=1e-3)
        assert small.train == pytest.approx(bare.train, rel=1e-2, abs=1e-6)


def test_at_the_best_ridge_more_is_better_and_without_one_there_is_a_peak():
    values, coefficients = np.arange(1, 401) ** -1.5, np.arange(1, 401) ** -0.8
    by_features = [best_ridge(values, coefficients, 50, features=k, noise=0.1)[1].test for k in (20, 50, 100, 400)]
    by_samples = [best_ridge(values, coefficients, n, features=100, noise=0.1)[1].test for n in (20, 50, 100, 200)]
    assert all(a > b for a, b in itertools.pairwise(by_features))
    assert all(a > b for a, b in itertools.pairwise(by_samples))
    plain = [kernel_risk(values, coefficients, 50, features=k, noise=0.1).test for k in (25, 51, 200)]
    assert plain[1] > plain[0]
    assert plain[1] > plain[2]


def test_the_risk_refuses_what_it_cannot_know():
    with pytest.raises(SoonerError, match="one for each"):
        kernel_risk(np.ones(3), np.ones(2), 5)
    with pytest.raises(SoonerError, match="must be positive"):
        kernel_risk(np.ones(3), np.ones(3), -1)
    with pytest.raises(SoonerError, match="determine all 3 modes"):
        kernel_risk(np.ones(3), np.ones(3), 5)
