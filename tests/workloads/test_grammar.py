"""What grammar promises: probabilities that are exact, agreement over a distance, and a tail of rare words."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from descent import evaluate, train

from sooner.workloads import _grammar, grammar
from sooner.workloads._grammar import CLASSES, CLUSTERS, TOPICS, VOCABULARY, category, language

KINDS = list(_grammar._CATEGORIES)


def category_of(token):
    return next(name for name in KINDS if token in category(name))


def probability(whole, name, topic, kind, cluster, token):
    """Find the words of a context by counting contexts in the order of categories, and return one's probability."""
    contexts = [
        (one, t, c, g)
        for one, (_, depends) in _grammar._CATEGORIES.items()
        for t in (range(TOPICS) if "topic" in depends else [None])
        for c in (range(CLASSES) if "class" in depends else [None])
        for g in (range(CLUSTERS) if "cluster" in depends else [None])
    ]
    depends = _grammar._CATEGORIES[name][1]
    wanted = (
        name,
        topic if "topic" in depends else None,
        kind if "class" in depends else None,
        cluster if "cluster" in depends else None,
    )
    number = contexts.index(wanted)
    start, stop = np.searchsorted(whole.bounds, [number, number + 1], side="right")
    place = start + whole.words[start:stop].tolist().index(token)
    return float(whole.bounds[place] - (whole.bounds[place - 1] if place > start else number))


class Reader:
    """Reads documents by recursive descent, an own transcription of the grammar, and says what each token cost."""

    def __init__(self, tokens, whole):
        self.tokens, self.whole, self.place, self.costs = tokens, whole, 1, []

    def read(self):
        try:
            while True:
                self.sentence()
        except IndexError:
            return self.costs

    def next_is(self, name):
        return self.tokens[self.place] in category(name)

    def take(self, name, rule, kind=0, cluster=0):
        token = self.tokens[self.place]
        assert token in category(name), (self.place, name, category_of(token))
        found = probability(self.whole, name, self.tokens[0], kind, cluster, token)
        self.costs.append(-math.log(rule * found))
        self.place += 1
        return divmod(int(self.whole.features[token]), CLUSTERS), token

    def sentence(self):
        if self.next_is("pronoun"):
            (kind, cluster), _ = self.take("pronoun", 0.15)
            self.predicate(kind, cluster)
        else:
            (kind, _), _ = self.take("determiner", 0.85)
            self.nominal(kind, 0)
        self.take("end", 1.0)

    def nominal(self, kind, cluster):
        while self.next_is("adjective"):
            self.take("adjective", 0.25, kind, cluster)
        (_, own), _ = self.take("noun", 0.75, kind, cluster)
        if self.next_is("relative"):
            self.take("relative", 0.25, kind, own)
            if self.next_is("determiner"):
                (other, _), _ = self.take("determiner", 0.4)
                self.nominal(other, own)
            else:
                self.verb(0.6, kind, own)
            self.predicate(kind, own)
        elif self.next_is("preposition"):
            (_, governing), _ = self.take("preposition", 0.2)
            self.object(governing)
            self.predicate(kind, own)
        else:
            self.verb(0.55, kind, own)

    def predicate(self, kind, cluster):
        while self.next_is("adverb"):
            self.take("adverb", 0.2)
        self.verb(0.8, kind, cluster)

    def verb(self, rule, kind, cluster):
        (_, own), verb = self.take("verb", rule, kind, cluster)
        if self.whole.transitive[verb]:
            self.object(own)

    def object(self, cluster):
        if self.next_is("pronoun"):
            self.take("pronoun", 0.2)
            return
        (kind, _), _ = self.take("determiner", 0.8)
        while self.next_is("adjective"):
            self.take("adjective", 0.25, kind, cluster)
        self.take("noun", 0.75, kind, cluster)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_surprise_is_that_of_a_reader_who_knows_the_grammar(shift):
    documents, surprise = grammar.documents_of(shift, 4, "train", 6, 2)
    for tokens, expected in zip(documents.tolist(), surprise, strict=True):
        costs = Reader(tokens, language(shift)).read()
        assert len(costs) == grammar.CONTEXT
        np.testing.assert_allclose(costs, expected, rtol=1e-4, atol=1e-5)


def test_tokens_come_as_often_as_their_surprise_says():
    """Chi-square over the words after a topic, and the mean surprise against its own expectation."""
    tokens, surprise = language().documents(np.random.default_rng(5), 20_000, 1)
    counts = np.bincount(tokens[:, 1], minlength=VOCABULARY)
    chances = np.zeros(VOCABULARY)
    chances[tokens[:, 1]] = np.exp(-surprise[:, 0])
    assert chances.sum() == pytest.approx(1, abs=1e-5)  # 32 words, and all of them came
    seen = chances > 0
    assert seen.sum() == 32
    expected = 20_000 * chances[seen]
    assert ((counts[seen] - expected) ** 2 / expected).sum() < 62  # 31 degrees of freedom, 1 in 1,000
    entropy = -(chances[seen] * np.log(chances[seen])).sum()
    assert float(surprise.mean()) == pytest.approx(entropy, abs=4 * float(surprise.std()) / math.sqrt(20_000))


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_the_words_of_every_context_have_probabilities_that_add_up(shift):
    whole = language(shift)
    assert (np.diff(whole.bounds) > 0).all()
    assert len(whole.words) == len(whole.surprise) == len(whole.bounds)
    number = np.ceil(whole.bounds - 1e-12).astype(int) - 1
    np.testing.assert_allclose(np.bincount(number, np.exp(-whole.surprise)), 1, rtol=1e-9)


def test_a_dialect_has_the_same_grammar_and_other_preferences():
    own, dialect = language(), language(0.3)
    assert np.array_equal(own.words, dialect.words)
    assert np.array_equal(own.transitive, dialect.transitive)
    assert np.array_equal(own.features // CLUSTERS, dialect.features // CLUSTERS)
    moved = (own.features != dialect.features).mean()
    assert 0.2 < moved < 0.3  # one in eight of those that are drawn again stays where it is
    assert not np.allclose(own.surprise, dialect.surprise)


def test_most_words_are_rare():
    documents, _ = language().documents(np.random.default_rng(1), 512, 64)
    shares = np.sort(np.bincount(documents.ravel(), minlength=VOCABULARY))[::-1] / documents.size
    assert shares[:100].sum() > 0.6
    assert shares[968:].sum() < 0.1  # the rarer half


def test_batches_of_one_block_are_rows_of_it_and_can_be_written_to():
    first = grammar.batches(1, "train")[0][0]
    kept = first.clone()
    first.zero_()
    assert torch.equal(grammar.batches(1, "train")[0][0], kept)
    assert not torch.equal(grammar.batches(1, "train")[grammar.DRAWN][0], kept)


def test_who_knows_nothing_of_agreement_is_wrong_three_times_in_four():
    model = grammar.model(0)
    with torch.no_grad():
        model.head.weight.zero_()
    found = evaluate(grammar, model)
    assert found["disagreeing"] == pytest.approx(0.75)
    surprise = float(grammar.batches(0, "eval")[0][1].mean())
    assert found["excess"] == pytest.approx(math.log(VOCABULARY) - surprise, rel=1e-4)


def test_a_short_run_learns_the_common_words():
    _, _, (found,) = train(grammar, partial(torch.optim.AdamW, lr=5e-3), steps=40, watch=[40])
    assert 0 < found["excess"] < 2
