"""A recipe known to be bad says so when it meets a model and several workers, once."""

import torch

from sooner.communication import EF, Dense, Sim, TopK
from sooner.recipe import attach


def test_a_bad_pair_is_said_once_and_before_the_first_step(caplog, monkeypatch):
    monkeypatch.setattr(attach, "_said", set())
    for _ in range(2):
        model = torch.nn.Linear(2, 2)
        attach.attach([TopK(0.1), EF()], model, [torch.optim.AdamW(model.parameters())], Sim(2), ())
    (told,) = caplog.messages
    assert "top_k + ef in front of AdamW" in told


def test_one_worker_and_good_pairs_hear_nothing(caplog):
    model = torch.nn.Linear(2, 2)
    attach.attach([TopK(0.1), EF()], model, [torch.optim.SGD(model.parameters())], Sim(2), ())
    attach.attach([Dense()], model, [torch.optim.AdamW(model.parameters())], Sim(2), ())
    assert caplog.messages == []
