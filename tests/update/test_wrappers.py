"""Parts around the step of any optimizer: the guard of softmax ghosts, and leaps that a held-out loss must confirm."""

import copy
import io
import math
from pathlib import Path

import numpy as np
import pytest
import references_second_order as references
import torch
from torch import nn
from torch.nn import functional as F

import sooner
from sooner.objective import Objective
from sooner.recipe import Recipe
from sooner.task import from_file
from sooner.update import LeapVerify, SoftmaxGhosts

TINY = from_file(Path(__file__).parents[1] / "loop" / "tiny_task.py")


def network(*, dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Dropout(0.5), nn.BatchNorm1d(6), nn.Linear(6, 3)).to(dtype)


def data(n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (n,), generator=generator)


def loss_of(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def flat(some):
    return torch.cat([t.flatten() for t in some]).numpy()


def through_file(content):
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# softmax ghosts


def jacobian_at(model, values, x):
    """Derivative of the logits in evaluation mode, at these weights, [n, classes, D], by reverse mode."""
    still = copy.deepcopy(model).eval()
    names = [name for name, _ in still.named_parameters()]

    def logits(*values):
        return torch.func.functional_call(still, dict(zip(names, values, strict=True)), (x,))

    return torch.cat([b.flatten(2) for b in torch.autograd.functional.jacobian(logits, tuple(values))], 2).numpy()


def guarded_step(model, lr, closure, **options):
    """One step of plain descent under the guard: weights before, plain displacement, guard."""
    guard = SoftmaxGhosts(model, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    optimizer.zero_grad()
    closure().backward()
    before = weights(model)
    plain = [-lr * p.grad for p in model.parameters()]
    with guard.around_step(closure):
        optimizer.step()
    return before, plain, guard


@pytest.mark.parametrize("limit", [1.0, 0.25])
@pytest.mark.parametrize("lr", [1e-3, 1.0, 1e3])
def test_a_step_ends_at_the_radius_of_convergence(lr, limit):
    model = network()
    batch = data()
    before, plain, guard = guarded_step(model, lr, lambda: loss_of(model, batch), limit=limit)
    now = weights(model)
    length = np.linalg.norm(flat(plain))
    radius = references.ghost_radius(jacobian_at(model, before, batch[0]), flat(plain))
    assert guard.ratio.item() == pytest.approx(length / radius, rel=1e-9)
    moved = flat(now) - flat(before)
    share = min(1.0, limit * radius / length)
    assert np.allclose(moved, share * flat(plain), rtol=1e-7, atol=1e-12)
    assert (share < 1) == (lr == 1e3 or (lr == 1.0 and limit * radius < length))


def test_a_short_step_keeps_its_bits_and_the_model_its_mode():
    guarded, plain = network(dtype=torch.float32), network(dtype=torch.float32)
    guarded[3].eval()  # a frozen layer in a model that trains
    plain[3].eval()
    guard = SoftmaxGhosts(guarded)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-3) for m in (guarded, plain)]
    for step in range(4):
        x, y = data(seed=step)
        for model, optimizer in zip((guarded, plain), optimizers, strict=True):
            torch.manual_seed(step)

            def closure(model=model, x=x, y=y):
                return F.cross_entropy(model(x.float()), y)

            optimizer.zero_grad()
            closure().backward()
            if model is guarded:
                buffers, noise = copy.deepcopy(dict(model.named_buffers())), torch.get_rng_state()
                with guard.around_step(closure):
                    optimizer.step()
                assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
                assert torch.equal(noise, torch.get_rng_state())
            else:
                optimizer.step()
        assert same(weights(guarded), weights(plain))
        assert 0 < guard.ratio < 1
    assert [m.training for m in guarded] == [True, True, True, False, True]


def test_the_widest_answer_of_all_micro_batches_decides():
    ratios = []
    for batches in ([data(seed=1)], [data(seed=2)], [data(seed=1), data(seed=2)]):
        model = network().eval()
        guard = SoftmaxGhosts(model)
        generator = torch.Generator().manual_seed(3)
        with guard.around_step(Objective(model, loss_of, batches)), torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
        ratios.append(guard.ratio.item())
    assert ratios[2] == max(ratios[:2])
    assert ratios[0] != ratios[1]


