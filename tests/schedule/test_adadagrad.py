"""The batch-size controller on gradients of known covariance, its guards, and its place in recipes."""

import copy
import itertools
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sooner
from sooner.recipe import Recipe
from sooner.schedule import AdAdaGrad
from sooner.schedule.adadagrad import per_sample_gradients

SHAPES = {"a": (3, 4), "b": (8,)}
SCALES = torch.linspace(0.2, 2.0, 20, dtype=torch.float64)  # standard deviation of each coordinate
MEAN = torch.linspace(-1.0, 1.0, 20, dtype=torch.float64)


def drawn(n, mean=MEAN, scales=SCALES, seed=0):
    """Per-sample gradients ``[n, 20]`` of known mean and covariance."""
    generator = torch.Generator().manual_seed(seed)
    return mean + scales * torch.randn(n, 20, generator=generator, dtype=torch.float64)


def parted(flat, dtype=torch.float64):
    flat = flat.to(dtype)
    return {"a": flat[:, :12].reshape(-1, 3, 4), "b": flat[:, 12:]}


def settled(make, observe):
    """The batch size at which the controller comes to rest when it sees the same gradients again and again."""
    controller = make()
    for _ in range(60):
        observe(controller)
        controller.step()
    return controller.batch_size


def unbounded(**more):
    return AdAdaGrad(batch_size=2, b_max=10**9, **more)


# the tests against their formulas


def test_the_norm_test_is_its_formula_on_known_covariance():
    expected = SCALES.square().sum() / (0.1**2 * MEAN.square().sum())
    gradients = drawn(20_000)
    found = settled(lambda: unbounded(eta=0.1), lambda c: c.observe(parted(gradients)))
    assert found == pytest.approx(float(expected), rel=0.05)


def test_the_inner_product_test_is_its_formula_on_known_covariance():
    size = MEAN.square().sum()
    along = (SCALES * MEAN).square().sum()
    across = SCALES.square().sum() - along / size
    gradients = parted(drawn(20_000))
    for theta, nu in ((0.05, 1e3), (1e3, 0.05), (0.05, 0.08)):
        expected = max(along / (theta**2 * size**2), across / (nu**2 * size))
        found = settled(
            lambda theta=theta, nu=nu: unbounded(test="inner product", theta=theta, nu=nu),
            lambda c: c.observe(gradients),
        )
        assert found == pytest.approx(float(expected), rel=0.05)


@pytest.mark.parametrize("test", ["norm", "inner product"])
def test_one_small_batch_is_its_formula_exactly(test):
    flat = drawn(7)
    g = flat.mean(0)
    variance = sum((flat[:, j].var() for j in range(20)), torch.tensor(0.0))
    signal = g @ g - variance / 7
    products = torch.stack([row @ g for row in flat])
    residues = torch.stack([row - (row @ g) / (g @ g) * g for row in flat])
    across = sum((residues[:, j].var() for j in range(20)), torch.tensor(0.0))
    expected = {
        "norm": variance / (0.1**2 * signal),
        "inner product": max(products.var() / (0.2**2 * signal**2), across / (0.3**2 * signal)),
    }[test]
    found = settled(lambda: unbounded(test=test, eta=0.1, theta=0.2, nu=0.3), lambda c: c.observe(parted(flat)))
    assert found == math.ceil(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_changes_little(dtype):
    gradients = drawn(500)
    exact = settled(unbounded, lambda c: c.observe(parted(gradients)))
    assert settled(unbounded, lambda c: c.observe(parted(gradients, dtype))) == pytest.approx(exact, rel=0.01)


def test_subtracting_the_bias_matters_where_noise_hides_the_gradient():
    """With 16 samples per batch |g|^2 is mostly noise; averaged over batches the controller still finds b'."""
    mean, scales = 0.2 * MEAN, torch.ones_like(SCALES)
    expected = 20 / (0.5**2 * mean.square().sum())
    controller = unbounded(eta=0.5, average=0.999)
    for seed in range(3000):
        controller.observe(parted(drawn(16, mean, scales, seed)))
        controller.step()
        controller.batch_size = 16  # as if the batch stayed small
    state = controller.state_dict()["means"]
    assert state["variance"] / (0.25 * state["signal"]) == pytest.approx(float(expected), rel=0.15)
    naive = 20 / (0.25 * (mean.square().sum() + 20 / 16))
    assert naive < 0.25 * expected


# observations in pieces


def test_pieces_of_a_batch_are_the_batch():
    flat = drawn(60)
    whole = settled(unbounded, lambda c: c.observe(parted(flat)))

    def in_pieces(controller):
        for piece in flat.split([10, 25, 1, 24]):
            controller.observe(parted(piece))

    assert settled(unbounded, in_pieces) == whole


@pytest.mark.parametrize("test", ["norm", "inner product"])
def test_micro_batch_means_ask_for_what_samples_ask_for(test):
    flat = drawn(40_000)
    micro = [{k: v[0] for k, v in parted(m.mean(0, keepdim=True)).items()} for m in flat.split(16)]

    def make():
        return unbounded(test=test, theta=0.05, nu=0.1)

    of_samples = settled(make, lambda c: c.observe(parted(flat)))
    of_micro_batches = settled(make, lambda c: c.observe_micro_batches(micro, 16))
    assert of_micro_batches == pytest.approx(of_samples, rel=0.06)


# guards


def feed(controller, flat):
    controller.observe(parted(flat))
    controller.step()
    return controller.batch_size


@given(
    seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=12),
    scale=st.floats(0, 1e3),
    n=st.integers(1, 6),
    test=st.sampled_from(["norm", "inner product"]),
    average=st.floats(0, 0.99),
)
def test_the_batch_never_shrinks_never_more_than_doubles_and_stops_at_b_max(seeds, scale, n, test, average):
    controller = AdAdaGrad(batch_size=3, b_max=50, test=test, average=average)
    sizes = [3] + [feed(controller, drawn(n, MEAN * (seed % 3), SCALES * scale, seed)) for seed in seeds]
    assert all(a <= b <= min(2 * a, 50) for a, b in itertools.pairwise(sizes))
    assert all(type(size) is int for size in sizes)
    assert controller.samples == sum(sizes[:-1])
    assert controller.due is (sizes[-1] < 50)


