"""Speculative decoding is exact: by enumeration, by chi-square, and token for token at temperature 0."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

import sooner
from sooner.decoding import Rereading, Speculative, expected_tokens, plain, speculative
from sooner.decoding.speculative import _judge, _probabilities, _residual
from sooner.error import SoonerError
from sooner.workloads import draft_text

PROMPT = torch.tensor([1, 0])


class Table(nn.Module):
    """Logits of the next of a few symbols, given the last two."""

    def __init__(self, symbols, seed, scale=1.5):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(scale * torch.randn(symbols, symbols, symbols, generator=generator).double())
        self.reads = []

    def forward(self, tokens):
        self.reads.append(tokens.shape[1])
        before = torch.cat([tokens[:, :1], tokens[:, :-1]], dim=1)
        return self.table[before, tokens]


def chances(model, length, temperature=1.0, top_k=None):
    """The probability of every continuation of the prompt, by enumeration."""
    found = {}
    symbols = model.table.shape[0]
    for text in itertools.product(range(symbols), repeat=length):
        tokens = torch.cat([PROMPT, torch.tensor(text)])
        p = _probabilities(model(tokens[None])[0].detach(), temperature, top_k)
        found[text] = math.prod(float(p[len(PROMPT) - 1 + i, symbol]) for i, symbol in enumerate(text))
    return found


def fit(found, wanted):
    """The p-value of counts against probabilities; what can't happen must not have."""
    assert all(wanted[text] > 0 for text in found)
    possible = [text for text in wanted if wanted[text] > 0]
    expected = torch.tensor([wanted[text] for text in possible], dtype=torch.float64)
    counts = torch.tensor([found.get(text, 0) for text in possible], dtype=torch.float64)
    large = counts.sum() * expected >= 4
    pooled = [torch.cat([x[large], x[~large].sum(0, keepdim=True)]) for x in (counts, counts.sum() * expected)]
    if pooled[1][-1] == 0:
        pooled = [x[:-1] for x in pooled]
    return stats.chisquare(pooled[0].numpy(), (pooled[1] * counts.sum() / pooled[1].sum()).numpy()).pvalue


@pytest.mark.parametrize(
    ("draft", "options"),
    [
        (Table(3, 2), {}),
        (Table(3, 2, scale=9.0), {"temperature": 0.7}),
        (Table(3, 3), {"top_k": 2, "k": 3}),
    ],
    ids=["other", "sure and wrong", "top-k"],
)
def test_texts_come_as_often_as_the_target_writes_them(draft, options):
    target, generator = Table(3, 1), torch.Generator().manual_seed(6)
    length, counts = 3, {}
    options = {"k": 2, **options}
    for _ in range(500):
        text = tuple(speculative(target, draft, PROMPT, length, generator=generator, **options).tokens.tolist())
        counts[text] = counts.get(text, 0) + 1
    shaping = {name: value for name, value in options.items() if name != "k"}
    assert fit(counts, chances(target, length, **shaping)) > 0.01
    assert fit(counts, chances(draft, length, **{**shaping, "top_k": None})) < 1e-4


@settings(max_examples=25)
@given(data=st.data())
def test_one_guess_kept_or_replaced_has_the_target_s_distribution_exactly(data):
    symbols = data.draw(st.integers(2, 5))
    weights = st.lists(st.sampled_from([0.0, 1e-12, 0.2, 1.0, 3.0]), min_size=symbols, max_size=symbols).filter(any)
    p, q = (torch.tensor(data.draw(weights), dtype=torch.float64) for _ in range(2))
    p, q = p / p.sum(), q / q.sum()
    kept = torch.minimum(p, q)  # q(x) min(1, p(x) / q(x))
    refused = 1 - kept.sum()
    rest = _residual(p, q)
    torch.testing.assert_close(kept + refused * rest / rest.sum(), p, rtol=0, atol=1e-12)


def test_a_guess_is_kept_as_often_as_the_rule_says():
    p, q = torch.tensor([[0.1, 0.6, 0.3]] * 2).double(), torch.tensor([0.5, 0.3, 0.2]).double()
    generator = torch.Generator().manual_seed(3)
    kept = sum(_judge(p, [q], [torch.tensor([0])], generator)[0] for _ in range(2000))
    assert kept / 2000 == pytest.approx(0.2, abs=0.03)
    for guess in (1, 2):  # the target likes these at least as much
        assert all(_judge(p, [q], [torch.tensor([guess])], generator)[0] == 1 for _ in range(100))


@pytest.mark.parametrize("k", [1, 3, 8])
def test_greedy_text_is_the_target_s_own_token_for_token(k):
    with torch.random.fork_rng():
        torch.manual_seed(4)
        target, draft = draft_text.GPT(32, 2).double(), draft_text.GPT(16, 1).double()
        for model in (target, draft):
            for p in model.parameters():
                p.data.mul_(2)
    draft.head.weight.data[:, :16] += target.head.weight.data[:, :16]
    for start in range(3):
        prompt = torch.arange(5 + start) * 7 % 97
        wanted = plain(target, prompt, 30, temperature=0)
        for models in ((target, draft), (draft_text.reader(target), draft_text.reader(draft))):
            found = speculative(*models, prompt, 30, temperature=0, k=k)
            assert torch.equal(found.tokens, wanted.tokens)
            assert found.calls <= wanted.calls == 30