def test_answers_that_do_not_count_widen_nothing():
    ratios = []
    x, y = data()
    x = torch.cat([x, 100 * x[:1]])
    for target in (0, -100):
        model = network().eval()
        _, _, guard = guarded_step(
            model, 1.0, lambda m=model, t=target: loss_of(m, (x, torch.cat([y, torch.tensor([t])])))
        )
        ratios.append(guard.ratio.item())
    assert ratios[1] < ratios[0]


def test_a_binary_logit_counts_as_two_classes():
    z = nn.Linear(4, 1, bias=False).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    y = torch.tensor([0.0, 1, 0, 1, 0, 1], dtype=torch.float64)
    _, plain, guard = guarded_step(z, 50.0, lambda: F.binary_cross_entropy_with_logits(z(x)[:, 0], y))
    assert guard.ratio.item() == pytest.approx((x @ plain[0][0]).abs().max().item() / math.pi)


def test_no_displacement_and_no_influence_on_the_logits_are_no_trouble():
    model = network()
    before, _, guard = guarded_step(model, 0.0, lambda: loss_of(model, data()))
    assert guard.ratio == 0
    assert same(before, weights(model))
    lone = nn.ModuleDict({"net": network(), "idle": nn.Linear(2, 2).double()})
    guard = SoftmaxGhosts(lone)
    with guard.around_step(lambda: loss_of(lone["net"], data())), torch.no_grad():
        lone["idle"].weight.add_(1e6)
    assert guard.ratio < 1


def test_only_every_so_manyth_step_is_checked():
    model = network()
    guard = SoftmaxGhosts(model, every=3)
    looked = []
    for _ in range(4):
        guard.ratio = None
        with guard.around_step(lambda: loss_of(model, data())), torch.no_grad():
            model[0].weight.add_(1.0)
        looked.append(guard.ratio is not None)
        guard.load_state_dict(through_file(guard.state_dict()))
    assert looked == [False, False, True, False]
    assert guard.state_dict() == {"steps_taken": 4}


def test_attention_has_a_forward_derivative():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(5, 12)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            query, key, value = self.project(x).unsqueeze(1).chunk(3, dim=-1)
            return self.head(F.scaled_dot_product_attention(query, key, value).squeeze(1)).flatten(0, 1)

    model = Attending().double()
    x, y = torch.randn(2, 6, 5, dtype=torch.float64), torch.randint(0, 3, (12,))
    before, plain, guard = guarded_step(model, 100.0, lambda: F.cross_entropy(model(x), y))
    radius = references.ghost_radius(jacobian_at(model, before, x), flat(plain))
    assert guard.ratio.item() == pytest.approx(np.linalg.norm(flat(plain)) / radius, rel=1e-9)


def test_what_the_guard_cannot_use_is_named():
    model = network()
    guard = SoftmaxGhosts(model)
    with pytest.raises(sooner.SoonerError, match="softmax_ghosts needs a closure"), guard.around_step(None):
        pass
    with (
        pytest.raises(sooner.SoonerError, match="softmax_ghosts sees no cross-entropy in the loss"),
        guard.around_step(lambda: model(data()[0]).square().mean()),
    ):
        pass
    for bad, sentence in (({"limit": -1.0}, "limit=-1.0"), ({"every": 0}, "every=0 is not a whole number")):
        with pytest.raises(sooner.SoonerError, match=f"softmax_ghosts: {sentence}"):
            SoftmaxGhosts(model, **bad)


class OneWay(torch.autograd.Function):
    """An operation without a forward-mode derivative."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


def test_an_operation_without_forward_derivative_is_named():
    model = network()
    with pytest.raises(sooner.SoonerError, match="softmax_ghosts needs forward-mode derivatives, which an operation"):
        guarded_step(model, 1.0, lambda: F.cross_entropy(OneWay.apply(model(data()[0])), data()[1]))


def digits_after_a_spike(seed, guarded):
    """Test accuracy after 120 steps of Adam whose learning rate is a thousand times too large from step 40 on."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images, labels = torch.from_numpy(images / 16).float(), torch.from_numpy(labels)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    test, kept = order[:360], order[360:]
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    guard = SoftmaxGhosts(model) if guarded else None
    for step in range(120):
        optimizer.param_groups[0]["lr"] = 1e-2 if step < 40 else 10.0
        batch = kept[torch.randint(0, len(kept), (128,), generator=generator)]

        def closure(batch=batch):
            return F.cross_entropy(model(images[batch]), labels[batch])

        optimizer.zero_grad()
        closure().backward()
        if guard is None:
            optimizer.step()
        else:
            with guard.around_step(closure):
                optimizer.step()
    with torch.no_grad():
        return (model(images[test]).argmax(1) == labels[test]).float().mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_training_survives_a_thousandfold_learning_rate_only_under_guard(seed):
    assert digits_after_a_spike(seed, guarded=True) >= 0.9
    assert digits_after_a_spike(seed, guarded=False) < 0.5


