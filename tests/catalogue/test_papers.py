"""The catalogue says what is true: every paper once, and every part it names exists in the station it names."""

import tomllib
from importlib import resources

import pytest

from sooner import part

PAPERS = tomllib.loads(resources.files("sooner").joinpath("papers.toml").read_text(encoding="utf-8"))["paper"]


def test_every_paper_has_one_row():
    assert len(PAPERS) == 173
    assert len({p["id"] for p in PAPERS}) == 173
    assert len({p["title"].lower() for p in PAPERS}) == 173


@pytest.mark.parametrize("paper", PAPERS, ids=lambda p: p["id"])
def test_status_and_part_agree(paper):
    assert paper["status"] in ("planned", "part, claim pending", "part, claim run", "outside what sooner does")
    assert ("parts" in paper) == paper["status"].startswith("part")
    for name in paper.get("parts", []):
        assert part.load(name).station == part.names()[name]
    if "parts" in paper:
        assert part.names()[paper["parts"][0]] == paper["station"]


def test_every_part_of_a_paper_of_ours_has_a_row():
    """The rest are textbook methods and peers' that papers are compared with."""
    listed = {name for paper in PAPERS for name in paper.get("parts", [])}
    assert set(part.names()) - listed == {
        *("sgd", "adamw", "muon", "normalized_gd"),
        *("clip_norm", "clip_adaptive"),
        *("constant", "cosine", "linear", "warmup_stable_decay"),
    }
