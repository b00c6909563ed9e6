"""Each task shows, in miniature, the phenomenon that its page promises."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from descent import evaluate, train
from scipy.optimize import linprog

from sooner.workloads import _digits, charlm, digits, modular, quadratic, separable, zipf

SGD, AdamW = torch.optim.SGD, torch.optim.AdamW


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TestCharlm:
    def test_size_is_what_the_page_says(self):
        assert sum(parameter.numel() for parameter in charlm.model(0).parameters()) == 115_136

    def test_no_character_is_predicted_from_itself_or_later_ones(self):
        model = charlm.model(0)
        (windows,) = charlm.batches(0, "train")[0]
        changed = windows[:, :-1].clone()
        changed[:, 40:] = 1
        with torch.no_grad():
            before, after = model(windows[:, :-1]), model(changed)
        torch.testing.assert_close(after[:, :40], before[:, :40])
        assert not torch.allclose(after[:, 40:], before[:, 40:])

    def test_held_out_files_are_not_among_the_training_files(self):
        (windows,) = charlm.batches(0, "eval")[0]
        training = charlm._text("train").tobytes()
        found = sum(bytes(row.tolist()) in training for row in windows)
        assert found <= 2  # a few windows of standard phrases may occur in both

    def test_training_leaves_the_plateau_of_single_characters(self):
        _, _, (found,) = train(charlm, partial(AdamW, lr=5e-3), steps=60, watch=[60])
        # the entropy of single characters in this text is about 3.3 nats
        assert found["loss"] < 3.0


class TestDigits:
    def test_split_is_stratified_and_complete(self):
        train_labels, test_labels = _digits.divided("train")[1], _digits.divided("eval")[1]
        assert len(train_labels) + len(test_labels) == 1797
        shares = torch.bincount(test_labels) / torch.bincount(torch.cat([train_labels, test_labels]))
        assert torch.all((shares - 0.25).abs() < 0.005)

    def test_no_image_is_in_both_splits(self):
        # the 1,797 images are all different
        rows = torch.cat([_digits.divided(split)[0].flatten(1) for split in ("train", "eval")])
        assert len(rows.unique(dim=0)) == 1797

    def test_one_pass_shows_no_image_twice(self):
        batches = digits.batches(0, "train")
        per_pass = len(_digits.divided("train")[1]) // digits.BATCH
        rows = torch.cat([batches[per_pass + index][0].flatten(1) for index in range(per_pass)])
        assert len(rows.unique(dim=0)) == per_pass * digits.BATCH

    @pytest.mark.parametrize("block", ["first", "second", "third"])
    def test_weights_before_a_normalization_are_scale_invariant(self, block):
        model = digits.model(0)
        batch = digits.batches(0, "eval")[0]
        with torch.no_grad():
            before = digits.loss(model, batch)
            getattr(model, block)[0].weight *= 3
            after = digits.loss(model, batch)
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)

    def test_a_short_run_reads_most_digits(self):
        _, _, (found,) = train(digits, partial(AdamW, lr=1e-2), steps=80, watch=[80])
        assert found["error"] < 0.1


class TestZipf:
    def test_every_evaluation_decile_holds_a_tenth_of_the_tokens(self):
        tokens, _ = zipf.batches(0, "eval")[0]
        counts = torch.bincount(torch.from_numpy(zipf._deciles())[tokens], minlength=10)
        # the commonest tokens hold several per cent each and can't be divided evenly
        assert torch.all((counts - 40).abs() <= 15)
        assert counts.sum() == zipf.EVAL_TOKENS

    def test_deciles_go_from_common_to_rare(self):
        deciles = zipf._deciles()
        assert deciles[0] == 0
        assert deciles[-1] == 9
        assert (deciles[1:] >= deciles[:-1]).all()

    def test_training_tokens_follow_the_law(self):
        batches = zipf.batches(0, "train")
        tokens = torch.cat([batches[index][0] for index in range(80)])
        share = (tokens == 0).float().mean().item() / (tokens == 9).float().mean().item()
        assert 7 < share < 14  # ten in expectation

    def test_adam_learns_the_tail_that_sgd_leaves(self):
        steps = 80
        # twice this rate diverges, so no rate of SGD does much better
        sgd = train(zipf, partial(SGD, lr=0.12, momentum=0.9, nesterov=True), steps, watch=[steps])[2][0]
        adam = train(zipf, partial(AdamW, lr=1e-2, betas=(0.9, 0.95)), steps, watch=[steps])[2][0]
        assert adam["loss"] < 0.8 * sgd["loss"]
        assert adam["loss_decile_0"] < 0.05
        assert sgd["loss_decile_0"] < 0.05
        assert sgd["loss_decile_8"] > 4  # ignorance is 8.3


class TestModular:
    def test_splits_are_disjoint_and_complete(self):
        pairs = torch.cat([modular.batches(0, split)[0][0] for split in ("train", "eval")])
        assert len(pairs.unique(dim=0)) == len(pairs) == 59**2

    def test_labels_are_sums(self):
        pairs, sums = modular.batches(0, "train")[0]
        assert all((a + b) % 59 == total for (a, b), total in zip(pairs.tolist(), sums.tolist(), strict=True))

    def test_generalization_comes_late_and_through_weight_decay(self):
        decayed = partial(AdamW, lr=2e-2, betas=(0.9, 0.95), weight_decay=1.0)
        _, losses, (early, late) = train(modular, decayed, steps=400, watch=[100, 400])
        assert losses[99] < 0.05
        assert early["error"] > 0.9
        assert late["error"] < 0.2
        undecayed = partial(AdamW, lr=2e-2, betas=(0.9, 0.95), weight_decay=0.0)
        _, losses, (late,) = train(modular, undecayed, steps=300, watch=[300])
        assert losses[-1] < 1e-4
        assert late["error"] > 0.9


class TestQuadratic:
    def test_the_optimum_is_where_the_page_says(self):
        model = quadratic.model(0)
        with torch.no_grad():
            model.point.copy_(model.optimum)
        assert evaluate(quadratic, model)["loss"] == 0

    def test_curvatures_are_the_eigenvalues_of_the_loss(self):
        model = quadratic.model(0)
        silence = torch.zeros(quadratic.DIMENSIONS)

        def height(point):
            return torch.func.functional_call(model, {"point": point}, (silence,))

        hessian = torch.func.hessian(height)(model.point.detach())
        found = torch.linalg.eigvalsh(hessian).flip(0)
        torch.testing.assert_close(found, 1 / torch.arange(1, 101), rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize(("learning_rate", "steps"), [(0.1, 40), (0.4, 40), (1.5, 10)])
    def test_simulated_sgd_agrees_with_the_closed_form(self, learning_rate, steps):
        """The same rule as torch.optim.SGD on many seeds at once; the mean must lie within four standard errors."""
        seeds = 200
        points = torch.stack([quadratic.model(seed).point.detach() for seed in range(seeds)])
        model = quadratic.model(0)

        def height(point, noise):
            return torch.func.functional_call(model, {"point": point}, (noise,))

        slope, level = torch.func.vmap(torch.func.grad(height)), torch.func.vmap(height)
        streams = [quadratic.batches(seed, "train") for seed in range(seeds)]
        for step in range(steps):
            points = points - learning_rate * slope(points, torch.stack([stream[step][0] for stream in streams]))
        heights = level(points, torch.zeros_like(points)).double()
        error = heights.std() / seeds**0.5
        assert abs(heights.mean() - quadratic.expected_loss(learning_rate, steps)) < 4 * error

    @pytest.mark.parametrize("batches", [1, 8])
    def test_simulated_batches_agree_with_the_closed_forms(self, batches):
        """Loss and noise scale of the linear recursion along the eigenvectors, drawn directly; four standard errors."""
        random = np.random.default_rng(6)
        h, rate, steps, runs = 1 / np.arange(1, 101), 0.7, 30, 4000
        x = random.standard_normal((runs, 100))
        for _ in range(steps):
            noise = np.sqrt(0.1 * h / batches) * random.standard_normal((runs, 100))
            x -= rate * (h * x + noise)
        losses, squares = (h * x**2).sum(1) / 2, (h**2 * x**2).sum(1)
        found = quadratic.expected_loss(rate, steps, batches)
        assert abs(losses.mean() - found) < 4 * losses.std() / runs**0.5
        found = 0.1 * h.sum() / quadratic.noise_scale(rate, steps, batches)
        assert abs(squares.mean() - found) < 4 * squares.std() / runs**0.5

    def test_larger_batches_save_steps_up_to_a_critical_size(self):
        """Least steps to a loss over all constant rates: halved by doubling small batches, the same for large ones."""

        def least(batches):
            rates = np.geomspace(0.02, 1.5, 12)
            found = (n for n in range(4, 4000, 4) if min(quadratic.expected_loss(r, n, batches) for r in rates) < 0.1)
            return next(found)

        needed = {batches: least(batches) for batches in (1, 2, 64, 128)}
        assert needed[1] / needed[2] > 1.5
        assert needed[64] / needed[128] < 1.1

    def test_torch_sgd_takes_the_steps_of_the_simulation(self):
        model = train(quadratic, partial(SGD, lr=0.4), steps=3)[0]
        points = quadratic.model(0)
        x = points.point.detach().double() - points.optimum.double()
        rotation, curvatures = points.rotation.double(), points.curvatures.double()
        for step in range(3):
            noise = quadratic.batches(0, "train")[step][0].double()
            x = x - 0.4 * rotation @ (curvatures * (x @ rotation) + noise)
        torch.testing.assert_close(model.point.detach().double() - points.optimum.double(), x, rtol=1e-4, atol=1e-5)

    def test_a_constant_rate_ends_on_its_floor_and_decay_goes_below(self):
        floor = quadratic.expected_loss(0.4, 100_000)
        assert quadratic.expected_loss(0.4, 1000) == pytest.approx(floor, rel=1e-2)
        assert quadratic.expected_loss(0.04, 100_000) < floor / 5

    def test_too_large_a_rate_diverges(self):
        assert quadratic.expected_loss(2.1, 300) > 1e6
        assert quadratic.expected_loss(0.0, 300) == quadratic.expected_loss(0.3, 0)


class TestSeparable:
    def test_a_plane_separates_the_points(self):
        """Feasibility of y_i w.x_i >= 1 for all points, which a linear program decides."""
        points, labels = separable.batches(0, "train")[0]
        signed = (points * (2 * labels - 1).unsqueeze(1)).double().numpy()
        found = linprog(np.zeros(points.shape[1]), A_ub=-signed, b_ub=-np.ones(len(signed)), bounds=(None, None))
        assert found.success
        assert (signed @ found.x > 0).all()

    def test_one_step_does_not_solve_it(self):
        for rate in (0.01, 0.1, 1.0, 10.0, 100.0):
            _, _, (found,) = train(separable, partial(SGD, lr=rate), steps=1, watch=[1])
            assert found["error"] >= 0.03

    @pytest.mark.parametrize("seed", [0, 1])
    def test_large_steps_reach_the_error_sooner_although_their_loss_is_higher(self, seed):
        watch = range(1, separable.steps + 1)
        _, small_losses, small = train(separable, partial(SGD, lr=0.003), separable.steps, seed, watch)
        _, large_losses, large = train(separable, partial(SGD, lr=3.0), separable.steps, seed, watch)
        assert all(found["error"] > 0.01 for found in small)
        assert any(found["error"] <= 0.01 for found in large[:200])
        assert large[-1]["loss"] > 2 * small[-1]["loss"]
        assert sum(after > before for before, after in pairwise(large_losses)) > 50
        assert all(after <= before for before, after in pairwise(small_losses))