def test_recipes_put_wrappers_around_all_optimizers():
    assert str(Recipe("softmax_ghosts(limit=0.5) + leap_verify + adamw")) == (
        "adamw + leap_verify + softmax_ghosts(limit=0.5)"
    )
    free = sooner.train(TINY, "sgd(on='*.bias', lr=3.0) + muon(on='rest', lr=3.0)", 3)
    held = sooner.train(TINY, "softmax_ghosts(limit=0.1) + sgd(on='*.bias', lr=3.0) + muon(on='rest', lr=3.0)", 3)
    gentle = sooner.train(TINY, "adamw(lr=1e-4)", 3)
    assert torch.equal(gentle.losses, sooner.train(TINY, "adamw(lr=1e-4) + softmax_ghosts", 3).losses)
    assert held.losses[-1] < free.losses[-1]
    with pytest.raises(sooner.SoonerError, match=r"leap_verify needs (a )?held-out loss, which this training loop"):
        Recipe("adamw + leap_verify").build(network(), 10)


# leap and verify


class Point(nn.Module):
    """A point in space; its output is itself, a row per coordinate."""

    def __init__(self, start):
        super().__init__()
        self.at = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self):
        return self.at.unsqueeze(1)


def height(model, slope):
    return slope * model().sum()


def walk(wrapper, model, steps, move=None, held_out=1.0):
    """Let weights move as `move` says, under the wrapper; the held-out loss is `held_out` times their sum."""
    for step in range(steps):
        objective = Objective(model, height, [1.0], held_out=lambda: held_out)
        with wrapper.around_step(objective), torch.no_grad():
            model.at.add_(torch.full_like(model.at, -1.0) if move is None else move(step))


def test_a_leap_that_the_held_out_loss_confirms_is_kept():
    model = Point([100.0, 50.0])
    leap = LeapVerify(model, interval=4, ahead=3, when="always")
    walk(leap, model, 4)
    assert (leap.attempted, model.at.tolist()) == (0, [96.0, 46.0])
    walk(leap, model, 4)
    assert (leap.attempted, leap.accepted, model.at.tolist()) == (1, 1, [89.0, 39.0])
    walk(leap, model, 4)  # the leap itself is no part of the next displacement
    assert (leap.attempted, leap.accepted, model.at.tolist()) == (2, 2, [82.0, 32.0])


def test_a_leap_that_it_does_not_confirm_leaves_no_trace():
    model = Point([0.1, 0.2])
    leap = LeapVerify(model, interval=2, ahead=5, when="always")
    walk(leap, model, 8, lambda step: torch.tensor([0.1, -0.3]) / (step + 1), held_out=-1.0)
    plain = Point([0.1, 0.2])
    with torch.no_grad():
        for step in range(8):
            plain.at.add_(torch.tensor([0.1, -0.3]) / (step + 1))
    assert (leap.attempted, leap.accepted) == (3, 0)
    assert torch.equal(model.at, plain.at)


@pytest.mark.parametrize("shrink", [0.3, 0.9])
def test_the_quadratic_leap_follows_the_paper(shrink):
    model = Point([5.0, -2.0, 1.0])
    start = np.array([5.0, -2.0, 1.0])
    leap = LeapVerify(model, interval=1, ahead=2, predictor="quadratic", when="always")
    moves = [np.array([-1.0, 0.2, -0.5]), shrink * np.array([-1.0, -0.4, -0.6]), np.array([-1.0, 0.3, -0.1])]
    walk(leap, model, 2, lambda step: torch.from_numpy(moves[step]))
    assert leap.attempted == 0  # it takes two displacements
    walk(leap, model, 1, lambda step: torch.from_numpy(moves[2]))
    now, before, earlier = start + sum(moves), start + sum(moves[:2]), start + moves[0]
    assert (leap.attempted, leap.accepted) == (1, 1)
    assert np.allclose(model.at.detach().numpy(), references.quadratic_leap(now, before, earlier, 2.0))


