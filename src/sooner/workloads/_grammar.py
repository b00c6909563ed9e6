"""An invented language whose every probability is known: its grammar, its words, and documents drawn from it.

A document is a topic and the sentences about it. What may come next is decided by a stack that the words seen so far
determine, so the probability of each token given all before it is known exactly. Its mean logarithm is the lowest loss
that any reader can expect.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

TOPICS = 16
CLASSES = 4
"""Classes of nouns, with which determiners, adjectives, relatives and verbs agree."""
CLUSTERS = 16
"""Clusters of nouns, verbs, prepositions and pronouns: they decide which words are preferred with them."""
SPREAD = 1.5
"""How far the orders of words differ between topics and clusters, in units of log rank."""
CONSTANT = 2048  # seeds the language

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# category: (words of each class, or in all where it has none, what the choice of its words depends on)
_CATEGORIES = {
    "topic": (TOPICS, ""),
    "determiner": (16, ""),
    "pronoun": (16, ""),
    "adjective": (64, "topic class"),
    "noun": (256, "topic class cluster"),
    "verb": (128, "topic class cluster"),
    "relative": (1, "class"),
    "preposition": (32, "topic"),
    "adverb": (64, "topic"),
    "end": (4, ""),
}
_OF_CLASS = ("adjective", "noun", "verb", "relative")  # their words are divided by class
_CLASSED = ("determiner", "pronoun")  # word i of these is of class i % CLASSES

# state: (probability, category of the word that comes, states pushed, the first of them on top). The choices of a state
# begin with different categories, so that the words tell the stack. A state has a feature, class and cluster; what is
# pushed takes that of the state, that of the word ("word"), or the class of the word and the cluster of the state
# ("class"). Only transitive verbs push their object.
_RULES = {
    "sentence": ((0.85, "determiner", "nominal:class stop:"), (0.15, "pronoun", "predicate:word stop:")),
    "nominal": ((0.25, "adjective", "nominal:"), (0.75, "noun", "subject:word")),
    "subject": (
        (0.55, "verb", "object:word"),
        (0.25, "relative", "relation: predicate:"),
        (0.2, "preposition", "object:word predicate:"),
    ),
    "relation": ((0.6, "verb", "object:word"), (0.4, "determiner", "nominal:class")),
    "predicate": ((0.8, "verb", "object:word"), (0.2, "adverb", "predicate:")),
    "object": ((0.8, "determiner", "thing:class"), (0.2, "pronoun", "")),
    "thing": ((0.25, "adjective", "thing:"), (0.75, "noun", "")),
    "stop": ((1.0, "end", ""),),
}
_STATES = list(_RULES)
_NAMES = list(_CATEGORIES)
_FEATURES = CLASSES * CLUSTERS


def _sizes() -> dict[str, int]:
    return {name: count * (CLASSES if name in _OF_CLASS else 1) for name, (count, _) in _CATEGORIES.items()}


VOCABULARY = sum(_sizes().values())


@dataclass(frozen=True)
class Language:
    """What documents are drawn from; see `language`.

    Attributes:
        bounds: number of the context plus cumulative probability of its words, one context after the other.
        words: the token at each place of `bounds`.
        surprise: minus the logarithm of its probability given the context.
        features: class and cluster of each token, ``class * CLUSTERS + cluster``.
        transitive: whether a token is a verb with an object.
    """

    bounds: Floats
    words: Ints
    surprise: Floats
    features: Ints
    transitive: npt.NDArray[np.bool_]

    def documents(self, random: np.random.Generator, count: int, length: int) -> tuple[Ints, npt.NDArray[np.float32]]:
        """Draw documents, tokens [count, length + 1]: the topic and what follows.

        Returns:
            The tokens, and the surprise of all but the first in nats [count, length].
        """
        rules, contexts, rows = _rules(), _contexts(), np.arange(count)
        topics = random.integers(TOPICS, size=count)
        tokens, surprises = np.empty((length + 1, count), np.int64), np.empty((length, count))
        tokens[0] = topics
        # a step pushes one state more than it takes, at most; below all is the sentence that always comes next
        stack, depth = np.zeros((count, length + 4), np.int64), np.zeros(count, np.int64)
        draws = random.random((length, 2, count))
        for place in range(length):
            state, feature = np.divmod(stack[rows, depth], _FEATURES)
            depth -= depth > 0
            rule = np.searchsorted(rules.bounds, state + draws[place, 0], side="right")
            category = rules.category[rule]
            kind, cluster = np.divmod(feature, CLUSTERS)
            first, by_topic, by_class, by_cluster = contexts[category].T
            context = first + by_topic * topics + by_class * kind + by_cluster * cluster
            found = np.searchsorted(self.bounds, context + draws[place, 1], side="right")
            token = self.words[found]
            tokens[place + 1] = token
            surprises[place] = rules.surprise[rule] + self.surprise[found]
            word = self.features[token]
            choices = np.stack([feature, word, word - word % CLUSTERS + cluster])
            pushed = (category != _NAMES.index("verb")) | self.transitive[token]
            for number in (1, 0):
                more = (rules.state[rule, number] >= 0) & pushed
                depth += more
                new = rules.state[rule, number] * _FEATURES + choices[rules.feature[rule, number], rows]
                stack[rows, depth] = np.where(more, new, stack[rows, depth])
        return tokens.T.copy(), surprises.T.astype(np.float32)


@dataclass(frozen=True)
class _Rules:
    bounds: Floats  # number of the state plus cumulative probability
    surprise: Floats
    category: Ints
    state: Ints  # [rules, 2], -1 for none
    feature: Ints  # [rules, 2]: 0 that of the state, 1 of the word, 2 mixed


@cache
def _rules() -> _Rules:
    bounds, surprise, category, states, features = [], [], [], [], []
    for number, choices in enumerate(_RULES.values()):
        chances = np.cumsum([chance for chance, _, _ in choices])
        bounds += [*(number + chances[:-1]), number + 1.0]
        for chance, name, pushed in choices:
            surprise.append(-math.log(chance))
            category.append(_NAMES.index(name))
            pairs = [one.split(":") for one in pushed.split()] + [["", ""]] * 2
            states.append([_STATES.index(state) if state else -1 for state, _ in pairs[:2]])
            features.append([("", "word", "class").index(how) for _, how in pairs[:2]])
    return _Rules(np.array(bounds), np.array(surprise), np.array(category), np.array(states), np.array(features))


@cache
def _contexts() -> Ints:
    """Return for each category its first context and what topic, class and cluster add to it, [categories, 4]."""
    found, first = [], 0
    for _, depends in _CATEGORIES.values():
        strides, count = [], 1
        for what, choices in (("cluster", CLUSTERS), ("class", CLASSES), ("topic", TOPICS)):
            strides.append(count if what in depends else 0)
            count *= choices if what in depends else 1
        found.append([first, *reversed(strides)])
        first += count
    return np.array(found)


def category(name: str) -> range:
    """Return the tokens of a category; those of its classes lie one after the other."""
    first = 0
    for other, size in _sizes().items():
        if other == name:
            return range(first, first + size)
        first += size
    raise KeyError(name)


@cache
def language(shift: float = 0.0) -> Language:
    """Return the language, or a dialect of it with the same grammar and other preferences among words.

    A word's probability is the mean of three laws of Zipf, 1 / rank, over its category and class: one in an order for
    all, one in the order of the topic, one in that of the cluster of the word that governs it.

    Args:
        shift: from 0, the language itself, to 1: share of the words in another cluster, and of the variance of orders
            that is another.
    """
    own, other = np.random.default_rng(CONSTANT), np.random.default_rng([CONSTANT, 1])

    def noise(*shape: int) -> Floats:
        return SPREAD * (
            math.sqrt(1 - shift) * own.standard_normal(shape) + math.sqrt(shift) * other.standard_normal(shape)
        )

    clusters, moved = own.integers(CLUSTERS, size=VOCABULARY), other.integers(CLUSTERS, size=VOCABULARY)
    clusters = np.where(other.random(VOCABULARY) < shift, moved, clusters)
    kinds = np.zeros(VOCABULARY, np.int64)
    transitive = np.zeros(VOCABULARY, bool)
    verbs = np.array(category("verb"))
    transitive[verbs] = own.random(len(verbs)) < 0.6
    bounds: list[Floats] = []
    words, surprise, number = [], [], 0
    for name, (count, depends) in _CATEGORIES.items():
        tokens = np.array(category(name)).reshape(-1, count)  # [classes or 1, count]
        if name in _OF_CLASS:
            kinds[tokens] = np.arange(CLASSES)[:, None]
        elif name in _CLASSED:
            kinds[tokens] = np.arange(count) % CLASSES
        general, of_topic, of_cluster = (_zipf(noise(groups, *tokens.shape)) for groups in (1, TOPICS, CLUSTERS))
        for topic in range(TOPICS if "topic" in depends else 1):
            for kind in range(len(tokens)):
                for cluster in range(CLUSTERS if "cluster" in depends else 1):
                    chances = (general[0, kind] + of_topic[topic, kind] + of_cluster[cluster, kind]) / 3
                    bounds.append(number + np.append(np.cumsum(chances)[:-1], 1.0))
                    words.append(tokens[kind])
                    surprise.append(-np.log(chances))
                    number += 1
    return Language(
        np.concatenate(bounds),
        np.concatenate(words),
        np.concatenate(surprise),
        kinds * CLUSTERS + clusters,
        transitive,
    )


def _zipf(noise: Floats) -> Floats:
    """Return probabilities 1 / rank over the last dimension, ranked by the logarithm of the place plus noise."""
    scores = np.log(np.arange(1, noise.shape[-1] + 1)) + noise
    weights = 1 / (1 + scores.argsort(axis=-1).argsort(axis=-1))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
