"""A recipe: which parts it takes, what it refuses before step 0, and what a race may tune of it."""

import copy
import pickle

import numpy as np
import pytest
import torch
import toy_parts
from torch import nn

import sooner
from sooner.recipe import Recipe, Slot, explain, slot
from sooner.space import Choice, Log, Uniform
from sooner.update import AdamW, Muon


def model():
    return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5))


NAMES = ["0.weight", "1.weight", "1.bias", "2.weight", "2.bias"]


def owners(recipe, net=None):
    """Which optimizer (by its position) steps which parameter."""
    net = model() if net is None else net
    training = Recipe(recipe).build(net, steps=10)
    names = {p: n for n, p in net.named_parameters()}
    return [sorted(names[p] for g in o.param_groups for p in g["params"]) for o in training.optimizers]


# what a recipe is made of


def test_text_slots_classes_and_recipes_say_the_same():
    text = "adamw(lr=0.01) + cosine"
    assert Recipe(slot("adamw", lr=0.01), "cosine") == Recipe(text)
    assert Recipe(slot(AdamW, lr=0.01), sooner.schedule.Cosine) == Recipe(text)
    assert Recipe("cosine", Recipe("adamw(lr=0.01)")) == Recipe(text)  # stations decide the order, not the writing
    assert Recipe("torch.optim.NAdam") == Recipe(torch.optim.NAdam)
    assert Recipe(text) != Recipe("adamw + cosine")
    assert Recipe(text) != text


def test_equal_recipes_hash_alike_whatever_the_order_of_their_settings():
    a, b = Recipe("sgd(lr=0.1, momentum=0.5)"), Recipe("sgd(momentum=0.5, lr=0.1)")
    assert a == b
    assert len({a, b}) == 1


@pytest.mark.parametrize(
    "scheduler",
    [
        torch.optim.lr_scheduler.StepLR,
        torch.optim.lr_scheduler.CosineAnnealingLR,
        torch.optim.swa_utils.SWALR,
        toy_parts.Halving,
    ],
)
def test_classes_from_anywhere_print_as_text_that_finds_them_again(scheduler):
    recipe = Recipe("torch.optim.SGD(lr=0.1)", scheduler)
    assert Recipe(str(recipe)) == recipe
    assert recipe.slots[1].station == "schedule"


def test_numbers_of_numpy_become_plain_ones():
    recipe = Recipe(slot("sgd", lr=np.float64(0.5), nesterov=np.bool_(True)))
    assert str(recipe) == "sgd(lr=0.5, nesterov=True)"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_recipes_can_be_copied_and_sent_to_other_processes(duplicate):
    recipe = Recipe(
        "torch.optim.NAdam(lr=log(1e-4, 1e-2), betas=choice((0.9, 0.99), (0.8, 0.9))) + linear", toy_parts.RunningMean
    )
    again = duplicate(recipe)
    assert again == recipe
    assert str(again) == str(recipe)
    assert (again.space, again.default) == (recipe.space, recipe.default)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("adamv", r"recipe 'adamv', column 1: there is no part named 'adamv' \(did you mean 'adamw'\?\)"),
        ("adamw + cosin", r"column 9: there is no part named 'cosin' \(did you mean 'cosine'\?\)"),
        ("adamw(learning_rate=1)", r"adamw has no hyper-parameter 'learning_rate'; it takes lr, betas, eps"),
        ("adamw(beta=1)", r"no hyper-parameter 'beta' \(did you mean 'betas'\?\)"),
        ("adamw(params=1)", "no hyper-parameter 'params'"),
        ("torch.optim.Nadam", r"torch\.optim has no class 'Nadam' \(did you mean 'NAdam'\?\)"),
        ("torch.Tensor", "'torch.Tensor' is not a part"),
        ("torch.nothing.Here", "neither a part of sooner nor an importable class .ModuleNotFoundError"),
        ("cosine", "recipe 'cosine' has no part that moves the weights; add an optimizer such as adamw"),
        ("adamw + cosine + linear", "cosine and linear both own the learning rate; keep one of them"),
        ("adamw + linear + torch.optim.lr_scheduler.StepLR(step_size=3)", "both own the learning rate"),
        ("adamw + toy_parts.RunningMean + toy_parts.OtherMean", "both own the evaluation weights; keep one of them"),
        (
            "adamw + toy_parts.Homeless",
            "toy_parts.Homeless belongs to no station; set its class attribute station to one",
        ),
        ("adamw + toy_parts.Lost", "toy_parts.Lost belongs to no station"),
        ("adamw + cosine(on='x')", "cosine: on='x' can't be used; on='pattern' tells an optimizer"),
        ("adamw(on=3)", "adamw: on=3 can't be used"),
        ("adamw(on='')", "adamw: on='' can't be used"),
    ],
)
def test_what_can_not_work_is_refused_before_there_is_a_model(what, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        Recipe(what)


@pytest.mark.parametrize("what", [3, None, nn.Linear, torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)])
def test_what_is_no_part_is_refused(what):
    with pytest.raises(sooner.SoonerError, match="is not a part; give a name from `sooner parts` or a torch"):
        Recipe(what)