def test_how_much_the_held_out_loss_may_rise():
    def accepted(verify, slope):
        model = Point([100.0])
        leap = LeapVerify(model, interval=1, ahead=1, verify=verify, when="always")
        walk(leap, model, 2, lambda step: torch.tensor([slope]))
        return leap.accepted

    assert [accepted("strict", slope) for slope in (-0.1, 0.1, 0.9)] == [1, 0, 0]
    assert [accepted("percent", slope) for slope in (-0.1, 0.1, 0.9)] == [1, 1, 0]
    model = Point([100.0])
    leap = LeapVerify(model, interval=1, ahead=1, verify="adaptive", when="always")
    walk(leap, model, 3, lambda step: torch.tensor([[-10.0], [-10.0], [-10.0]][step]))
    assert leap.accepted == 2
    spread = np.std(leap.losses)
    assert spread > 2
    walk(leap, model, 1, lambda step: torch.tensor([1.0]))  # rises by 1, less than the spread
    assert leap.accepted == 3


class Turning(nn.Module):
    """Two outputs in a plane whose direction turns with the weight, so that similarity is what the test wants."""

    def __init__(self):
        super().__init__()
        self.angle = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self):
        return torch.stack([self.angle.cos(), self.angle.sin()]).unsqueeze(0)


def turn(leap, model, angles):
    """Return how often a leap had been attempted after each interval."""
    seen = []
    for angle in angles:
        objective = Objective(model, lambda m, b: m().sum(), [None], held_out=lambda: None)
        with leap.around_step(objective), torch.no_grad():
            model.angle.add_(angle)
        seen.append(leap.attempted)
    return seen


def test_it_leaps_only_after_two_calm_checks_by_the_measure_so_far():
    angles = [1.0, 0.9, 1.2, 0.5, 0.4, 0.3, 1.5, 0.2, 0.1]
    model = Turning()
    leap = LeapVerify(model, interval=1, ahead=1)
    tries = np.diff([0, *turn(leap, model, angles)])
    similar = leap.similarities
    calm = [similar[i] >= np.quantile(similar[: i + 1], 0.7) for i in range(len(similar))]
    assert tries[0] == 0
    assert tries[1:].tolist() == [int(i > 0 and calm[i] and calm[i - 1]) for i in range(len(similar))]
    assert 0 < sum(tries) < len(similar)
    model = Turning()
    other = LeapVerify(model, interval=1, ahead=1, when="not chaotic")
    tries = np.diff([0, *turn(other, model, angles)])
    similar = other.similarities
    wild = [similar[i] <= np.quantile(similar[: i + 1], 0.3) for i in range(len(similar))]
    assert tries[1:].tolist() == [int(not one) for one in wild]
    assert 0 < sum(tries) < len(similar)


