"""PassUntil, the chain to accuracy, the noise scale, width transfer, instability and projektor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.forecast.theory import downstream_chain, instability, noise_scale, pass_until, projektor, width_transfer


def test_the_unbiased_rate_is_unbiased_and_the_plain_one_is_the_maximum_of_the_likelihood():
    random = np.random.default_rng(0)
    draws = random.negative_binomial(3, 0.05, size=40000) + 3
    assert pass_until.pass_rate(draws, 3, unbiased=True).mean() == pytest.approx(0.05, rel=0.02)
    assert pass_until.pass_rate(np.array([60.0]), 3)[0] == pytest.approx(0.05)


def test_task_scaling_recovers_its_law_and_predicts_the_next_size():
    size = np.geomspace(1e7, 1e9, 12)
    noise = np.exp(0.02 * np.random.default_rng(1).standard_normal(12))
    found = pass_until.task_scaling(size, np.exp(-900 * size**-0.3 * noise))
    assert found.alpha == pytest.approx(0.3, rel=0.05)
    assert found.emergence == "ordinary"
    value, low, high = found.predict(np.array([1e10]))
    assert low[0] <= np.exp(-900 * 1e10**-0.3) <= high[0]
    assert low[0] <= value[0] <= high[0]


@pytest.mark.parametrize(("bend", "kind"), [(-0.08, "accelerated"), (0.08, "slowed")])
def test_emergence_is_the_sign_of_the_curvature(bend, kind):
    size = np.geomspace(1e7, 1e9, 8)
    z = np.log(size / 1e8)
    noise = 0.005 * np.random.default_rng(2).standard_normal(8)
    assert pass_until.task_scaling(size, np.exp(-np.exp(1 - 0.3 * z + bend * z**2 + noise))).emergence == kind


def test_pass_rates_refuse_what_they_cannot_be():
    with pytest.raises(SoonerError, match="two or more passes"):
        pass_until.pass_rate(np.array([5.0]), unbiased=True)
    with pytest.raises(SoonerError, match="cannot hold 2 passes"):
        pass_until.pass_rate(np.array([1.0]), 2)
    with pytest.raises(SoonerError, match="a pass probability is 1"):
        pass_until.task_scaling(np.array([1e6, 1e7, 1e8]), np.array([0.1, 0.5, 1.0]))
    with pytest.raises(SoonerError, match="three or more model sizes; there are 2"):
        pass_until.task_scaling(np.array([1e6, 1e7]), np.array([0.1, 0.5]))


def chain_data(models=12, items=300, choices=4):
    random = np.random.default_rng(3)
    compute = np.geomspace(1e18, 1e22, models)
    rise = np.linspace(-12, -6, models)[:, None, None]
    log_p = (
        rise
        + 1.5 * random.standard_normal((1, items, choices))
        + 0.4 * random.standard_normal((models, items, choices))
    )
    correct = random.integers(choices, size=items)
    return log_p, correct, compute


def test_predictability_falls_along_the_chain():
    log_p, correct, compute = chain_data()
    found = downstream_chain.chain(log_p, correct, compute)
    shares = [found.predictable[stage] for stage in downstream_chain.STAGES]
    assert shares[0] == shares[1] > 0.95
    assert shares[1] > shares[2] >= shares[4]
    assert found.lost_at == "p(choices)"
    assert found.follow == pytest.approx(1.0, abs=0.15)


def test_the_scores_of_one_item_by_hand():
    log_p = np.log(np.array([[[0.2, 0.1, np.nan]]] * 3))
    found = downstream_chain.chain(log_p, np.array([0]), np.array([1.0, 2.0, 3.0]))
    assert found.scores["p(correct)"][0, 0] == pytest.approx(0.2)
    assert found.scores["p(choices)"][0, 0] == pytest.approx(2 / 3)
    assert found.scores["Brier"][0, 0] == pytest.approx(-(2 / 9))
    assert found.scores["accuracy"][0, 0] == 1
    assert found.wrong_mass[0] == pytest.approx(1 / 3)
    assert np.isnan(found.correlation["accuracy"]).all()


def test_a_chain_refuses_what_it_cannot_read():
    with pytest.raises(SoonerError, match="must not be positive"):
        downstream_chain.chain(np.ones((3, 1, 2)), np.array([0]), np.ones(3))
    with pytest.raises(SoonerError, match="an answer is choice 2 of 2"):
        downstream_chain.chain(-np.ones((3, 1, 2)), np.array([2]), np.ones(3))
    with pytest.raises(SoonerError, match="three or more models"):
        downstream_chain.chain(-np.ones((2, 1, 2)), np.array([0]), np.ones(2))


def test_the_noise_scale_of_gradients_whose_noise_is_known():
    random = np.random.default_rng(4)
    gradient = random.standard_normal(50)
    norms = [
        ((gradient + 6 * random.standard_normal((3000, 50)) / np.sqrt(batch)) ** 2).sum(axis=1) for batch in (8, 64)
    ]
    found = noise_scale.noise_scale(*norms, 8, 64)
    truth = 36 * 50 / (gradient @ gradient)
    assert found.value == pytest.approx(truth, rel=0.1)
    assert found.low <= truth <= found.high


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 1e5), st.floats(10, 1e5))
def test_a_critical_batch_is_recovered_and_its_two_ratios_multiply_to_one(critical, fewest):
    batch = critical * np.array([0.1, 0.5, 1.0, 4.0])
    found = noise_scale.critical_batch(batch, fewest * (1 + critical / batch))
    assert found.batch == pytest.approx(critical, rel=1e-6)
    product = (found.steps(batch) / found.fewest_steps - 1) * (found.examples(batch) / found.fewest_examples - 1)
    np.testing.assert_allclose(product, 1, rtol=1e-6)


def test_learning_rates_rise_with_the_batch_and_adam_surges():
    batch = np.array([1.0, 100.0, 10000.0])
    sgd, adam = (noise_scale.learning_rate(batch, 100, 0.1, kind) for kind in ("sgd", "adam"))
    np.testing.assert_allclose(sgd, 0.1 / (1 + 100 / batch))
    assert adam[1] == pytest.approx(0.1)
    assert adam[0] == pytest.approx(adam[2])
    assert adam[0] < adam[1]


def test_noise_scales_refuse_what_cannot_be():
    with pytest.raises(SoonerError, match="the second must be the larger"):
        noise_scale.noise_scale(np.ones(3), np.ones(3), 8, 8)
    with pytest.raises(SoonerError, match="no critical batch size"):
        noise_scale.critical_batch(np.array([1.0, 2.0]), np.array([10.0, 20.0]))
    with pytest.raises(SoonerError, match="no rule for 'lion'"):
        noise_scale.learning_rate(np.ones(1), 1, 1, "lion")


@settings(max_examples=50, deadline=None)
@given(st.floats(16, 4096), st.floats(1.01, 64))
def test_weight_decay_goes_with_the_root_of_the_width_so_that_singular_values_stay(width, times):
    made = width_transfer.transfer(3e-3, 0.1, width=width, to=width * times)
    assert made.matrix_lr == pytest.approx(3e-3 / times)
    assert made.matrix_weight_decay == pytest.approx(0.1 * times**0.5)
    assert made.vector_lr == 3e-3
    assert made.vector_weight_decay == 0
    assert made.init_std == pytest.approx(times**-0.5)
    assert made.output_multiplier == pytest.approx(1 / times)
    before = width_transfer.expected_top_singular_value(3e-3, 0.1, width)
    after = width_transfer.expected_top_singular_value(made.matrix_lr, made.matrix_weight_decay, width * times)
    assert after == pytest.approx(before)


def test_singular_values_are_compared_across_widths():
    random = np.random.default_rng(5)
    widths = np.array([64.0, 128.0, 256.0])
    kept = [random.standard_normal((int(w), int(w))) / np.sqrt(w) for w in widths]
    grown = [random.standard_normal((int(w), int(w))) for w in widths]
    found = width_transfer.match_top_singular_values(widths, {"kept": kept, "grown": grown})
    assert found.matched.tolist() == [True, False]
    assert found.exponent[1] == pytest.approx(0.5, abs=0.05)
    with pytest.raises(SoonerError, match="one has 2 values for 3 widths"):
        width_transfer.match_top_singular_values(widths, {"one": np.ones(2)})
    with pytest.raises(SoonerError, match="must be positive"):
        width_transfer.transfer(0.0, 0.1, width=1, to=2)
    assert width_transfer.forgotten_after(1e-3, 0.1) == pytest.approx(3e4)


def test_sensitivity_is_the_mean_excess_over_the_sweep():
    lr = np.geomspace(3e-4, 3e-1, 7)
    assert instability.learning_rate_sensitivity(lr, np.full(7, 3.0), 10.0) == 0
    loss = np.array([4.0, 3.0, 3.0, 3.0, np.inf, np.nan, 50.0])
    by_hand = np.trapezoid(np.array([1, 0, 0, 0, 7, 7, 7]), np.arange(7)) / 6
    assert instability.learning_rate_sensitivity(lr, loss, 10.0) == pytest.approx(by_hand)
    with pytest.raises(SoonerError, match="2 learning rates lie in"):
        instability.learning_rate_sensitivity(lr[:2], np.ones(2), 10.0)
    with pytest.raises(SoonerError, match="below its start"):
        instability.learning_rate_sensitivity(lr, np.full(7, 11.0), 10.0)


def test_when_logits_blow_up():
    width = np.geomspace(64, 1024, 4)
    found = instability.when_it_diverges(width, 2 * width**1.2 * np.array([1.01, 0.99, 1.0, 1.0]))
    truth = (1e4 / 2) ** (1 / 1.2)
    assert found.at == pytest.approx(truth, rel=0.1)
    assert found.low <= truth <= found.high
    assert not found.curved
    flat = instability.when_it_diverges(np.geomspace(64, 4096, 6), np.full(6, 3.0))
    assert flat.at == np.inf
    assert flat.curved
    with pytest.raises(SoonerError, match="three or more scales"):
        instability.when_it_diverges(np.ones(4), np.ones(4))


def test_logits_that_bend_upwards_blow_up_where_the_parabola_says():
    width, limit = np.geomspace(64, 1024, 8), 500.0
    z = np.log(width / 64)
    found = instability.when_it_diverges(width, 3 * np.exp(0.2 * z + 0.15 * z**2), limit=limit)
    rise = (-0.2 + np.sqrt(0.2**2 + 4 * 0.15 * np.log(limit / 3))) / (2 * 0.15)  # the larger root
    assert found.curved
    assert found.at == pytest.approx(64 * np.exp(rise), rel=0.01)
    assert found.largest == pytest.approx(1024)


def test_transport_distances_are_exact_and_nearly_so():
    random = np.random.default_rng(6)
    x = random.standard_normal((60, 3))
    assert projektor.transport_distance(x, x[::-1]) == pytest.approx(0, abs=1e-12)
    assert projektor.transport_distance(x, x + 2) == pytest.approx(12)
    rough = projektor.transport_distance(x, x + 2, regularisation=0.02)
    assert rough == pytest.approx(12, rel=0.05)
    assert projektor.transport_distance(x[:40], x + 2) == pytest.approx(12, rel=0.15)
    with pytest.raises(SoonerError, match="the same features"):
        projektor.transport_distance(x, x[:, :2])


def test_projektor_extrapolates_in_the_logarithm_of_the_size_and_finds_the_mixture():
    random = np.random.default_rng(7)

    def measured(p, distance, size):
        return (0.5 + 0.2 * p[:, 0] - 0.3 * (p[:, 1] - 0.4) ** 2 - 0.01 * distance) + 0.05 * np.log(size / 1000)

    mixtures = [random.dirichlet(np.ones(3), 40) for _ in range(2)]
    distances = [random.random(40) + 1 for _ in range(2)]
    sizes = (1000.0, 1500.0)
    scores = [measured(p, d, n) for p, d, n in zip(mixtures, distances, sizes, strict=True)]
    found = projektor.fit_projektor(sizes, tuple(mixtures), tuple(distances), tuple(scores), ridge=1e-12)
    p, d = random.dirichlet(np.ones(3), 10), random.random(10) + 1
    np.testing.assert_allclose(found.at(p, d, 10000.0), measured(p, d, 10000.0), atol=2e-3)
    target = random.standard_normal((40, 2))
    sources = [target + 0.1, target + 0.2, target + 5]
    shares, best = projektor.best_mixture(found, sources, target, 10000.0)
    apart = [projektor.transport_distance(one, target, regularisation=0.02) for one in sources]
    others = np.concatenate([random.dirichlet(np.ones(3), 3000), np.eye(3)])
    assert best >= found.at(others, others @ apart, 10000.0).max() - 1e-6
    assert shares.sum() == pytest.approx(1)
    assert shares[2] < 0.05
    with pytest.raises(SoonerError, match="2 sources are given and 3 were fitted"):
        projektor.best_mixture(found, sources[:2], target, 1e4)
    with pytest.raises(SoonerError, match="sum to one"):
        projektor.fit_projektor(sizes, (p * 2, p), (d, d), (d, d))
    with pytest.raises(SoonerError, match="must be the larger"):
        projektor.fit_projektor((2.0, 1.0), (p, p), (d, d), (d, d))
