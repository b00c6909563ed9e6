"""Three workloads stay out of every choice of a default, so that what holds there was not fitted to them."""

import re
from pathlib import Path

import pytest

import sooner
from sooner import part, workloads

PACKAGE = Path(sooner.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"
# where defaults and ranges are set, and the pages that say why
SOURCES = sorted(
    path
    for folder in (*part.STATIONS, "recipe", "forecast", "link")
    for path in (PACKAGE / folder).rglob("*.py")
    if (PACKAGE / folder).is_dir()
)
PAGES = [path for path in DOCS.glob("*.md") if path.stem in {*part.STATIONS, "optimizers", "gradients", "schedules"}]


def mentions(text):
    """Return the held-back workloads that a text names as workloads: by module, page, in quotes, or after the word."""
    names = "|".join(workloads.HELD_BACK)
    found = re.findall(
        rf"workloads[./ ]+(?:import )?({names})\b|[\"'`]({names})[\"'`]|\b(?:workload|task)s? ({names})\b", text
    )
    return {name for groups in found for name in groups if name}


def test_there_are_three_and_they_exist():
    assert len(set(workloads.HELD_BACK)) == 3
    assert set(workloads.HELD_BACK) <= set(workloads.names())


@pytest.mark.parametrize(
    "text",
    [
        "from sooner.workloads import shapes",
        "tuned on `grammar`",
        'workload("finetune")',
        "see workloads/shapes.md",
        "on the workload grammar",
    ],
)
def test_a_mention_is_found(text):
    assert len(mentions(text)) == 1
    assert not mentions("tensors of other shapes, a grammar, to finetune")


def test_no_part_and_no_page_on_defaults_refers_to_them():
    assert len(SOURCES) > 100
    assert len(PAGES) >= 5
    assert {path.name: mentions(path.read_text(encoding="utf-8")) for path in (*SOURCES, *PAGES)} == {
        path.name: set() for path in (*SOURCES, *PAGES)
    }


def test_their_pages_and_the_index_say_so():
    for name in workloads.HELD_BACK:
        page = (DOCS / "workloads" / f"{name}.md").read_text(encoding="utf-8")
        assert "held back" in page
    index = (DOCS / "workloads" / "README.md").read_text(encoding="utf-8")
    line = next(line for line in index.splitlines() if line.startswith("Held back"))
    assert all(f"`{name}`" in line for name in workloads.HELD_BACK)
