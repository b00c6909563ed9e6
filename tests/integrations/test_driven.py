"""A training in the place of one optimizer: what frameworks ask of an optimizer, and what it refuses."""

import copy
import io
import math
import re

import pytest
import tiny
import torch
from torch import nn

import sooner
from sooner.foundation.hooks import hooks_of
from sooner.integrations._driven import Driven, Pace, Views, drive, recipe_for
from sooner.part import names
from sooner.recipe import Recipe, slot


def driven(text=tiny.WHOLE, steps=8, weights=True):
    model = tiny.net()
    return model, drive(Recipe(text), model, steps, weights=weights)


def step(model, optimizer, number=0, factor=1.0):
    batch = list(tiny.loader())[number]
    (tiny.loss_of(model, batch) * factor).backward()
    optimizer.step()
    optimizer.zero_grad()


def test_it_is_an_optimizer_with_the_groups_of_all():
    model, optimizer = driven(tiny.SEVERAL)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    step(model, optimizer)
    assert set(optimizer.state) == set(model.parameters())
    assert optimizer.defaults["lr"] == 0.02
    assert repr(optimizer).startswith('Driven("muon(')
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    step(model, optimizer)
    assert seen == ["before", "after"]
    with pytest.raises(sooner.SoonerError, match="takes no further parameter groups"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    with pytest.raises(sooner.SoonerError, match="has no hooks for its step"):
        hooks_of(optimizer)


def test_schedules_advance_with_steps_and_not_with_the_frameworks_scheduler():
    model, optimizer = driven("sgd(lr=1) + linear(warmup=0)", steps=4)
    pace = Pace(optimizer)
    seen = []
    for number in range(4):
        step(model, optimizer, number)
        seen.append(pace.get_last_lr()[0])
        for _ in range(3):  # as AcceleratedScheduler does on three processes
            pace.step()
    assert seen == pytest.approx([1.0, 0.75, 0.5, 0.25])
    assert pace.get_lr() == pace.get_last_lr()
    pace.load_state_dict(pace.state_dict())


def test_a_step_that_a_scaler_leaves_out_counts_for_nobody():
    model, optimizer = driven("clip_norm + torch.optim.SGD(lr=1) + linear(warmup=0) + ema")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for number, factor in enumerate((1.0, math.inf, 1.0)):
        scaler.scale(tiny.loss_of(model, list(tiny.loader())[number]) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    training = optimizer.training
    assert (training.schedules[0].last_epoch, training.others[-1].steps) == (2, 2)


def test_its_state_goes_on_and_holds_the_training_weights_where_asked():
    model, optimizer = driven()
    for number in range(3):
        step(model, optimizer, number)
    saved, trained = copy.deepcopy(optimizer.state_dict()), tiny.flat(model)
    for number in range(3, 6):
        step(model, optimizer, number)
    other, again = driven()
    again.load_state_dict(saved)
    assert torch.equal(tiny.flat(other), trained)
    for number in range(3, 6):
        step(other, again, number)
    assert torch.equal(tiny.flat(other), tiny.flat(model))
    assert "weights" not in driven("sgd")[1].state_dict()
    assert "weights" not in driven(weights=False)[1].state_dict()


def test_foreign_states_are_refused():
    model, optimizer = driven()
    with pytest.raises(sooner.SoonerError, match="the state of another optimizer, not of recipe"):
        optimizer.load_state_dict(torch.optim.SGD(model.parameters()).state_dict())
    state = optimizer.state_dict()
    with pytest.raises(sooner.SoonerError, match=r"holds 9\.weight, which this model does not train"):
        optimizer.load_state_dict({**state, "weights": {"9.weight": torch.zeros(1)}})
    model, optimizer = driven("sgd + constant", steps=5)
    optimizer.load_state_dict(driven("sgd + constant", steps=50)[1].state_dict())  # it has no horizon


@pytest.mark.filterwarnings("ignore:Seems like")  # torch leaves its own mark on steps behind
def test_a_copy_is_one_of_the_model_too():
    model, optimizer = copy.deepcopy(driven())
    step(model, optimizer)
    assert optimizer.training.others[-1].steps == 1
    assert isinstance(optimizer, Driven)


def test_a_view_that_an_exception_left_open_is_left():
    model, optimizer = driven()
    step(model, optimizer)
    step(model, optimizer, 1)
    views, before = Views(), tiny.flat(model)
    views.enter(optimizer.training.view())
    assert views.entered
    assert not torch.equal(tiny.flat(model), before)
    views.enter(optimizer.training.view())
    views.leave()
    views.leave()
    assert torch.equal(tiny.flat(model), before)


ACTING = {
    "adabelief adagrad_norm adamp adamw apollo apollo_mini diffgrad lion muon normalized_gd root sgd sgd_sai sgdp",
    "adamuon adan ademamix all_round kl_shampoo mars nadamw normuon prodigy schedule_free_adamw schedule_free_sgd soap",
    "constant cosine linear refined uba warmup_stable_decay batch_scaling(batch=8, base_batch=4)",
    "orthogonal dora four_bit stablemax clip_adaptive clip_norm clip_value perpgrad ema power_ema hyperball",
}


def test_every_part_acts_in_a_loop_of_others_or_is_refused():
    acting = {one.partition("(")[0] for line in ACTING for one in re.split(r" (?!base)", line)}
    refused = {}
    for name in names():
        part = slot(name) if name != "batch_scaling" else slot(name, batch=8, base_batch=4)
        try:
            recipe_for(Recipe(part) if part.moves else Recipe(part, "adamw"), "a framework")
        except sooner.SoonerError as error:
            refused[name] = str(error)
    assert refused.keys() == names().keys() - acting
    for name, said in refused.items():
        assert re.match(rf"{name} .*a framework.*; leave it out, or train with sooner.train", said)


@pytest.mark.parametrize("line", sorted(ACTING))
def test_what_acts_goes_on_bit_for_bit(line):
    for written in re.split(r" (?!base)", line):
        recipe = Recipe(written if slot(written.partition("(")[0]).moves else f"{written} + adamw")
        both = [tiny.net(), tiny.net()]
        torch.manual_seed(0)
        pair = [drive(recipe, model, 8, seed=0, weights=True) for model in both]
        whole, again = pair
        for number in range(8):
            if number == 4:
                saved = io.BytesIO()
                torch.save((whole.state_dict(), whole.training.model.state_dict()), saved)
                saved.seek(0)
                state, weights = torch.load(saved, weights_only=True)
                again.training.model.load_state_dict(weights)
                again.load_state_dict(state)
            for one in pair if number >= 4 else [whole]:
                with one.training.during_loss():
                    loss = tiny.loss_of(one.training.model, list(tiny.loader())[number])
                loss.backward()
                one.step()
                one.zero_grad()
        assert torch.equal(tiny.flat(whole.training.model), tiny.flat(again.training.model)), written
