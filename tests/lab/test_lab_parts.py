"""The parts of the oracles and changed workloads: what they do is known exactly."""

import pytest
import torch
from torch import nn

import sooner
from sooner.lab._changes import CHANGES
from sooner.lab._races import AHEAD, EXTRA, ORACLES, SHARES
from sooner.lab._rounded_weights import RoundedWeights, rounded_at_random
from sooner.lab._variants import Arm, best_rate, measure
from sooner.loop.batches import HELD_OUT
from sooner.task import Task
from sooner.workloads import find


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class Numbers:
    """Batches that are their own numbers."""

    def __getitem__(self, step):
        return torch.tensor(float(step >= HELD_OUT))

    def __len__(self):
        return 1


SEEN = []


def loss(model, batch):
    if model.training:
        SEEN.append(float(batch))
    return model.weight.sum() * (1 + 0 * batch)


TASK = Task(lambda seed: Counted(), lambda seed, split: Numbers(), loss, 12)


@pytest.mark.parametrize(
    ("extra", "taken"), [("every=1", 24), ("every=3", 16), ("every=9", 13), ("first=5", 17), ("first=0", 12)]
)
def test_additional_steps_are_ordinary_ones_on_batches_of_their_own(extra, taken):
    SEEN.clear()
    run = sooner.train(TASK, f"sgd(lr=1.0, momentum=0.0) + {EXTRA}({extra})", seed=0)
    assert run.values[-1] == -taken
    assert SEEN.count(1.0) == taken - 12
    assert SEEN.count(0.0) == 12


@pytest.mark.parametrize("every", SHARES)
def test_the_share_of_the_steps_is_the_true_one(every):
    plain = sooner.train(TASK, "sgd(lr=1.0, momentum=0.0)", seed=0, steps=90).values[-1]
    ahead = sooner.train(TASK, f"sgd(lr=1.0, momentum=0.0) + {EXTRA}(every={every})", seed=0, steps=90).values[-1]
    assert plain / ahead == SHARES[every]


def test_additional_steps_go_on_after_a_checkpoint(tmp_path):
    recipe = f"adamw(lr=0.1) + {EXTRA}(every=3)"
    path = tmp_path / "run.pt"
    whole = sooner.train(TASK, recipe, seed=0, steps=10)
    with pytest.raises(KeyboardInterrupt):
        sooner.train(TASK, recipe, 0, 10, checkpoint=path, save_every=4, evaluate_at=[0, 10], progress=_stop_at(10))
    resumed = sooner.train(TASK, recipe, 0, 10, checkpoint=path, save_every=4, evaluate_at=[0, 10])
    assert torch.equal(whole.model.weight, resumed.model.weight)


def _stop_at(last):
    def progress(step, value):
        if step == last:
            raise KeyboardInterrupt

    return progress


def test_a_loop_without_other_batches_and_several_optimizers_are_refused():
    with pytest.raises(sooner.SoonerError, match="several optimizers"):
        sooner.train(find("digits"), f"sgd(on='head.weight') + adamw(on='rest') + {EXTRA}", steps=2)
    model = Counted()
    training = sooner.Recipe(f"sgd(lr=1.0) + {EXTRA}(every=1)").build(model, 2, {"held-out loss"})
    model.weight.sum().backward()
    with pytest.raises(sooner.SoonerError, match="batches that are not trained on"):
        training.step()


def test_rounding_to_the_nearest_loses_small_updates_and_rounding_at_random_keeps_them():
    models = {how: nn.Linear(64, 64, bias=False) for how in ("nearest", "stochastic")}
    for how, model in models.items():
        torch.manual_seed(0)
        nn.init.constant_(model.weight, 1.0)
        part = RoundedWeights(model, how)
        for _ in range(40):
            with torch.no_grad():
                model.weight.add_(1e-3)
            part.after_step()
        assert torch.equal(model.weight, model.weight.bfloat16().float())
    assert models["nearest"].weight.mean() == 1.0
    assert models["stochastic"].weight.mean().item() == pytest.approx(1.04, abs=5e-4)


def test_rounding_at_random_stays_between_the_neighbours_and_keeps_what_fits():
    values = torch.tensor([1.0, -1.0, 0.0, 1.003, -1.003, 3e-5])
    torch.manual_seed(0)
    draws = torch.stack([rounded_at_random(values) for _ in range(2000)])
    assert torch.equal(draws[:, :3], values[:3].expand(2000, 3))
    assert set(draws[:, 3].tolist()) == {1.0, 1.0078125}
    assert set(draws[:, 4].tolist()) == {-1.0, -1.0078125}
    torch.testing.assert_close(draws.mean(0), values, rtol=5e-4, atol=0)


def test_every_change_leaves_the_evaluation_and_other_seeds_alone():
    for workload, changes in (
        ("quadratic", ("without noise", "batches of 4 draws")),
        ("digits", ("batches of 16 images", "128 images", "sorted by class", "8 layers", "without normalization")),
        (
            "charlm",
            (
                "batches of 2 windows",
                "20 batches again and again",
                "a quarter of the parameters",
                "weights a tenth as large",
            ),
        ),
    ):
        plain = find(workload)
        for name in changes:
            task = CHANGES[name](plain)
            for mine, other in zip(task.batches(0, "eval")[0], plain.batches(0, "eval")[0], strict=True):
                assert torch.equal(mine, other)
            one, same = (task.batches(3, "train")[21] for _ in range(2))
            assert all(map(torch.equal, one, same))
            weights = [torch.cat([p.flatten() for p in task.model(seed).parameters()]) for seed in (1, 1, 2)]
            assert torch.equal(weights[0], weights[1])
            assert not torch.equal(weights[0], weights[2])
    again = CHANGES["20 batches again and again"](find("charlm")).batches(3, "train")
    assert torch.equal(again[21][0], again[1][0])
    assert len(CHANGES["batches of 16 images"](find("digits")).batches(0, "train")[0][1]) == 16
    assert CHANGES["batches of 4 draws"](find("quadratic")).batches(0, "train")[0][0].std() < 0.1
    assert not CHANGES["without noise"](find("quadratic")).batches(0, "train")[5][0].any()


def test_an_arm_is_tuned_on_a_seed_of_its_own_and_a_lost_run_ends_nowhere():
    arm = Arm("quadratic", "as it is", "sgd(lr={rate}, momentum=0.0)", (0.001, 0.3, 1e6), 60, 0.5)
    assert best_rate(arm) == 0.3
    found = measure(seed=1, rates=[0.001, 0.3, 1e6], **{k: v for k, v in vars(arm).items() if k != "rates"})
    assert found["rate"] == 0.3
    assert 0 < found["reached"] < 60
    lost = measure(seed=1, rates=[1e30], **{k: v for k, v in vars(arm).items() if k != "rates"})
    assert lost["last"] is None
    assert lost["reached"] is None


def test_the_oracles_race_one_recipe_without_tuning():
    for plain, race in ORACLES.values():
        assert race.tune == 0
        assert race.recipes.count(plain) == len(SHARES) + 2
        assert race.steps / 4 > AHEAD
