"""The built site: links lead somewhere, nothing is loaded from elsewhere, pages show the evidence, the feed is one."""

import json
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
import sample_evidence

import sooner
from sooner import part
from sooner.claims import _evidence
from sooner.report.claim import figure

ATOM = "{http://www.w3.org/2005/Atom}"
DOCS = Path(__file__).parents[2] / "docs"


class Page(HTMLParser):
    """What a page links, loads, names and says."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids, self.words, self.images = [], [], [], [], []
        self.hidden = 0
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") else []
        self.hidden += tag in ("script", "style")
        if (tag == "a" and "href" in given) or (tag == "link" and "alternate" in given["rel"]):
            self.links.append(given["href"])
        elif tag == "link" and given["rel"] not in ("index", "search", "next", "prev", "canonical"):
            self.loads.append(given["href"])
        elif tag in ("script", "img", "iframe", "source", "embed", "video", "audio") and given.get("src"):
            self.loads.append(given["src"])
        if given.get("role") == "img":
            self.images.append(given["aria-label"])

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.hidden and data != "¶":  # the permanent link of a heading
            self.words.append(data)


@pytest.fixture(scope="session")
def pages(site):
    return {path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_link_and_anchor_leads_somewhere(site, pages):
    broken, followed = [], 0
    for name, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            followed += 1
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            where = target.resolve().relative_to(site.resolve()).as_posix()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in pages[where].ids):
                broken.append(f"{name}: {link}")
    assert broken == []
    assert followed > 5000


def test_nothing_is_loaded_from_the_network(site, pages):
    outside = [load for page in pages.values() for load in page.loads if urlsplit(load).scheme not in ("", "data")]
    assert outside == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert len(styles) > 2
    assert not any(re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style) for style in styles)


def test_no_id_stands_twice_on_a_page(pages):
    twice = {name: {one for one in page.ids if page.ids.count(one) > 1} for name, page in pages.items()}
    assert {name: ids for name, ids in twice.items() if ids} == {}


def test_every_part_has_a_card_and_every_claim_a_page(site, pages):
    for name in part.names():
        text = pages[f"parts/{name}.html"].text
        assert part.load(name).__name__ in text
        assert "Settings" in text
        (recipe,) = re.findall(r'sooner explain "(.*?)"', text)
        assert name in sooner.explain(recipe)
    published = {path.stem for path in (site.parent / "evidence").glob("*.jsonl")}
    assert set(_evidence.published()) <= published
    assert {path.stem for path in (site / "evidence" / "data").glob("*.jsonl")} == published
    for name in published:
        found = _evidence.read(site / "evidence" / "data" / f"{name}.jsonl")
        text = pages[f"evidence/{name}.html"].text
        assert found.verdict in text
        assert found.provenance["command"] in text
        for outcome in found.outcomes:
            assert figure(outcome.measured) in text
        for file, digest in found.code.items():
            assert f"{file} {digest}" in text
    assert len(pages) >= len(part.names()) + len(published) + len(list(DOCS.rglob("*.md")))


def test_every_public_name_is_in_the_reference(pages):
    for station in ("update", "gradient", "loss", "schedule", "communication", "diffusion", "rl", "decoding"):
        ids = set(pages[f"api/{station}.html"].ids)
        assert {f"sooner.{station}.{name}" for name in getattr(sooner, station).__all__} <= ids
    assert {"sooner.Recipe", "sooner.Task", "sooner.train", "sooner.explain"} <= set(pages["api/sooner.html"].ids)
    assert {"sooner.part.Part", "sooner.space.Log"} <= set(pages["api/building.html"].ids)


def test_every_page_of_the_docs_is_in_the_contents(pages):
    index = pages["index.html"]
    here = {urlsplit(link).path for link in index.links}
    assert {f"{path.stem}.html" for path in DOCS.glob("*.md")} - {"index.html"} <= here
    for folder, first in (("decisions", "index"), ("workloads", "README")):
        below = {urlsplit(link).path for link in pages[f"{folder}/{first}.html"].links}
        assert {f"{path.stem}.html" for path in (DOCS / folder).glob("*.md")} - {f"{first}.html"} <= below


def test_links_in_the_docs_lead_somewhere_on_github_too():
    broken = []
    for path in DOCS.rglob("*.md"):
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
        for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
            if "://" not in link and not (path.parent / link).exists():
                broken.append(f"{path.name}: {link}")
    assert broken == []


def test_negative_results_hold_what_did_not_come_out(pages):
    text = pages["negative-results.html"].text
    failed, rest = text.split("Not reproduced here No criterion")[1].split("Not testable at this size No criterion")
    untestable, rest = rest.split("Reproduced in part Some criteria")
    partly, old = rest.split("Older than the code Code that")
    assert "A synthetic headline on adamp" in failed
    assert "A synthetic headline on diffgrad" in partly
    assert "A synthetic headline on cosine" in untestable
    for one in sample_evidence.SAMPLE:
        assert f"{one.claim} {one.verdict} claims/{one.claim}.py" in old


def test_text_of_evidence_is_never_markup(pages):
    assert sample_evidence.MARKUP in pages["evidence/adamp.html"].text
    assert "<script>alert(1)</script>" in pages["evidence/adamp.html"].text


def test_plots_have_words(pages):
    told = pages["parts/adamp.html"].images
    assert len(told) == 1
    assert "never there: never" in told[0]
    assert all(image for page in pages.values() for image in page.images)


def test_plots_hold_the_figures_of_the_evidence(site):
    text = (site / "evidence" / "adamp.html").read_text(encoding="utf-8")
    drawn = [json.loads(found) for found in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text)]
    points = [x for trace in drawn[0]["data"] for x in trace["x"]]
    assert {1.2, 1.1, 1.4, 0.97, 0.5} <= set(points)


def test_the_catalogue_has_every_paper(site, pages):
    papers = re.findall(r'^id = "', (Path(sooner.__file__).parent / "papers.toml").read_text(encoding="utf-8"), re.M)
    text = (site / "catalogue.html").read_text(encoding="utf-8")
    assert text.split('id="catalogue-table"')[1].count("<tr") == len(papers) + 1
    assert "evidence/adamp.html" in pages["catalogue.html"].links


@pytest.fixture(scope="session")
def feed(site):
    return ElementTree.fromstring((site / "feed.xml").read_bytes())


def test_the_feed_is_an_atom_feed(site, feed):
    assert feed.tag == f"{ATOM}feed"
    entries = feed.findall(f"{ATOM}entry")
    for one in [feed, *entries]:
        for name in ("id", "title", "updated"):
            assert len(one.findall(f"{ATOM}{name}")) == 1
        assert one.find(f"{ATOM}title").text
        assert datetime.fromisoformat(one.find(f"{ATOM}updated").text).tzinfo
        assert re.fullmatch(r"tag:sooner,2026:[\w/-]+", one.find(f"{ATOM}id").text)
    assert feed.find(f"{ATOM}author/{ATOM}name").text
    assert feed.find(f"{ATOM}link[@rel='self']").get("href") == "feed.xml"
    ids = [one.find(f"{ATOM}id").text for one in entries]
    assert len(ids) == len(set(ids))
    dates = [one.find(f"{ATOM}updated").text for one in entries]
    assert dates == sorted(dates, reverse=True)
    assert feed.find(f"{ATOM}updated").text == dates[0]
    for one in entries:
        assert (site / one.find(f"{ATOM}link").get("href")).is_file()


def test_the_feed_tells_of_every_part_paper_and_verdict(feed):
    ids = {one.text for one in feed.iter(f"{ATOM}id")}
    missing = [name for name in part.names() if f"tag:sooner,2026:part/{name}" not in ids]
    assert missing == [], "add them to docs/news.toml, under the day they came"
    assert "tag:sooner,2026:verdict/adamp/not-reproduced-here" in ids
    text = (Path(sooner.__file__).parent / "papers.toml").read_text(encoding="utf-8")
    dated = (DOCS / "news.toml").read_text(encoding="utf-8")
    missing = [one for one in re.findall(r'^id = "(.*)"', text, re.M) if f'"{one}"' not in dated]
    assert missing == [], "add them to docs/news.toml, under the day they came"


def test_the_same_evidence_makes_the_same_feed(site, feed):
    """Nothing in it depends on when the site is built."""
    content = (site / "feed.xml").read_text(encoding="utf-8")
    days = set(re.findall(r"<updated>(\d{4}-\d\d-\d\d)", content))
    finished = {
        _evidence.read(path).provenance["finished"][:10] for path in (site / "evidence" / "data").glob("*.jsonl")
    }
    assert days <= finished | set(re.findall(r"^date = (\S+)", (DOCS / "news.toml").read_text(encoding="utf-8"), re.M))
