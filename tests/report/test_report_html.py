import copy
import json
import random
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_result import SAMPLES, SCRIPT

from sooner.error import SoonerError
from sooner.report import details, figures, html, table, words

SECTIONS = [
    "headline",
    "table",
    "ratios",
    "curves",
    "seeds",
    "sensitivity",
    "best-of-k",
    "cost",
    "tuning-cost",
    "guide",
    "provenance",
]


class Reader(HTMLParser):
    """Collects elements, their attributes, and the text outside of scripts and styles."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.text, self.open = [], [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


@pytest.fixture(scope="module")
def pages():
    return {name: html.page(result) for name, result in SAMPLES.items()}


def embedded(page):
    return json.loads(re.search(r'<script type="application/json" id="result">(.*?)</script>', page, re.DOTALL)[1])


@pytest.mark.parametrize("name", SAMPLES)
def test_the_result_is_embedded_whole(pages, name):
    assert embedded(pages[name]) == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_all_sections_stand_in_order(pages, name):
    ids = [attributes.get("id") for _, attributes in Reader(pages[name]).elements]
    assert [each for each in ids if each in SECTIONS] == SECTIONS
    assert {each[5:] for each in ids if each and each.startswith("plot-")} == set(figures.build(SAMPLES[name]))


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_loaded(pages, name):
    for tag, attributes in Reader(pages[name]).elements:
        assert tag not in ("img", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes
        if "href" in attributes:
            assert attributes["href"].startswith(("#", "data:"))
    assert "url(" not in re.search(r"<style>(.*?)</style>", pages[name], re.DOTALL)[1]
    assert "@import" not in re.search(r"<style>(.*?)</style>", pages[name], re.DOTALL)[1]


def test_only_our_scripts_may_run(pages):
    policy = next(a["content"] for _, a in Reader(pages["plain"]).elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert html.policy("alert(1)") != html.policy("alert(2)")


def test_names_are_escaped(pages):
    page = pages["hostile"]
    assert page.count("<script>") == 2  # Plotly and the page's own
    assert SCRIPT not in page
    assert "onerror=" in page
    assert not any("onerror" in attributes for _, attributes in Reader(page).elements)
    assert "\x1b" not in page
    text = "".join(Reader(page).text)
    assert SCRIPT in text
    assert "{{ 7 * 7 }}" in text


@pytest.mark.parametrize("name", SAMPLES)
def test_every_contender_has_its_verdict_in_words(pages, name):
    text = " ".join("".join(Reader(pages[name]).text).split())
    for contender in SAMPLES[name]["contenders"]:
        assert contender["verdict"] in text
        assert " ".join(words.sentence(contender).split()) in text
    for fact in words.facts(SAMPLES[name]).values():
        assert " ".join(fact.split()) in text
    assert SAMPLES[name]["command"] in text
    assert SAMPLES[name]["task"]["fingerprint"] in text


def test_absent_figures_are_explained(pages):
    text = "".join(Reader(pages["single"]).text)
    assert "There is nothing to compare" in text
    assert "There are no pairs of runs to compare" in text
    assert "Time is withheld: the machine was busy" in "".join(Reader(pages["withheld"]).text)
    assert "milliseconds" not in "".join(Reader(pages["withheld"]).text)


def test_tables_are_rectangular():
    for result in SAMPLES.values():
        for sheet in (details.summary, details.at_every_target, details.finals, details.costs, details.tuning):
            made = sheet(result)
            assert all(len(cells) == len(made.headings) for _, cells in made.rows)


def test_numbers_that_json_cannot_hold_become_null():
    result = copy.deepcopy(SAMPLES["single"])
    result["contenders"][0]["curves"][0]["values"][-1] = float("nan")
    result["contenders"][0]["final"]["values"][0] = float("inf")
    page = html.page(result)
    assert embedded(page)["contenders"][0]["curves"][0]["values"][-1] is None
    assert embedded(page)["contenders"][0]["final"]["values"][0] is None


def test_write_makes_folders_and_replaces_whole(tmp_path):
    path = tmp_path / "deep" / "report.html"
    assert html.write(SAMPLES["single"], path) == path
    first = path.read_text(encoding="utf-8")
    html.write(SAMPLES["withheld"], path)
    assert embedded(path.read_text(encoding="utf-8")) == SAMPLES["withheld"]
    assert first.startswith("<!DOCTYPE html>")
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_write_says_in_one_sentence_what_went_wrong(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.html").mkdir()
    for path in (tmp_path / "file" / "report.html", tmp_path / "folder.html"):
        with pytest.raises(SoonerError, match=r"cannot write the report to .*; name a file") as caught:
            html.write(SAMPLES["single"], path)
        assert "\n" not in str(caught.value)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder.html"]


def places(result):
    """Every (holder, key) in a result that may be None by the contract."""
    found = [(result["targets"], key) for key in result["targets"]]
    found += [(result, "noise_floor"), (result["timing"], "why")]
    for contender in result["contenders"]:
        optional = ("smallest_effect", "cost", "time_ratio", "ratio_with_tuning", "peak_memory_mib", "why_out")
        found += [(contender, key) for key in (*optional, "state_bytes_per_parameter")]
        for target in contender["targets"].values():
            found += [(target, key) for key in ("ratio", "low", "high", "p", "p_holm")]
            found += [(target["steps"], k) for k in range(len(target["steps"]))]
        final = contender["final"]
        found += [(final, key) for key in final if key != "values"]
        found += [(final["values"], k) for k in range(len(final["values"]))]
        for trial in contender["tuning"]["trials"]:
            found += [(trial, "score"), (trial, "diverged_at")]
        found += [(contender["tuning"]["expected_best"], k) for k in range(len(contender["tuning"]["expected_best"]))]
        found += [(curve["values"], k) for curve in contender["curves"] for k in range(len(curve["values"]))]
    return found


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["out", "single", "higher", "withheld"]),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_any_number_may_be_missing(name, share, seed):
    rng = random.Random(seed)
    result = copy.deepcopy(SAMPLES[name])
    for holder, key in places(result):
        if rng.random() < share:
            holder[key] = None
    assert embedded(html.page(result)) == result
    for width in (80, 160):
        assert max(map(len, table.text(result, width).splitlines())) <= width