def test_a_module_that_fails_on_import_is_refused_in_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "broken_parts.py").write_text("1 / 0", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(sooner.SoonerError, match=r"importable class \(ZeroDivisionError: division by zero\); write"):
        Recipe("broken_parts.Method")


# building: partition, needs


def test_one_optimizer_takes_everything():
    assert owners("adamw") == [sorted(NAMES)]
    assert owners("torch.optim.NAdam") == [sorted(NAMES)]
    assert owners("muon") == [sorted(NAMES)]


def test_optimizers_divide_the_model_by_name():
    assert owners("sgd(on='*.bias') + adamw(on='rest')") == [["1.bias", "2.bias"], ["0.weight", "1.weight", "2.weight"]]
    assert owners("sgd(on='!*.bias') + adamw(on='rest')") == [
        ["0.weight", "1.weight", "2.weight"],
        ["1.bias", "2.bias"],
    ]
    assert owners("adamw(on='rest') + torch.optim.SGD(on='1.*')") == [
        ["0.weight", "2.bias", "2.weight"],
        ["1.bias", "1.weight"],
    ]
    assert owners("sgd(on='0.*') + sgd(on='[12].weight') + sgd(on='*.bias')") == [
        ["0.weight"],
        ["1.weight", "2.weight"],
        ["1.bias", "2.bias"],
    ]


def test_a_share_of_the_model_keeps_its_names():
    training = Recipe("muon(on='1.*') + adamw(on='rest')").build(model(), steps=10)
    muon, rest = training.optimizers
    assert isinstance(muon, Muon)
    assert [g["param_names"] for g in muon.param_groups] == [["1.weight", "1.bias"]]
    assert rest.param_groups[0]["param_names"] == ["0.weight", "2.weight", "2.bias"]


def test_tied_and_frozen_parameters_have_one_owner():
    net = model()
    net[2].weight = nn.Parameter(net[0].weight.detach())
    net[2].weight = net[0].weight
    net[1].requires_grad_(False)
    assert owners("adamw", net) == [["0.weight", "1.bias", "1.weight", "2.bias"]]


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("adamw + sgd", "parameter '0.weight' has two optimizers, adamw and sgd; divide the model with on='pattern'"),
        ("adamw(on='1.*') + sgd(on='*.weight') + muon(on='rest')", "parameter '1.weight' has two optimizers"),
        ("adamw(on='rest') + sgd(on='rest')", "has two optimizers"),
        ("adamw(on='1.*')", "parameter '0.weight' has no optimizer; add a part with on='rest'"),
        (
            "adamw(on='head*') + sgd(on='rest')",
            r"adamw takes no parameter of this model: on='head\*' matches none of 0.weight, 1.weight, .*, 2.weight, …;",
        ),
        ("adamw(on='*') + sgd(on='rest')", "sgd takes no parameter of this model: nothing is left for on='rest'"),
        ("muon(on='*.bias') + adamw(on='rest')", "muon finds no hidden weight matrix"),
        ("torch.optim.Muon", r"torch.optim.Muon can't be made with \{\}: Muon only supports 2D"),
        ("torch.optim.SGD(lr=-1)", "can't be made with {'lr': -1}: Invalid learning rate"),
        ("adamw(lr=-1)", "adamw: lr=-1 is not a number"),
        ("adamw + torch.optim.lr_scheduler.StepLR", "StepLR can't be made with {}: .*step_size"),
        ("torch.optim.LBFGS", "torch.optim.LBFGS needs a closure, which this training loop does not provide"),
        (
            "adamw + torch.optim.lr_scheduler.ReduceLROnPlateau",
            "ReduceLROnPlateau needs metrics, which this training loop",
        ),
        ("toy_parts.Demanding", "toy_parts.Demanding needs per-sample gradients, which this training loop does not"),
    ],
)
def test_what_does_not_suit_the_model_is_refused_before_step_0(recipe, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        Recipe(recipe).build(model(), steps=10)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(sooner.SoonerError, match="the model has no parameters to train"):
        Recipe("adamw").build(nn.ReLU(), steps=10)


def test_a_loop_that_provides_what_is_needed_is_served():
    offered = iter(["per-sample gradients", "process group", "closure"])
    Recipe("toy_parts.Demanding(lr=0.1)").build(model(), 10, provides=offered)
    training = Recipe("torch.optim.LBFGS").build(model(), 10, provides=["closure"])
    assert isinstance(training.optimizers[0], torch.optim.LBFGS)


def test_every_optimizer_gets_its_schedule():
    training = Recipe("sgd(on='1.*', lr=0.8) + adamw(on='rest', lr=0.4) + linear(warmup=0.0)").build(model(), steps=4)
    assert training.learning_rates() == pytest.approx([0.8, 0.4])
    for expected in ([0.6, 0.3], [0.4, 0.2], [0.2, 0.1], [0.0, 0.0]):
        training.step()
        assert training.learning_rates() == pytest.approx(expected)


# what a race tunes


def test_space_and_default_are_keyed_by_hyper_parameter():
    recipe = Recipe("adamw + cosine(floor=uniform(0.0, 0.5))")
    assert recipe.space == {"lr": AdamW.space["lr"], "floor": Uniform(0.0, 0.5)}
    assert recipe.default == {"lr": 1e-3, "floor": 0.0}
    assert Recipe("adamw(lr=0.1)").space == {}
    assert Recipe("torch.optim.SGD").space == {"lr": Log(1e-4, 1e-1)}
    assert Recipe("adamw + torch.optim.lr_scheduler.StepLR(step_size=3)").default == {"lr": 1e-3}
    # a hyper-parameter without a default starts in the middle of its range
    assert Recipe("sgd + torch.optim.lr_scheduler.StepLR(step_size=choice(1, 2, 3))").default == {
        "lr": 0.1,
        "step_size": 2,
    }


def test_parts_that_share_a_word_are_told_apart():
    recipe = Recipe("muon(on='1.*') + adamw(on='rest') + linear(warmup=uniform(0.0, 0.2))")
    assert list(recipe.space) == ["muon.lr", "adamw.lr", "warmup"]
    fixed = recipe.with_settings({"adamw.lr": 0.5, "muon.lr": 0.25})
    assert [s.settings for s in fixed.slots] == [{"lr": 0.25}, {"lr": 0.5}, {}]
    twins = Recipe("sgd(on='1.*') + sgd(on='rest')")
    assert list(twins.space) == ["sgd(on='1.*').lr", "sgd(on='rest').lr"]
    fixed = twins.with_settings({"sgd(on='rest').lr": 0.5, "sgd(on='1.*').lr": 0.25})
    assert [s.settings["lr"] for s in fixed.slots] == [0.25, 0.5]


def test_with_settings_fixes_what_is_tuned_and_nothing_else():
    recipe = Recipe("sgd(momentum=uniform(0.0, 0.99)) + linear")
    fixed = recipe.with_settings({"lr": 0.25})
    assert str(fixed) == "sgd(lr=0.25, momentum=uniform(0.0, 0.99)) + linear"
    assert fixed.space == {"momentum": Uniform(0.0, 0.99)}
    assert fixed.with_settings({"momentum": 0.5}).space == {}
    assert str(recipe) == "sgd(momentum=uniform(0.0, 0.99)) + linear"
    assert recipe.with_settings({}) == recipe
    assert Recipe(str(fixed)) == fixed
    with pytest.raises(sooner.SoonerError, match=r"does not tune 'momentun' \(did you mean 'momentum'\?\)"):
        recipe.with_settings({"momentun": 0.5})
    with pytest.raises(sooner.SoonerError, match="does not tune 'lr'"):
        fixed.with_settings({"lr": 0.5})


def test_a_range_replaces_the_declared_one_and_choices_may_be_anything():
    recipe = Recipe("adamw(lr=log(1e-5, 1e-4), betas=choice((0.9, 0.99), (0.8, 0.9)))")
    assert recipe.space["lr"] == Log(1e-5, 1e-4)
    assert recipe.space["betas"] == Choice((0.9, 0.99), (0.8, 0.9))
    assert recipe.default["betas"] == (0.9, 0.999)
    training = recipe.with_settings({"lr": 1e-4, "betas": (0.8, 0.9)}).build(model(), 10)
    assert training.optimizers[0].param_groups[0]["betas"] == (0.8, 0.9)


def test_left_out_undoes_one_difference_at_a_time():
    stack, base = Recipe("muon(lr=0.02) + linear", toy_parts.RunningMean), Recipe("adamw + cosine")
    assert [str(r) for r in stack.left_out(base)] == [
        "adamw + linear + toy_parts.RunningMean",
        "muon(lr=0.02) + cosine + toy_parts.RunningMean",
        "muon(lr=0.02) + linear",
    ]
    assert stack.left_out(stack) == []
    assert Recipe("muon + cosine").left_out(base) == []
    assert [str(r) for r in Recipe("muon").left_out(base)] == ["adamw", "muon + cosine"]
    assert [str(r) for r in Recipe("schedule_free_sgd").left_out(base)] == ["adamw"]  # it takes no schedule


def test_horizon_free_as_long_as_every_part_is():
    assert Recipe("adamw").horizon_free
    assert Recipe("adamw + constant(warmup=5)").horizon_free
    assert not Recipe("adamw + cosine").horizon_free
    assert Recipe("torch.optim.SGD + torch.optim.lr_scheduler.StepLR(step_size=3)").horizon_free


def test_explain_lists_the_parts_in_order_with_what_they_own_need_and_tune():
    text = explain(
        Recipe("linear + muon(adamw_lr=log(1e-4, 1e-2), nesterov=choice(True, False))", toy_parts.RunningMean)
    )
    assert text.splitlines() == [
        "update         muon(adamw_lr=log(0.0001, 0.01), nesterov=choice(True, False))",
        "                 owns the step; tunes lr in [0.003, 0.3], default 0.02; "
        "tunes adamw_lr in [0.0001, 0.01], default None; tunes nesterov in {True, False}, default True",
        "schedule       linear",
        "                 owns the learning rate; plans for a fixed number of steps",
        "weights        toy_parts.RunningMean",
        "                 owns the evaluation weights; tunes rate in [0.5, 1], default 0.9",
    ]
    assert (
        explain("torch.optim.LBFGS(lr=1)") == "update         torch.optim.LBFGS(lr=1)\n                 needs closure"
    )
    scheduled = explain("torch.optim.SGD(lr=1) + torch.optim.lr_scheduler.StepLR(step_size=3)")
    assert "owns the learning rate" in scheduled


def test_a_slot_says_what_it_is():
    made = slot("sgd", lr=0.1, on="*.bias")
    assert isinstance(made, Slot)
    assert (made.name, made.station, made.settings, made.on) == ("sgd", "update", {"lr": 0.1}, "*.bias")
    assert str(made) == "sgd(lr=0.1, on='*.bias')"


def test_tuning_starts_at_the_nearest_end_of_a_range_that_leaves_out_the_default():
    assert Recipe("sgd(lr=log(1e-4, 1e-2))").default == {"lr": 1e-2}
    assert Recipe("sgd(lr=log(1e-2, 1))").default == {"lr": 0.1}