def test_a_draft_that_is_the_target_is_always_right():
    target = Table(4, 1)
    found = speculative(target, Table(4, 1), PROMPT, 40, k=4, generator=torch.Generator().manual_seed(0))
    assert found.acceptance == 1
    assert found.calls == 8
    assert found.tokens_per_call == 5
    assert math.isnan(plain(target, PROMPT, 3).acceptance)


def test_no_model_reads_beyond_the_text_that_was_asked_for():
    target, draft = Table(3, 1), Table(3, 2)
    for length in range(6):
        found = speculative(target, draft, PROMPT, length, k=4)
        assert len(found.tokens) == length
    assert max([*target.reads, *draft.reads]) < len(PROMPT) + 5


def test_a_cache_reads_each_token_once_and_forgets_what_was_refused():
    class Counting(Rereading):
        read_tokens = 0

        def read(self, tokens):
            self.read_tokens += len(tokens)
            return super().read(tokens)

    target, draft = Counting(Table(3, 1)), Counting(Table(3, 2, scale=5.0))
    found = speculative(target, draft, PROMPT, 20, k=3, generator=torch.Generator().manual_seed(0))
    assert found.acceptance < 1
    assert target.length <= 21
    assert target.read_tokens == 2 + found.draft_calls + found.calls - 1


def test_the_text_stops_behind_its_end():
    target = Table(4, 1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        tokens = speculative(target, Table(4, 2), PROMPT, 12, end=2, generator=generator).tokens.tolist()
        assert 2 not in tokens[:-1]
        assert tokens[-1] == 2 or len(tokens) == 12


@pytest.mark.parametrize("parts", [[9], [1] * 9, [4, 1, 4], [2, 7]], ids=str)
def test_a_cache_gives_the_logits_of_the_whole_text(parts):
    model = draft_text.model(3).double()
    tokens = torch.arange(9) * 11 % 97
    whole = model(tokens[None])[0]
    reader = draft_text.reader(model)
    read = torch.cat([reader.read(piece) for piece in tokens.split(parts)])
    torch.testing.assert_close(read, whole)
    reader.cut(4)
    torch.testing.assert_close(reader.read(tokens[4:7]), whole[4:7])
    assert reader.length == 7


def test_expected_tokens_is_the_sum_of_the_chances():
    assert expected_tokens(0.0, 4) == 1
    assert expected_tokens(1.0, 4) == 5
    assert expected_tokens(0.7, 3) == pytest.approx((1 - 0.7**4) / 0.3)
    with pytest.raises(SoonerError, match=r"acceptance=1\.5"):
        expected_tokens(1.5, 4)


def test_modules_are_in_evaluation_mode_meanwhile_and_nothing_is_differentiated():
    class Dropping(Table):
        def forward(self, tokens):
            assert not self.training
            return nn.functional.dropout(super().forward(tokens), 0.5, self.training)

    target = Dropping(3, 1).train()
    found = speculative(target, Dropping(3, 1), PROMPT, 5, temperature=0)
    assert target.training
    assert found.acceptance == 1
    assert target.table.grad is None
    assert Speculative(k=2, temperature=0)(target, Table(3, 1), PROMPT, 5).tokens.tolist() == found.tokens.tolist()


class Silent(Table):
    def forward(self, tokens):
        return super().forward(tokens) * math.nan


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"k": 0}, r"k=0 is not a whole number in \[1"),
        ({"k": 1.5}, "k=1.5 is not a whole number"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"top_k": 0}, "top_k=0"),
        ({"length": -1}, "length=-1"),
        ({"prompt": torch.tensor([], dtype=torch.long)}, "at least one: models continue something"),
        ({"prompt": PROMPT[None]}, "give whole numbers"),
        ({"prompt": PROMPT.float()}, "give whole numbers"),
        ({"draft": Table(4, 1, scale=0.0)}, "both must have the|both models need the same symbols"),
        ({"draft": Table(2, 1)}, "the draft has 2 symbols and the target 3"),
        ({"target": Silent(3, 1)}, "logits that are no numbers"),
        ({"target": lambda tokens: tokens}, "return logits"),
        ({"target": 3}, "the target is a int; give a model"),
    ],
)
def test_what_cannot_be_decoded_is_refused_in_a_sentence(change, said):
    given = {"target": Table(3, 1), "draft": Table(3, 2), "prompt": PROMPT, "length": 4, **change}
    options = {name: given.pop(name) for name in ("k", "temperature", "top_k") if name in given}
    with pytest.raises(SoonerError, match=said):
        speculative(*given.values(), **options)


def test_a_reader_in_the_middle_of_a_text_is_refused():
    reader = Rereading(Table(3, 1))
    reader.read(PROMPT)
    with pytest.raises(SoonerError, match="already read 2 tokens"):
        plain(reader, PROMPT, 3)


def test_a_recipe_with_it_is_refused_with_what_to_do_instead():
    said = (
        r"speculative needs a draft model, which task quadratic does not provide; it changes no weights: leave it out"
    )
    with pytest.raises(SoonerError, match=said):
        sooner.train(sooner.workload("quadratic"), "sgd + speculative")
