"""Every part's file says what its card needs, and cards show it."""

import io

import pytest
from rich.console import Console

from sooner import catalogue, part
from sooner.claims import _evidence
from sooner.error import SoonerError
from sooner.report.part_card import NEEDS, card, company, knobs, resolved


def shown(name):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(card(name))
    return console.export_text()


@pytest.mark.parametrize("name", part.names())
def test_every_part_says_when_and_what_it_costs(name):
    about = part.about(name)
    assert about.summary.endswith(".")
    assert about.use.startswith("Use it when ")
    assert about.use.endswith(".")
    assert about.leave.startswith("Leave it when ")
    assert about.leave.endswith(".")
    assert about.cost.startswith("It costs ")
    assert "wire" in about.cost
    assert about.text, "a part names its source"


@pytest.mark.parametrize("name", part.names())
def test_every_card_can_be_shown(name):
    told = shown(name)
    for words in (
        part.about(name).summary[:40],
        "update rule",
        "knobs",
        "when",
        "cost",
        "goes with",
        "source",
        "claim",
    ):
        assert words in told or (words == "update rule" and not part.about(name).rule)
    paper = catalogue.of_part(name)
    assert paper is None or paper.link in told
    assert name in resolved(name)
    evidence = _evidence.find(name)
    assert (f"verdict: {evidence.verdict}" if evidence else "not run yet") in told


def test_needs_are_said_in_words():
    assert {need for name in part.names() for need in part.load(name).needs} <= set(NEEDS)


def test_conflicts_are_found_by_what_parts_own():
    (line,) = [line for line in company("cosine") if "learning rate" in line]
    assert "linear" in line
    assert "cosine" not in line
    assert company("clip_norm") == ["any other part"] or "owns" in company("clip_norm")[0]
    assert any("on='pattern'" in line for line in company("muon"))


def test_knobs_show_default_and_range():
    assert "lr = 0.02   a race tunes [0.003, 0.3]" in knobs(part.load("muon"))
    assert any(line.startswith("decay = ") and "{0.9" in line for line in knobs(part.load("ema")))


def test_damaged_evidence_leaves_the_rest_of_the_card(monkeypatch):
    def damaged(name):
        raise SoonerError("evidence/muon.jsonl: line 2 was changed")

    monkeypatch.setattr(_evidence, "find", damaged)
    told = shown("muon")
    assert "line 2 was changed" in told
    assert "NewtonSchulz" in told
