"""What sums promises: exact judging, log-probabilities as at generation, a start that is kept, and learning."""

import os
from functools import partial

import pytest
import torch

import sooner
from sooner.rl import reinforce
from sooner.workloads import _kept, sums


def as_text(row):
    return "".join("0123456789+=."[i] for i in row.tolist())


def test_right_answers_are_the_sums_in_reverse_and_the_end():
    prompts, _, _ = sums.batches(0, "eval")[0]
    tokens = torch.cat([prompts, sums._solution(prompts)], dim=1)
    for row in tokens[:50]:
        question, answer = as_text(row[: sums.PROMPT]), as_text(row[sums.PROMPT :])
        a, b = question.rstrip("=").split("+")
        assert answer == f"{int(a) + int(b):03d}"[::-1] + "."
    assert sums.right(tokens).all()
    assert sums.valid(tokens).all()
    for place in range(sums.PROMPT, sums.PROMPT + sums.ANSWER):
        spoilt = tokens.clone()
        spoilt[:, place] = (spoilt[:, place] + 1) % 10
        assert not sums.right(spoilt).any()
    early = tokens.clone()
    early[:, -2] = sums.END
    assert not sums.valid(early).any()


def test_rollouts_are_samples_with_their_own_log_probabilities():
    model, (prompts, groups, uniform) = sums.model(0), sums.batches(1, "train")[0]
    written = sums.rollouts(model, prompts, groups, uniform)
    assert torch.equal(written.tokens[:, : sums.PROMPT], prompts)
    assert torch.equal(sums.answer_logp(model, written), written.logp)
    assert torch.equal(written.reward, sums.right(written.tokens).float() * 2 - 1)
    assert not written.logp.requires_grad
    whole = torch.log_softmax(model(written.tokens[:, :-1]), -1)
    one = whole[0, sums.PROMPT, written.tokens[0, sums.PROMPT + 1]]
    torch.testing.assert_close(written.logp[0, sums.PROMPT + 1], one)
    ends = written.tokens[:, sums.PROMPT :] == sums.END
    for row, end, mask in zip(written.tokens, ends, written.mask, strict=True):
        counted = int(end.nonzero()[0]) + 1 if end.any() else sums.ANSWER
        assert mask.sum() == counted, as_text(row)
        assert not mask[: sums.PROMPT].any()


def test_symbols_come_as_often_as_their_probabilities():
    model = sums.model(0)
    prompt = sums.batches(0, "eval")[0][0][:1].repeat(2000, 1)
    uniform = torch.rand(2000, sums.ANSWER, generator=torch.Generator().manual_seed(4))
    first = sums.write(model, prompt, uniform)[:, sums.PROMPT]
    expected = model(prompt[:1])[0, -1].softmax(0).detach()
    counts = torch.bincount(first, minlength=sums.SYMBOLS)
    chi_square = ((counts - 2000 * expected).square() / (2000 * expected)).sum()
    assert float(chi_square) < 40  # 12 degrees of freedom
    likeliest = sums.write(model, prompt[:1])
    assert int(likeliest[0, sums.PROMPT]) == int(expected.argmax())
    assert int(sums.write(model, prompt[:1], torch.full((1, sums.ANSWER), 1.0))[0, -1]) < sums.SYMBOLS


def test_without_a_part_the_loss_is_that_of_reinforce():
    model, batch = sums.model(0), sums.batches(1, "train")[3]
    written = sums.rollouts(model, *batch)
    torch.testing.assert_close(sums.loss(model, batch), reinforce(sums.answer_logp(model, written), written))


def test_a_start_is_taught_until_it_is_good_enough(monkeypatch):
    monkeypatch.setattr(sums, "START_STEPS", 40)
    monkeypatch.setattr(sums, "START_ACCURACY", 0.002)
    sums.start.cache_clear()
    prompts = sums.batches(0, "eval")[0][0]
    assert sums._accuracy(sums.model(0), prompts) > 0.001
    assert not torch.equal(sums.model(0).head.weight, sums.model(1).head.weight)
    assert torch.equal(sums.model(0).head.weight, sums.model(sums.STARTS).head.weight)
    first = sums.model(0)
    with torch.no_grad():
        first.head.weight.zero_()
    assert sums.model(0).head.weight.abs().sum() > 0  # models don't share weights
    sums.start.cache_clear()


class TestKept:
    def network(self, calls):
        def train(model):
            calls.append(torch.get_num_threads())
            assert torch.is_grad_enabled()
            torch.nn.init.normal_(model.weight.data)

        made = torch.nn.Linear(2, 2, device="meta").to_empty(device="cpu").requires_grad_(False)
        made.weight.zero_()
        made.bias.zero_()
        return _kept.kept("toy", lambda: made, train, 1).weight.clone()

    def test_it_is_trained_once_and_leaves_global_state_alone(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SOONER_CACHE", str(tmp_path))
        calls = []
        before = torch.get_rng_state()
        with torch.inference_mode():  # as in an evaluation
            weights = self.network(calls)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(self.network(calls), weights)
        assert calls == [1]

    def test_other_code_is_another_network(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SOONER_CACHE", str(tmp_path))
        sources = _kept._sources(partial(sums._teach, 0), sums.Policy())
        assert len(sources) == 2  # the task, and charlm, whose blocks it has
        assert all(any(word in text for text in sources) for word in ("def _teach", "class Block"))
        calls = []
        self.network(calls)
        monkeypatch.setattr(_kept.inspect, "getsource", lambda module: "changed")
        self.network(calls)
        assert len(calls) == 2

    @pytest.mark.parametrize("content", [b"", b"no network", None])
    def test_a_damaged_file_is_made_again(self, tmp_path, monkeypatch, content):
        monkeypatch.setenv("SOONER_CACHE", str(tmp_path))
        calls = []
        weights = self.network(calls)
        (file,) = (tmp_path / "networks").iterdir()
        if content is None:
            torch.save({"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, file)
        else:
            file.write_bytes(content)
        assert torch.equal(self.network(calls), weights)
        assert torch.equal(self.network(calls), weights)
        assert calls == [1, 1]

    def test_a_cache_that_cannot_be_written_is_done_without(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("SOONER_CACHE", str(tmp_path / "file"))
        calls = []
        assert torch.equal(self.network(calls), self.network(calls))
        assert calls == [1, 1]

    def test_a_full_disk_leaves_no_piece_behind(self, tmp_path, monkeypatch):
        def full(state, file):
            file.write(b"piece")
            raise OSError(28, os.strerror(28))

        monkeypatch.setenv("SOONER_CACHE", str(tmp_path))
        monkeypatch.setattr(torch, "save", full)
        calls = []
        self.network(calls)
        assert list((tmp_path / "networks").iterdir()) == []


def test_training_is_a_function_of_its_seed():
    runs = [sooner.train(sooner.workload("sums"), "topr + adamw", 3, 2, evaluate_at=[2]) for _ in range(2)]
    assert torch.equal(runs[0].losses, runs[1].losses)
    assert runs[0].values == runs[1].values
