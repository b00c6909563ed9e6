"""The site in a real browser, from the disk and without network: search, cards, plots, and nothing on the console."""

import pytest
from headless import clipped, fits

pytestmark = pytest.mark.browser

KINDS = (
    *("index.html", "getting-started.html", "schedules.html", "parts/index.html", "evidence/index.html"),
    *("negative-results.html", "news.html", "api/update.html", "search.html?q=muon", "evidence/cosine.html"),
)


@pytest.fixture
def opened(offline, site):
    """Opens a page of the site."""
    return lambda name, **options: offline(f"{site.as_uri()}/{name}", **options)


def test_from_the_catalogue_to_a_card_to_its_evidence_and_its_data(opened, site):
    page = opened("catalogue.html")
    everything = page.locator("#catalogue-table tbody tr").count()
    shown = page.locator("#catalogue-table tbody tr:visible")
    assert shown.count() == everything
    page.keyboard.press("Tab")
    page.locator("#catalogue-words").focus()
    page.keyboard.type("AdamP normali", delay=1)
    assert shown.count() == 0
    assert "Fewer words" in page.locator(".catalogue-search output").text_content()
    page.keyboard.press("Escape")
    assert shown.count() == everything
    page.keyboard.type("adamp REPRODUCED", delay=1)
    assert shown.count() == 1
    assert page.locator(".catalogue-search output").text_content() == f"1 of {everything} papers"
    page.reload()  # the address keeps the search
    assert shown.count() == 1
    shown.get_by_role("link", name="adamp", exact=True).click()
    page.wait_for_selector("html[data-drawn]", state="attached")
    assert page.url.endswith("parts/adamp.html")
    assert page.locator(".evidence-plot svg.main-svg .scatterlayer .trace").count() > 3
    page.get_by_role("link", name="The evidence").click()
    page.wait_for_selector("html[data-drawn]", state="attached")
    assert page.url.endswith("evidence/adamp.html")
    assert "not reproduced here" in page.locator(".verdict").first.text_content()
    href = page.get_by_role("link", name="adamp.jsonl").get_attribute("href")
    assert (site / "evidence" / href).is_file()


def test_a_status_narrows_the_catalogue_further(opened):
    page = opened("catalogue.html")
    shown = page.locator("#catalogue-table tbody tr:visible")
    everything = shown.count()
    state = page.locator("#catalogue-status option").nth(1).text_content()
    page.locator("#catalogue-status").select_option(state)
    assert 0 < shown.count() < everything
    assert set(shown.locator("td:nth-child(4)").all_text_contents()) == {state}


@pytest.mark.parametrize("width", [1280, 390])
def test_every_kind_of_page_fits_and_says_nothing_on_the_console(opened, width):
    page = opened("index.html", viewport={"width": width, "height": 844})
    root = page.url.removesuffix("index.html")
    wide = []
    for name in (*KINDS, "parts/adamp.html", "catalogue.html"):
        page.goto(root + name)
        if not fits(page):
            wide.append(name)
    assert wide == []


def test_plots_follow_the_scheme_and_cut_nothing_off(opened):
    page = opened("evidence/adamp.html", color_scheme="light", viewport={"width": 390, "height": 844})
    page.wait_for_selector("html[data-drawn]", state="attached")
    fill = "getComputedStyle(document.querySelector('.evidence-plot svg .xtick text')).fill"
    light = page.evaluate(fill)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"light => {fill} !== light", arg=light)
    assert clipped(page) == []


def test_the_search_of_the_whole_site_works_from_the_disk(opened):
    page = opened("search.html?q=sharpness")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").count() > 1


def test_without_a_script_the_catalogue_is_a_whole_table(opened):
    page = opened("catalogue.html", java_script_enabled=False)
    assert not page.locator(".catalogue-search").is_visible()
    assert page.locator("#catalogue-table tbody tr").first.is_visible()
