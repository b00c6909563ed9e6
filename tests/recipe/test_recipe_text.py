"""Recipes as text: what is read is what was written, and what can't be read is pointed at."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sooner
from sooner import part
from sooner.part import STATIONS
from sooner.recipe import Recipe, slot
from sooner.recipe.text import parse, split, written
from sooner.space import Choice, Log, Uniform

VALUES = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
KNOBS = st.one_of(
    st.tuples(st.floats(1e-12, 1.0), st.floats(1.5, 1e9)).map(lambda ends: Log(*ends)),
    st.tuples(st.floats(-1e6, 0.0), st.floats(0.5, 1e6)).map(lambda ends: Uniform(*ends)),
    st.lists(st.one_of(st.text(max_size=4), st.integers(2, 99)), min_size=1, max_size=4, unique=True).map(
        lambda values: Choice(*values)
    ),
)
NAMES = st.sampled_from(["lr", "momentum", "betas", "on", "größe", "x1"])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["adamw", "torch.optim.NAdam", "a.b.C", "naïve"]),
            st.dictionaries(NAMES, st.one_of(VALUES, KNOBS), max_size=4),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_reading_gives_back_what_was_written(items):
    def text_of(name, settings):
        ranges = {k: v for k, v in settings.items() if isinstance(v, Log | Uniform | Choice)}
        return written(name, {k: v for k, v in settings.items() if k not in ranges}, ranges)

    pieces = [text_of(*item) for item in items]
    calls = parse(" + ".join(pieces))
    assert [(c.name, c.settings) for c in calls] == items
    starts = [sum(len(p) + 3 for p in pieces[:i]) + 1 for i in range(len(pieces))]
    assert [c.column for c in calls] == starts


@given(
    lr=st.one_of(st.floats(1e-9, 1e3), KNOBS),
    momentum=st.one_of(st.floats(0, 0.99), KNOBS),
    warmup=st.one_of(st.floats(0, 0.9), KNOBS),
    second=st.sampled_from(["linear", "cosine", "torch.optim.lr_scheduler.ExponentialLR"]),
)
def test_a_recipe_printed_is_the_recipe(lr, momentum, warmup, second):
    knob = {"gamma": warmup} if "torch" in second else {"warmup": warmup}
    recipe = Recipe(slot("sgd", momentum=momentum, lr=lr, on="*"), slot(second, **knob))
    again = Recipe(str(recipe))
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert str(again) == str(recipe)
    assert again.space == recipe.space
    assert repr(recipe) == f"Recipe({str(recipe)!r})"


@pytest.mark.parametrize("name", part.names())
def test_a_bare_name_prints_bare(name):
    if issubclass(part.load(name), torch.optim.Optimizer):
        with_optimizer = name
    else:
        first = STATIONS.index(part.names()[name]) < STATIONS.index("update")
        with_optimizer = f"{name} + adamw" if first else f"adamw + {name}"
    assert str(Recipe(with_optimizer)) == with_optimizer
    assert str(Recipe(f"  {with_optimizer}( ) ")) == with_optimizer


def test_how_it_may_be_written():
    assert [c.name for c in parse("(adamw + cosine) + (sgd)")] == ["adamw", "cosine", "sgd"]
    assert parse("muon( lr = 2e-2 )")[0].settings == {"lr": 0.02}
    assert parse("sgd(lr=-1, momentum=+.5, nesterov=True, on='a.b')")[0].settings == {
        "lr": -1,
        "momentum": 0.5,
        "nesterov": True,
        "on": "a.b",
    }
    assert parse("adamw(lr=log(1e-4, 1e-2), eps=choice(1e-8, 1e-12), betas=uniform(0, 1))")[0].settings == {
        "lr": Log(1e-4, 1e-2),
        "eps": Choice(1e-8, 1e-12),
        "betas": Uniform(0, 1),
    }
    assert split(" adamw; muon + cosine ;; ") == ["adamw", "muon + cosine"]


LONG = " + ".join(["adamw"] * 500)


def test_a_very_long_recipe_is_read():
    assert len(parse(LONG)) == 500


@pytest.mark.parametrize(
    ("text", "column", "sentence"),
    [
        ("adamw + ", 8, "invalid syntax"),
        ("adamw cosine", 7, "invalid syntax"),
        ("  adamw(lr=1e-3", 8, r"'\(' was never closed"),
        ("adamw(lr=0.1, lr=0.2)", 18, "lr is set twice; keep one of them"),
        ("adamw - cosine", 1, "a part is a name, such as adamw or torch.optim.NAdam, and parts are joined by +"),
        ("adamw + 'cosine'", 9, "a part is a name"),
        (" adamw + cosine(0.1)", 17, "settings are written name=value"),
        ("adamw(**x)", 9, "settings are written name=value"),
        ("adamw(lr=fast)", 10, "a value is a number, a string in quotes"),
        ("adamw(lr=10**-3)", 10, "a value is a number, a string"),
        ("adamw(lr={[]: 1})", 10, "a value is a number, a string"),
        ("adamw(lr=__import__('os'))", 10, "a value is a number, a string"),
        ("adamw(lr=log(1e-4))", 10, r"ranges are log\(low, high\)"),
        ("adamw(lr=log(low=1e-4, high=1))", 10, "a value is a number, a string"),
        ("adamw(lr=log(1, 0.1))", 10, "needs low < high"),
        ("adamw(lr=choice(1, 1))", 10, "lists each value once"),
        ("adamw(lr=log(1e-4, x))", 20, "a value is a number"),
        ("adamw(eps='é') + 7", 18, "a part is a name"),
    ],
)
def test_what_can_not_be_read_is_pointed_at(text, column, sentence):
    with pytest.raises(sooner.SoonerError, match=rf"can't be read at column {column} \(.*{sentence}"):
        parse(text)


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_recipe_is_refused(text):
    with pytest.raises(sooner.SoonerError, match="an empty recipe trains nothing; write at least an optimizer"):
        Recipe(text)


def test_null_bytes_and_towers_of_brackets_are_refused_in_one_sentence():
    for text in ("adamw\0", "(" * 5000 + "adamw" + ")" * 5000):
        with pytest.raises(sooner.SoonerError, match="can't be read at column"):
            parse(text)
