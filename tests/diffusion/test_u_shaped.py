"""U-shaped times against the published law and its authors' sampler, and what they do in a recipe and in a race."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate as quadrature
from scipy import stats

import sooner
from sooner.diffusion import UShaped, training_times, u_shaped
from sooner.diffusion.u_shaped import CUT
from sooner.error import SoonerError
from sooner.race.plan import Plan
from sooner.recipe import Recipe
from sooner.task import Task

EVEN = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000


def published(count, a, seed):
    """The authors' way: inverse of the exponential's distribution, half of the draws mirrored, cut."""
    generator = torch.Generator().manual_seed(seed)
    grown = torch.log1p(torch.rand(count, generator=generator, dtype=torch.float64) * math.expm1(a)) / a
    mirrored = torch.rand(count, generator=generator) < 0.5
    return torch.where(mirrored, 1 - grown, grown) * (1 - 2 * CUT) + CUT


@pytest.mark.parametrize("a", [0.5, 4.0, 9.0])
def test_it_is_the_law_that_the_authors_draw_from(a):
    ours, theirs = u_shaped(EVEN, a), published(20_000, a, 3)
    assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 0.01
    assert a < 4 or stats.ks_2samp(EVEN.numpy(), theirs.numpy()).pvalue < 1e-3  # the comparison can tell


@pytest.mark.parametrize("a", [0.0, 0.5, 4.0, 20.0])
def test_density_and_map_belong_together(a):
    law = UShaped(a)
    area, _ = quadrature.quad(lambda t: float(law.density(torch.tensor(t, dtype=torch.float64))), 0, 1)
    assert area == pytest.approx(1, abs=1e-9)
    for u in (0.1, 0.35, 0.8):
        t = (float(law(torch.tensor(u, dtype=torch.float64))) - CUT) / (1 - 2 * CUT)
        below, _ = quadrature.quad(lambda t: float(law.density(torch.tensor(t, dtype=torch.float64))), 0, t)
        assert below == pytest.approx(u, abs=1e-9)
    middle, end = law.density(torch.tensor([0.5, 1.0], dtype=torch.float64))
    assert float(end / middle) == pytest.approx(math.cosh(a / 2))


@settings(max_examples=30, deadline=None)
@given(
    uniform=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    a=st.floats(0, 50) | st.sampled_from([0.0, 1e-4, 4.0]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)
def test_times_keep_order_range_shape_type_and_symmetry(uniform, a, dtype):
    u = torch.tensor(sorted(uniform), dtype=dtype)
    t = u_shaped(u, a)
    assert t.dtype == dtype
    assert t.shape == u.shape
    assert bool((t.diff() >= 0).all())
    assert bool(((t >= 0) & (t <= 1)).all())
    if dtype == torch.float64:
        assert bool(((t >= CUT * 0.999) & (t <= 1 - CUT * 0.999)).all())
        torch.testing.assert_close(u_shaped(1 - u, a), 1 - t, rtol=0, atol=1e-9)


def test_at_0_it_is_uniform_and_any_shape_and_device_will_do():
    torch.testing.assert_close(u_shaped(EVEN, 0.0), CUT + (1 - 2 * CUT) * EVEN)
    torch.testing.assert_close(u_shaped(EVEN, 1e-6), u_shaped(EVEN, 0.0))
    assert u_shaped(torch.rand(3, 1, 2, device="meta")).shape == (3, 1, 2)
    crossed = torch.rand(6, 4).T[::2]
    assert torch.equal(u_shaped(crossed), u_shaped(crossed.contiguous()))


def test_draws_come_from_the_generator():
    law, generator = UShaped(), torch.Generator().manual_seed(1)
    first = law.draw(5, generator)
    assert torch.equal(first, u_shaped(torch.rand(5, generator=torch.Generator().manual_seed(1))))
    assert not torch.equal(law.draw(5, generator), first)
    assert law.draw((2, 3), dtype=torch.float64).dtype == torch.float64
    assert law.draw(2, device="meta").device.type == "meta"


@pytest.mark.parametrize("a", [-1.0, 51.0, math.nan, "4", True])
def test_what_is_no_such_law_is_refused(a):
    for make in (UShaped, lambda a: u_shaped(EVEN, a)):
        with pytest.raises(SoonerError, match=r"u_shaped: a=.* is not a number in \[0, 50\]"):
            make(a)


def test_whole_numbers_are_no_uniform_numbers():
    with pytest.raises(SoonerError, match=r"torch\.int64; give floating-point ones"):
        u_shaped(torch.tensor([0, 1]))


class Seen:
    """A task whose loss notes the times at which it trains."""

    provides = frozenset({"flow times"})

    def __init__(self, ask=True):
        self.ask, self.times = ask, []

    def loss(self, model, batch):
        t = training_times(batch) if self.ask else batch
        self.times.append(t.detach().clone())
        return (model.weight.square() * t).mean()

    def task(self, **more):
        linear = lambda seed: torch.nn.Linear(1, 1, bias=False)  # noqa: E731
        batches = lambda seed, split: [EVEN[:8].float()] * 9  # noqa: E731
        return Task(linear, batches, self.loss, 2, **{"provides": self.provides, **more})


def test_in_a_recipe_training_sees_its_times_and_evaluation_uniform_ones():
    seen = Seen()
    sooner.train(seen.task(), "u_shaped(a=6.0) + sgd(lr=0.01)", steps=2, evaluate_at=[2])
    uniform, chosen = EVEN[:8].float(), u_shaped(EVEN[:8].float(), 6.0)
    assert [torch.equal(t, chosen) for t in seen.times[:2]] == [True, True]
    assert all(torch.equal(t, uniform) for t in seen.times[2:])
    assert len(seen.times) > 2
    assert torch.equal(training_times(uniform), uniform)  # nothing is left behind


def test_a_loss_that_never_asks_is_told_so():
    with pytest.raises(SoonerError, match=r"u_shaped: this loss never asks for its training times.*training_times"):
        sooner.train(Seen(ask=False).task(), "u_shaped + sgd", steps=1)


def test_nothing_is_left_behind_by_a_loss_that_fails():
    law = UShaped()

    def failing():
        with law.around_loss():
            training_times(EVEN)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert torch.equal(training_times(EVEN), EVEN)
    for same in (copy.deepcopy(law), pickle.loads(pickle.dumps(law))):
        assert torch.equal(same(EVEN), law(EVEN))


def test_a_task_without_a_flow_is_refused_before_the_first_step():
    seen = Seen()
    said = (
        r"u_shaped needs flow times, which task \w+ does not provide; train on a task whose loss asks "
        r"sooner\.diffusion\.training_times for its times, as digits_flow does"
    )
    with pytest.raises(SoonerError, match=said):
        sooner.train(seen.task(provides=()), "u_shaped + sgd")
    assert seen.times == []
    with pytest.raises(SoonerError, match=said.replace(r"\w+", "quadratic")):
        Plan(sooner.workload("quadratic"), [Recipe("sgd"), Recipe("u_shaped + sgd")])
    with pytest.raises(SoonerError, match="u_shaped needs flow times, which this training loop does not provide"):
        Recipe("u_shaped + sgd").build(torch.nn.Linear(1, 1), 10)


@pytest.mark.parametrize("provides", ["flow times", 3, [1]])
def test_what_a_task_provides_is_a_set_of_texts(provides):
    with pytest.raises(SoonerError, match=r"provides = .* must be a set of texts, such as {'flow times'}"):
        Seen().task(provides=provides)


def test_two_laws_are_one_too_many():
    with pytest.raises(SoonerError, match="both own the training times"):
        Recipe("u_shaped + u_shaped + sgd")


def test_it_is_raced_on_digits_flow():
    plan = Plan(sooner.workload("digits_flow"), [Recipe("adamw"), Recipe("u_shaped + adamw")], steps=30, tune=1)
    assert [str(r) for r in plan.recipes] == ["adamw", "adamw + u_shaped"]
    assert set(plan.recipes[1].space) == {"a", "lr", *Recipe("adamw").space}


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path):
    task = sooner.workload("digits_flow")
    whole = sooner.train(task, "u_shaped + adamw", steps=4, evaluate_at=[4])

    class Stopped(Exception):
        pass

    def stop(step, value):
        raise Stopped

    options = {"steps": 4, "evaluate_at": [2, 4], "checkpoint": tmp_path / "run.pt", "save_every": 1}
    with pytest.raises(Stopped):
        sooner.train(task, "u_shaped + adamw", **options, progress=stop)
    again = sooner.train(task, "u_shaped + adamw", **options)
    for p, q in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(p, q)
