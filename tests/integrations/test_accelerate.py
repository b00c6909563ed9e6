"""Recipes in loops of Accelerate: as in a loop of one's own, steps counted, states saved, what is dropped refused."""

import pytest
import tiny
import torch

import sooner

accelerate = pytest.importorskip("accelerate")

from sooner.integrations.accelerate import prepare  # noqa: E402


def fit(recipe, epochs=2, accumulate=1, folder=None, save_at=None, load=False, **more):
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulate, **more)
    model, optimizer, loader, training = prepare(accelerator, recipe, tiny.net(), tiny.loader(), epochs=epochs)
    done = 0
    if load:
        accelerator.load_state(folder)
        done = save_at
    rates, taken = [], 0
    for _ in range(epochs):
        for batch in loader:
            with accelerator.accumulate(model):
                if taken >= done:
                    with training.during_loss():
                        loss = tiny.loss_of(model, batch)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        rates.append(training.learning_rates()[0])
                    optimizer.step()
                    optimizer.zero_grad()
                taken += accelerator.sync_gradients
            if folder and not load and taken == save_at and accelerator.sync_gradients:
                accelerator.save_state(folder)
    with training.view():
        shown = tiny.flat(model)
    return tiny.flat(model), shown, rates


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", tiny.RECIPES)
def test_a_recipe_trains_as_in_a_loop_of_ones_own(kind, accumulate):
    recipe = tiny.RECIPES[kind]
    found = fit(recipe, accumulate=accumulate)
    wanted = tiny.by_hand(recipe, 16 // accumulate, tiny.loader(), accumulate)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])
    assert found[2] == wanted[2]


@pytest.mark.parametrize("kind", tiny.RECIPES)
def test_a_saved_state_goes_on_bit_for_bit(kind, tmp_path):
    whole = fit(tiny.RECIPES[kind], accumulate=2, folder=str(tmp_path / "state"), save_at=3)
    again = fit(tiny.RECIPES[kind], accumulate=2, folder=str(tmp_path / "state"), save_at=3, load=True)
    assert torch.equal(whole[0], again[0])
    assert torch.equal(whole[1], again[1])
    assert whole[2][3:] == again[2]


def test_a_state_of_a_run_of_another_length_is_refused(tmp_path):
    fit(tiny.WHOLE, folder=str(tmp_path / "state"), save_at=3)
    for recipe, epochs, sentence in (
        (tiny.WHOLE, 3, "the checkpoint is of a run of 16 steps and this one has 24"),
        (tiny.SEVERAL, 2, "the checkpoint was written by recipe .* and this is"),
    ):
        with pytest.raises(sooner.SoonerError, match=sentence):
            fit(recipe, epochs, folder=str(tmp_path / "state"), save_at=3, load=True)


def test_a_loss_evaluated_without_its_parts_is_refused():
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer, loader, _ = prepare(accelerator, tiny.ON_THE_LOSS, tiny.net(), tiny.loader(), epochs=1)
    accelerator.backward(tiny.loss_of(model, next(iter(loader))))
    with pytest.raises(sooner.SoonerError, match="stablemax acts on the training loss, which this loop has evaluated"):
        optimizer.step()


@pytest.mark.parametrize(
    ("recipe", "settings", "sentence"),
    [
        ("deepzero + sgd", {"epochs": 1}, "deepzero needs a closure, which the loop of Accelerate does not provide"),
        ("top_k + ef + sgd", {"epochs": 1}, "is part of the exchange between workers, which Accelerate sees to"),
        ("lazy_saver + sgd", {"epochs": 1}, "lazy_saver writes the checkpoints, which Accelerate does"),
        ("sgd", {}, "give prepare either epochs= or steps="),
        ("sgd", {"epochs": 1, "steps": 1}, "give prepare either epochs= or steps="),
        ("sgd", {"epochs": 1.5}, r"epochs=1.5 is not a whole number in \[1, inf\)"),
        ("sgd", {"steps": 0}, r"steps=0 is not a whole number in \[1, inf\)"),
    ],
)
def test_what_a_loop_of_accelerate_would_drop_is_refused(recipe, settings, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        prepare(accelerate.Accelerator(cpu=True), recipe, tiny.net(), tiny.loader(), **settings)


def test_batches_without_a_length_need_steps():
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(tiny.examples(8))

    batches = torch.utils.data.DataLoader(Endless(), batch_size=4)
    with pytest.raises(sooner.SoonerError, match="this loader has no length"):
        prepare(accelerate.Accelerator(cpu=True), "sgd", tiny.net(), batches, epochs=1)
    assert prepare(accelerate.Accelerator(cpu=True), "sgd + cosine", tiny.net(), batches, steps=2).training is not None


def test_one_accelerator_takes_one_recipe():
    accelerator = accelerate.Accelerator(cpu=True)
    prepare(accelerator, "sgd", tiny.net(), tiny.loader(), epochs=1)
    with pytest.raises(sooner.SoonerError, match="this Accelerator has a recipe already"):
        prepare(accelerator, "sgd", tiny.net(), tiny.loader(), epochs=1)


def test_surgery_is_done_before_the_model_is_wrapped():
    accelerator = accelerate.Accelerator(cpu=True)
    model, _, _, training = prepare(accelerator, "dora + adamw", tiny.net(), tiny.loader(), epochs=1)
    assert any("dora" in type(m).__name__.lower() for m in model.modules())
    assert [type(m) for m in training.export()] == [type(m) for m in tiny.net()]


def test_a_step_that_its_scaler_leaves_out_counts_for_nobody():
    accelerator = accelerate.Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)  # which it makes on a GPU for float16
    recipe = "clip_norm + torch.optim.SGD(lr=1) + linear(warmup=0) + ema"
    model, optimizer, loader, training = prepare(accelerator, recipe, tiny.net(), tiny.loader(), epochs=1)
    skipped = []
    for number, batch in enumerate(loader):
        accelerator.backward(tiny.loss_of(model, batch) * (torch.inf if number == 2 else 1.0))
        optimizer.step()
        skipped.append(optimizer.step_was_skipped)
        optimizer.zero_grad()
    assert skipped == [number == 2 for number in range(8)]
    assert (training.schedules[0].last_epoch, training.others[-1].steps) == (7, 7)