def test_schedules_advance_only_where_they_were_handed_over():
    model = Point([100.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.step()
    leap = LeapVerify(model, interval=1, ahead=3, when="always")
    walk(leap, model, 2)
    assert (leap.accepted, schedule.last_epoch) == (1, 0)
    leap.schedules.append(schedule)
    walk(leap, model, 1)
    assert (leap.accepted, schedule.last_epoch) == (2, 3)
    walk(leap, model, 1, held_out=-1.0)
    assert (leap.accepted, schedule.last_epoch) == (2, 3)


@pytest.mark.parametrize(
    "settings",
    [
        "when='always'",
        "predictor='quadratic', when='not chaotic', verify='adaptive'",
        "verify='percent', ahead=10",
    ],
)
def test_a_run_with_leaps_resumes_bit_for_bit(settings, tmp_path):
    recipe = f"adamw + leap_verify(interval=2, {settings}) + cosine"

    class Stopped(Exception):
        pass

    def stop(step, value):
        if step > 6:
            raise Stopped

    straight = sooner.train(TINY, recipe, 3)
    with pytest.raises(Stopped):
        sooner.train(TINY, recipe, 3, checkpoint=tmp_path / "run.pt", save_every=6, progress=stop)
    resumed = sooner.train(TINY, recipe, 3, checkpoint=tmp_path / "run.pt")
    assert torch.equal(straight.losses, resumed.losses)
    assert same(weights(straight.model), weights(resumed.model))


def test_its_state_is_a_copy_that_another_goes_on_from():
    model = Point([100.0, 50.0])
    leap = LeapVerify(model, interval=2, ahead=1, predictor="quadratic", when="always")
    walk(leap, model, 4)
    content = leap.state_dict()
    kept = through_file(content)
    walk(leap, model, 4)
    again = Point([96.0, 46.0])
    other = LeapVerify(again, interval=2, ahead=1, predictor="quadratic", when="always")
    other.load_state_dict(kept)
    walk(other, again, 4)
    assert torch.equal(model.at, again.at)
    assert (other.attempted, other.losses) == (leap.attempted, leap.losses)
    assert content["steps_taken"] == 4
    assert len(content["losses"]) == len(kept["losses"])


def test_buffers_and_modes_stay():
    model = network()
    leap = LeapVerify(model, interval=1, when="not chaotic")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(5):
        objective = Objective(model, loss_of, [data(seed=step)], held_out=lambda: data(seed=99))
        optimizer.zero_grad()
        objective().backward()
        buffers = copy.deepcopy(dict(model.named_buffers()))
        with leap.around_step(objective):
            optimizer.step()
        assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
        assert all(m.training for m in model)
    assert leap.attempted > 0


def test_what_leaps_cannot_use_is_named():
    model = network()
    leap = LeapVerify(model, interval=1)
    for objective in (None, lambda: 1.0, Objective(model, loss_of, [data()])):
        with (
            pytest.raises(sooner.SoonerError, match="leap_verify needs a held-out loss: pass"),
            leap.around_step(objective),
        ):
            pass

    def bypass():
        objective = Objective(
            model, lambda m, b: m[4](m[0](data()[0])).mean(), [None], held_out=lambda: None
        )  # calls layers, not the model
        with leap.around_step(objective):
            pass

    bypass()
    with pytest.raises(sooner.SoonerError, match="leap_verify finds no outputs of the model to compare"):
        bypass()
    for bad, sentence in (
        ({"interval": 0}, "interval=0"),
        ({"ahead": 0.5}, "ahead=0.5 is not a whole number"),
        ({"predictor": "cubic"}, "predictor='cubic' is not one of linear, quadratic"),
        ({"verify": "strickt"}, r"verify='strickt' \(did you mean 'strict'\?\)"),
        ({"when": "never"}, "when='never'"),
    ):
        with pytest.raises(sooner.SoonerError, match=f"leap_verify: {sentence}"):
            LeapVerify(model, **bad)


def test_modules_end_a_check_in_the_mode_that_they_had():
    model = network()
    model[3].eval()  # a frozen layer in a model that trains
    leap = LeapVerify(model, interval=1, when="always")
    for step in range(4):
        objective = Objective(model, loss_of, [data(seed=step)], held_out=lambda: data(seed=99))
        with leap.around_step(objective), torch.no_grad():
            model[0].weight.add_(0.01)
    assert leap.attempted > 0
    assert [m.training for m in model] == [True, True, True, False, True]


def test_lines_begin_anew_where_parameters_are_replaced_and_go_on_where_they_are_cast():
    model = Point([100.0, 50.0])
    leap = LeapVerify(model, interval=1, ahead=1, when="always")
    walk(leap, model, 2)
    assert (leap.attempted, model.at.tolist()) == (1, [97.0, 47.0])
    model.at = nn.Parameter(torch.tensor([10.0, 10.0, 10.0], dtype=torch.float64))
    walk(leap, model, 1)
    assert (leap.attempted, model.at.tolist()) == (1, [9.0, 9.0, 9.0])
    model.float()
    walk(leap, model, 1)
    assert (leap.attempted, model.at.tolist(), model.at.dtype) == (2, [7.0, 7.0, 7.0], torch.float32)
