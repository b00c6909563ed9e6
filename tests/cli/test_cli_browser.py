"""The report of a real race, in a real browser, without network."""

import re

import pytest
from headless import drawn

from sooner.race.journal import read
from sooner.report import figures

pytestmark = pytest.mark.browser


def test_the_report_of_a_race_opens_without_network_and_is_drawn(offline, finished):
    page = offline((finished.folder / "report.html").as_uri())
    counts = drawn(page)
    result = read(finished.folder).find("result", "result")
    assert set(counts) == set(figures.build(result))
    assert all(count > 0 for count in counts.values())
    assert page.evaluate("JSON.parse(document.getElementById('result').textContent)") == result
    text = page.locator("body").inner_text()
    assert "sgd(lr=1000000.0)" in text
    assert re.search(r"NaN or infinite in its only tuning trial \(at step \d+ with sgd\(lr=1000000\.0\)\)", text)
