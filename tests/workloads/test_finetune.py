"""What finetune promises: starts that are kept and that nobody spoils, one little text, and both languages measured."""

from functools import partial

import torch
from descent import evaluate, train

from sooner.workloads import finetune, grammar
from sooner.workloads._grammar import language


def flat(model):
    return torch.cat([tensor.detach().flatten() for tensor in model.state_dict().values()])


def test_seeds_take_the_starts_in_turn_and_nobody_spoils_them():
    first, same, other = (flat(finetune.model(seed)) for seed in (0, finetune.STARTS, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    with torch.no_grad():
        finetune.model(0).head.weight.zero_()
    assert torch.equal(flat(finetune.model(0)), first)


def test_a_start_is_made_again_alike_without_the_kept_one(tmp_path, monkeypatch):
    before = flat(finetune.start(0))
    monkeypatch.setenv("SOONER_CACHE", str(tmp_path))
    finetune.start.cache_clear()
    assert torch.equal(flat(finetune.start(0)), before)
    assert len(list((tmp_path / "networks").iterdir())) == 1
    assert not torch.equal(before, flat(grammar.model(0)))


def test_the_documents_are_the_same_for_every_seed_and_a_pass_shows_each_once():
    per_pass = finetune.DOCUMENTS // finetune.SEQUENCES
    passes = []
    for seed, first in ((0, 0), (0, per_pass), (7, 2 * per_pass)):
        batches = finetune.batches(seed, "train")
        shown = torch.cat([batches[first + index][0] for index in range(per_pass)])
        assert len(shown.unique(dim=0)) == finetune.DOCUMENTS
        passes.append(shown)
    assert not torch.equal(passes[0], passes[1])
    assert all(torch.equal(shown.unique(dim=0), passes[0].unique(dim=0)) for shown in passes)


def test_no_document_for_evaluation_is_among_those_to_learn_from():
    held_out, _, known, _ = finetune.batches(0, "eval")[0]
    rows = torch.cat([finetune._text("train", finetune.DOCUMENTS)[0], held_out, known])
    assert len(rows.unique(dim=0)) == len(rows)


def test_surprise_is_that_of_each_language():
    dialect, surprise, known, known_surprise = finetune.batches(0, "eval")[0]
    for whole, documents, found in ((language(finetune.SHIFT), dialect, surprise), (language(), known, known_surprise)):
        # the words after the topic come in a single context: the laws of determiners and of pronouns
        chances = dict(zip(whole.words.tolist(), whole.surprise.tolist(), strict=True))
        rule = torch.where(documents[:, 1] < 32, -torch.log(torch.tensor(0.85)), -torch.log(torch.tensor(0.15)))
        expected = torch.tensor([chances[token] for token in documents[:, 1].tolist()]) + rule
        torch.testing.assert_close(found[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_what_is_forgotten_is_measured_on_the_language_known_before():
    model = finetune.model(0)
    found = evaluate(finetune, model)
    _, _, known, surprise = finetune.batches(0, "eval")[0]
    with torch.no_grad():
        expected = grammar.metrics(model, (known, surprise))["excess"]
    assert abs(found["excess_before"] - float(expected)) < 1e-5
    assert abs(found["loss"] - float(finetune.batches(0, "eval")[0][1].mean()) - found["excess"]) < 1e-5


def test_training_lowers_the_excess():
    before = evaluate(finetune, finetune.model(0))["excess"]
    _, _, (after,) = train(finetune, partial(torch.optim.AdamW, lr=3e-3), steps=15, watch=[15])
    assert after["excess"] < before - 0.5