@pytest.mark.parametrize("test", ["norm", "inner product"])
def test_no_gradient_no_noise_and_broken_numbers_do_no_harm(test):
    controller = AdAdaGrad(batch_size=4, b_max=64, test=test)
    assert feed(controller, torch.zeros(5, 20, dtype=torch.float64)) == 4  # neither gradient nor noise
    assert feed(controller, torch.ones(5, 20, dtype=torch.float64)) == 4  # no noise
    for broken in (math.nan, math.inf, -math.inf, 1e300):
        flat = drawn(5)
        flat[2, 3] = broken
        assert feed(controller, flat) == 4
    assert feed(controller, drawn(1)) == 4  # one sample says nothing
    assert feed(controller, drawn(0)) == 4
    controller.step()  # a step that nobody observed
    opposite = torch.cat([drawn(4), -drawn(4)])  # noise only
    assert feed(AdAdaGrad(batch_size=4, test=test, average=0.0), opposite) == 8
    assert all(map(math.isfinite, controller.state_dict()["means"].values()))


def test_one_lucky_batch_decides_less_where_the_past_is_averaged():
    calm = drawn(50, scales=0.05 * SCALES)
    lucky = torch.cat([drawn(25), -drawn(25)])  # the mean gradient happens to vanish
    forgetful, steady = (AdAdaGrad(batch_size=32, b_max=10**6, average=a) for a in (0.0, 0.95))
    for controller in (forgetful, steady):
        for _ in range(20):
            feed(controller, calm)
        assert controller.batch_size == 32
    assert feed(forgetful, lucky) == 64
    assert feed(steady, lucky) < 50


def test_tests_are_due_at_the_interval():
    controller = AdAdaGrad(interval=3)
    due = []
    for _ in range(7):
        due.append(controller.due)
        controller.step()
    assert due == [True, False, False, True, False, False, True]
    assert controller.samples == 7 * 8


def test_a_resumed_controller_goes_on_bit_for_bit():
    straight = AdAdaGrad(batch_size=2, b_max=500)
    sizes = [feed(straight, drawn(6, seed=s)) for s in range(12)]
    begun = AdAdaGrad(batch_size=2, b_max=500)
    for s in range(5):
        feed(begun, drawn(6, seed=s))
    resumed = AdAdaGrad(batch_size=2, b_max=500)
    resumed.load_state_dict(json.loads(json.dumps(begun.state_dict())))  # plain numbers only
    assert [feed(resumed, drawn(6, seed=s)) for s in range(5, 12)] == sizes[5:]
    assert resumed.state_dict() == straight.state_dict()
    with pytest.raises(sooner.SoonerError, match=r"the saved batch_size=\d+ is not a whole number in \[2, 4\]"):
        AdAdaGrad(batch_size=2, b_max=4).load_state_dict(straight.state_dict())


