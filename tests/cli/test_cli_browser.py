"""The report of a real race, in a real browser, without network."""

import re
import shutil

import pytest

from sooner.race.journal import read
from sooner.report import figures

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"], timeout=0)
        yield browser
        browser.close()


def test_the_report_of_a_race_opens_without_network_and_is_drawn(browser, finished):
    wrong = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(0)  # the time limit of the test is the limit
    context.set_offline(True)
    page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else wrong.append(r.url))
    page.goto((finished.folder / "report.html").as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached")
    drawn = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".js-plotly-plot")].map(
            (plot) => [plot.id, plot.querySelectorAll("svg.main-svg .scatterlayer .trace").length]))"""
    )
    result = read(finished.folder).find("result", "result")
    assert {name.removeprefix("plot-") for name in drawn} == set(figures.build(result))
    assert all(count > 0 for count in drawn.values())
    assert page.evaluate("JSON.parse(document.getElementById('result').textContent)") == result
    text = page.locator("body").inner_text()
    assert "sgd(lr=1000000.0)" in text
    assert re.search(r"NaN or infinite in its only tuning trial \(at step \d+ with sgd\(lr=1000000\.0\)\)", text)
    assert wrong == []
    context.close()
