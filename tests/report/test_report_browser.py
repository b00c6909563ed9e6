"""The report in a real browser: offline, on a desktop and on a phone, light and dark."""

import copy

import pytest
from headless import clipped, drawn, fits
from sample_result import SAMPLES

from sooner.report import figures, html

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(offline, tmp_path):
    """Opens the report of a result."""

    def open_report(result):
        page = offline(html.write(result, tmp_path / "report.html").as_uri(), color_scheme="light")
        page.wait_for_selector("html[data-drawn]", state="attached")
        return page

    return open_report


@pytest.mark.parametrize("name", ["hostile", "ten"])
def test_report_is_drawn_fits_and_follows_the_scheme(opened, name):
    page = opened(SAMPLES[name])
    counts = drawn(page)
    assert set(counts) == set(figures.build(SAMPLES[name]))
    assert all(count > 0 for count in counts.values())
    assert fits(page)
    assert clipped(page) == []

    colours = """() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector("#plot-curves svg .xtick text")).fill,
        getComputedStyle(document.querySelector("#plot-curves svg .scatterlayer .trace path.js-line")).stroke]"""
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"before => ({colours})()[1] !== before", arg=light[1])
    dark = page.evaluate(colours)
    assert all(before != after for before, after in zip(light, dark, strict=True))

    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function(
        """() => [...document.querySelectorAll("svg.main-svg")].every(
            (drawing) => drawing.getBoundingClientRect().width < 390)"""
    )
    assert fits(page)
    assert clipped(page) == []
    if name == "hostile":
        assert_shown_letter_by_letter(page)


def assert_shown_letter_by_letter(page):
    """Names that look like HTML are text, in the page and in the plots."""
    assert page.locator("body img").count() == 0
    shown = page.locator("#plot-final svg .annotation-text").all_text_contents()
    assert any("<script>alert(1)</script>" in text for text in shown)
    assert any("a&b <b>bold</b>" in text for text in shown)
    assert page.locator("#headline .name").nth(1).text_content() == "<script>alert(1)</script>"


def test_legend_scale_copy_button_and_embedded_result_work(opened):
    result = copy.deepcopy(SAMPLES["withheld"])
    result["notes"].append("</script><!-- a note that would end the element -->")
    page = opened(result)
    assert page.evaluate("JSON.parse(document.getElementById('result').textContent)") == result
    assert page.locator("#plot-cost").count() == 0
    traces = "document.querySelectorAll('#plot-curves .scatterlayer .trace').length"
    before = page.evaluate(traces)
    button = page.locator("#figure-curves button[data-group='1']")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    page.wait_for_function(f"() => {traces} < {before}")
    fill = "getComputedStyle(document.querySelector('#plot-curves .xtick text')).fill"
    light = page.evaluate(fill)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"light => {fill} !== light", arg=light)
    assert page.evaluate(traces) < before  # what was hidden stays hidden
    button.click()
    page.wait_for_function(f"() => {traces} === {before}")
    page.locator("#figure-curves button[data-group='a/a']").click()
    page.wait_for_function(f"() => {traces} > {before}")
    assert "4.5" in page.locator("#plot-curves .ytick text").all_text_contents()
    page.locator("#figure-curves input").check()
    page.wait_for_function("() => document.getElementById('plot-curves').layout.yaxis.type === 'log'")
    page.locator("#copy").click()
    assert page.locator("#copy").text_content() == "copied"
    assert page.evaluate("window.getSelection().toString()") == result["command"]
