"""The catalogue says what is true: every paper once, every part it names exists, and every verdict has its evidence."""

import importlib
import re

import pytest
from pydantic import ValidationError

from sooner import catalogue, claims, part
from sooner.catalogue import NEEDS, Paper
from sooner.claims import _evidence
from sooner.error import SoonerError
from sooner.forecast import laws

PAPERS = catalogue.load()
TEXTBOOK = {
    *("sgd", "adamw", "muon", "normalized_gd", "adagrad_norm", "lion", "adan", "ademamix", "nadamw"),
    *("prodigy", "schedule_free_adamw", "schedule_free_sgd"),
    *("soap", "kl_shampoo", "all_round", "power_ema"),
    *("normuon", "adamuon", "mars", "hyperball"),
    *("gradient_release", "low_bit_state"),
    *("clip_norm", "clip_adaptive"),
    *("constant", "cosine", "linear", "warmup_stable_decay"),
    "ema",
    *("dense", "fp16", "bf16", "int8", "top_k", "random_k", "sign", "powersgd"),
    *("ef", "ef21", "ef21_momentum"),
    *("local_sgd", "diloco", "streaming_diloco", "snoo", "silent"),
    *("proximal", "full", "sampled"),
    "speculative",
}
"""Parts without a paper of ours: textbook methods, and peers' that papers are compared with."""


def test_every_paper_has_one_row():
    assert len(PAPERS) == 173
    assert len({p.id for p in PAPERS}) == 173
    assert len({p.title.lower() for p in PAPERS}) == 173
    assert len({p.arxiv for p in PAPERS if p.arxiv}) == sum(p.arxiv is not None for p in PAPERS)


def test_every_part_has_a_row_and_every_row_s_parts_load():
    listed = [name for paper in PAPERS for name in paper.parts]
    assert len(listed) == len(set(listed))
    assert set(part.names()) - set(listed) == TEXTBOOK - set(listed)
    for paper in PAPERS:
        for name in paper.parts:
            assert part.load(name).station == part.names()[name]
        if paper.parts:
            assert part.names()[paper.parts[0]] == paper.folder


def test_every_forecast_is_a_law_or_a_module():
    named = {name for paper in PAPERS for name in paper.forecasts}
    for name in named - set(laws.names()):
        assert importlib.import_module(f"sooner.forecast.{name}").__doc__, name


def test_links_and_numbers_agree():
    for paper in PAPERS:
        if paper.arxiv:
            assert paper.link == f"https://arxiv.org/abs/{paper.arxiv}", paper.id


@pytest.mark.parametrize("name", claims.names())
def test_a_claim_belongs_to_its_part_s_paper(name):
    claim = claims.load(name)
    paper = catalogue.of_part(name)
    assert claim.paper == (paper.id if paper else "")


def test_status_follows_from_the_evidence():
    published = set(_evidence.published())
    for paper in PAPERS:
        if paper.parts:
            complete = set(paper.parts) <= published
            assert paper.status == ("part + claim" if complete else "part, claim pending")
        elif paper.forecasts:
            assert paper.status == "forecast"
        else:
            assert paper.status in ("planned", "outside what sooner does")
    assert published <= set(claims.names())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("less memory", "apollo"),
        ("out of memory", "zero"),
        ("slow network", "dgc"),
        ("bandwidth", "noloco"),
        ("federated", "fedspeed"),
        ("stragglers", "afl"),
        ("gossip", "dfedsam"),
        ("diverges", "softmax-ghosts"),
        ("NaN", "coord-clip"),
        ("no GPU", "true-4bit-tanh"),
        ("cpu", "true-4bit-tanh"),
        ("batch size", "rmt-lr-batch"),
        ("planned communication", "dgc"),
        ("diffgrad", "diffgrad"),
        ("softmax_ghosts", "softmax-ghosts"),
        ("Logistic Perceptron", "normalized-lr-gd"),
        ("2010.07468", "adabelief"),
    ],
)
def test_search_finds_by_need_and_by_word(query, expected):
    assert expected in [paper.id for paper in catalogue.search(query)]


def test_the_id_finds_one_paper_and_titles_come_before_mentions():
    assert [paper.id for paper in catalogue.search("sophia")] == ["sophia"]
    assert catalogue.search("adabelief optimizer")[0].id == "adabelief"


def test_every_need_is_met_by_some_paper():
    met = {need for paper in PAPERS for need in paper.needs}
    assert met == set(NEEDS)
    for need in NEEDS:
        assert all(need in paper.needs for paper in catalogue.search(need)[:1])


def test_a_query_without_a_hit_names_what_is_near():
    with pytest.raises(SoonerError, match=re.escape("no paper is found for 'adabeleif' (did you mean 'adabelief'")):
        catalogue.search("adabeleif")
    with pytest.raises(SoonerError, match="no paper is found for 'zzzz'; try a word"):
        catalogue.search("zzzz")


ROW = {
    "id": "x",
    "title": "A title",
    "year": 2020,
    "link": "https://example.org",
    "station": "update",
    "method": "Does something to something else.",
    "headline": "Twice as fast.",
    "needs": ["fewer steps"],
    "status": "planned",
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"needs": ["more coffee"]}, "not in the list"),
        ({"status": "outside what sooner does"}, "a reason belongs"),
        ({"reason": "none"}, "a reason belongs"),
        ({"parts": ["sgd"]}, "parts, forecasts or a status"),
        ({"abstract": "text"}, "extra"),
        ({"method": "m" * 221}, "at most 220"),
        ({"arxiv": "20.1"}, "pattern"),
    ],
)
def test_a_row_that_does_not_agree_with_itself_is_refused(change, why):
    Paper.model_validate(ROW)
    with pytest.raises(ValidationError, match=f"(?i){why}"):
        Paper.model_validate({**ROW, **change})