@given(batch=st.integers(2, 5000), most=st.integers(1, 300), workers=st.integers(1, 16))
def test_micro_batches_fit_and_cover_the_batch(batch, most, workers):
    micro, accumulate = AdAdaGrad(batch_size=batch, b_max=5000).micro_batches(most, workers)
    assert 1 <= micro <= most
    covered = micro * accumulate * workers
    assert batch <= covered < batch + accumulate * workers + workers
    assert (accumulate - 1) * most * workers < batch + workers


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch_size": 1}, r"adadagrad: batch_size=1 is not a whole number in \[2, 4096\]"),
        ({"batch_size": 9, "b_max": 8}, r"batch_size=9 is not a whole number in \[2, 8\]"),
        ({"test": "normal"}, r"no test 'normal' \(did you mean 'norm'\?\); choose one of"),
        ({"eta": 0.0}, "adadagrad: eta=0.0"),
        ({"average": 1.0}, "adadagrad: average=1.0"),
        ({"interval": 0}, "adadagrad: interval=0"),
    ],
)
def test_a_bad_number_is_named(settings, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        AdAdaGrad(**settings)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda c: c.observe({}), "the gradients are of no samples"),
        (lambda c: c.observe({"a": torch.ones(2, 3), "b": torch.ones(3, 3)}), r"the gradients are of \[2, 3\] samples"),
        (lambda c: c.observe_micro_batches([{"a": torch.ones(2)}, {"b": torch.ones(2)}], 4), "have different names"),
        (lambda c: c.observe_micro_batches([], 4), "the gradients are of no samples"),
        (lambda c: c.observe_micro_batches([{"a": torch.ones(2)}], 0), "micro_batch=0"),
        (lambda c: (c.observe({"a": torch.ones(2, 3)}), c.observe({"a": torch.ones(2, 4)})), "observations differ"),
    ],
)
def test_bad_observations_are_refused(act, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        act(AdAdaGrad())


def test_the_inner_product_test_wants_all_gradients_at_once():
    controller = AdAdaGrad(test="inner product")
    controller.observe(parted(drawn(4)))
    with pytest.raises(sooner.SoonerError, match="needs all of a step's gradients in one call of observe"):
        controller.observe(parted(drawn(4)))


# gradients of single samples


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.hidden = nn.Linear(4, 5)
        self.norm = nn.LayerNorm(5)
        self.out = nn.Linear(5, 3)
        self.hidden.bias.requires_grad_(False)
        self.register_buffer("shift", torch.ones(5))

    def forward(self, x):
        return self.out(self.norm(torch.tanh(self.hidden(self.embed(x).mean(1))) + self.shift))


@pytest.mark.parametrize("chunk", [None, 2])
def test_per_sample_gradients_are_those_of_batches_of_one(chunk):
    net, loss = Net(), nn.functional.cross_entropy
    x, y = torch.randint(6, (5, 7)), torch.randint(3, (5,))
    found = per_sample_gradients(net, loss, x, y, chunk)
    assert "hidden.bias" not in found
    trained = {n: p for n, p in net.named_parameters() if p.requires_grad}
    assert found.keys() == trained.keys()
    for i in range(5):
        expected = torch.autograd.grad(loss(net(x[i : i + 1]), y[i : i + 1]), list(trained.values()))
        for name, gradient in zip(trained, expected, strict=True):
            torch.testing.assert_close(found[name][i], gradient)
            assert not found[name].requires_grad
    assert all(p.grad is None for p in net.parameters())


def test_dropout_draws_anew_for_every_sample():
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 1, bias=False))
    found = per_sample_gradients(net, nn.functional.mse_loss, torch.ones(4, 64), torch.full((4, 1), 9.0))
    patterns = {tuple((row[0] != 0).tolist()) for row in found["1.weight"]}
    assert len(patterns) == 4


def test_batch_normalisation_is_refused_while_it_mixes_samples():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    x, y = torch.randn(6, 3), torch.randint(2, (6,))
    with pytest.raises(sooner.SoonerError, match="do not exist for 1 of batch normalisation in training mode"):
        per_sample_gradients(net, nn.functional.cross_entropy, x, y)
    assert len(per_sample_gradients(net.eval(), nn.functional.cross_entropy, x, y)) == 6


# recipes and a whole run


def test_a_loop_with_fixed_batches_refuses_it_and_another_is_served():
    recipe = Recipe("torch.optim.SGD(lr=0.1) + adadagrad(batch_size=4, eta=0.5) + cosine")
    with pytest.raises(
        sooner.SoonerError, match="adadagrad needs a variable batch size, which this training loop does"
    ):
        recipe.build(nn.Linear(2, 2), steps=4)
    training = recipe.build(nn.Linear(2, 2), steps=4, provides={"variable batch size"})
    controller = next(s for s in training.schedules if isinstance(s, AdAdaGrad))
    training.step()
    assert controller.samples == 4
    again = recipe.build(nn.Linear(2, 2), steps=4, provides={"variable batch size"})
    again.load_state_dict(copy.deepcopy(training.state_dict()))
    assert again.state_dict() == training.state_dict()


def test_the_batch_grows_as_a_regression_converges():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(10, 1, generator=generator)
    net = nn.Linear(10, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    controller = AdAdaGrad(optimizer, batch_size=8, b_max=512, eta=0.5)
    sizes = []
    for _ in range(300):
        x = torch.randn(controller.batch_size, 10, generator=generator)
        y = x @ truth + 0.5 * torch.randn(len(x), 1, generator=generator)
        if controller.due:
            controller.observe(per_sample_gradients(net, nn.functional.mse_loss, x, y))
        nn.functional.mse_loss(net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        controller.step()
        sizes.append(controller.batch_size)
    assert sizes[10] < 100  # far away the gradient is clear
    assert sizes[-1] == 512  # at the minimum only noise is left
    assert not controller.due
