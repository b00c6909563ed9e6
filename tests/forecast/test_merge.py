"""Several projects in one table: every unit back to the same losses, one axis, what is doubted, what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.forecast import read, table
from sooner.forecast.merge import LOSSES, Said, merge

STEPS = np.arange(100.0, 2001, 100)
NATS = 2 + 8 * STEPS**-0.4


def written(nats, unit, bytes_per_token):
    """Return losses in nats per token as a project in that unit writes them."""
    if unit == "perplexity":
        return np.exp(nats)
    per = nats / (bytes_per_token if unit.endswith("byte") else 1)
    return per / math.log(2) if unit.startswith("bits") else per


def project(unit="nats", bytes_per_token=4.0, **more):
    return table("run", step=STEPS, loss=written(NATS, unit, bytes_per_token), **more)


@given(st.sampled_from(LOSSES), st.sampled_from(LOSSES), st.floats(1.5, 6), st.floats(1.5, 6))
def test_every_unit_comes_back_to_the_same_losses(first, second, one, two):
    projects = {"a": project(first, one), "b": project(second, two)}
    made = merge(projects, {"a": Said(first, one), "b": Said(second, two)})
    assert made.unit == "bits per byte"
    for name, per in (("a", one), ("b", two)):
        np.testing.assert_allclose(made.table.only([f"{name}/run"])["loss"], NATS / math.log(2) / per, rtol=1e-9)


@given(st.sampled_from(["nats", "bits", "perplexity"]), st.floats(1.5, 6))
def test_without_bytes_they_are_nats_per_token(unit, per):
    made = merge(
        {"a": project(unit), "b": project("nats per byte", per)},
        {"a": Said(unit), "b": Said("nats per byte", per)},
    )
    assert made.unit == "nats per token"
    np.testing.assert_allclose(made.table["loss"], np.tile(NATS, 2), rtol=1e-9)
    assert any("same tokenizer" in one for one in made.doubts)


def test_curves_lie_along_what_all_have():
    steps = merge({"a": project(), "b": project()})
    assert steps.axis == "step"
    assert any("along steps" in one for one in steps.doubts)
    tokens = merge({"a": project(tokens=STEPS * 10), "b": project()}, {"b": Said(batch=64)})
    assert tokens.axis == "tokens"
    np.testing.assert_allclose(tokens.table["tokens"], [*(STEPS * 10), *(STEPS * 64)])
    compute = merge(
        {"a": table(parameters=[1e8], tokens=[1e9], loss=[3.0]), "b": table(compute=[1e18], loss=[3.2])},
    )
    assert compute.axis == "compute"
    np.testing.assert_allclose(compute.table["compute"], [6e17, 1e18])
    none = merge({"a": project(), "b": table(tokens=[1e9], loss=[3.0])})
    assert none.axis is None
    assert any("no axis for all" in one for one in none.doubts)


def test_samples_become_tokens():
    made = merge({"a": project(tokens=STEPS), "b": project(tokens=STEPS)}, {"a": Said(tokens_per_sample=1024)})
    np.testing.assert_allclose(made.table.only(["a/run"])["tokens"], STEPS * 1024)


@pytest.mark.parametrize("say", [{}, {"theirs": Said("perplexity")}])
def test_the_logarithm_of_a_perplexity_is_taken_once(tmp_path, say):
    path = tmp_path / "theirs.csv"
    rows = zip(STEPS, np.exp(NATS).tolist(), strict=True)
    path.write_text("step,dev_ppl\n" + "\n".join(f"{s:g},{v!r}" for s, v in rows))
    made = merge({"ours": project(), "theirs": read([path])}, say)
    np.testing.assert_allclose(made.table["loss"], np.tile(NATS, 2), rtol=1e-9)


def test_a_perplexity_that_nobody_named_is_doubted():
    made = merge({"a": table("x", step=STEPS, loss=np.exp(NATS) + 10), "b": project()})
    assert any("is it a perplexity? Then say a:loss=perplexity" in one for one in made.doubts)


REFUSED = {
    "one project": ({"a": project()}, {}, "there is one project"),
    "a project that is not there": ({"a": project(), "b": project()}, {"c": Said()}, "something is said of 'c'"),
    "a perplexity below 1": (
        {"a": table("x", step=STEPS, loss=NATS / 100), "b": project()},
        {"a": Said("perplexity")},
        "it is at least 1",
    ),
    "bytes beside tokens": (
        {"a": project("bits per byte"), "b": project()},
        {"a": Said("bits per byte")},
        "say a:bytes_per_token",
    ),
    "samples that are not there": (
        {"a": project(), "b": project()},
        {"a": Said(tokens_per_sample=8)},
        "has no column of tokens or samples",
    ),
    "what the files have": ({"a": project(batch=8), "b": project()}, {"a": Said(batch=8)}, "whose files have it"),
}


@pytest.mark.parametrize(("projects", "said", "sentence"), REFUSED.values(), ids=list(REFUSED))
def test_refusals(projects, said, sentence):
    with pytest.raises(SoonerError, match=sentence):
        merge(projects, said)


def test_what_is_said_is_checked():
    with pytest.raises(SoonerError, match=r"'bit' \(did you mean 'bits'\?\)"):
        Said("bit")
    with pytest.raises(SoonerError, match="batch is -1"):
        Said(batch=-1.0)
