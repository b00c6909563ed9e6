"""docs/gradients.md: its code runs from top to bottom, and what it says about parts is so."""

import re
from pathlib import Path

import sooner
from sooner import part

PAGE = Path(__file__).parents[2] / "docs" / "gradients.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_code_of_the_page_runs_in_a_fresh_process(fresh):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 11
    printed = fresh("\n".join([*blocks, "recipe.build(model, 10)", "assert torch.isfinite(value)"]))
    assert printed.startswith("curvature ")


def test_the_tables_name_every_part_what_it_tunes_and_what_it_needs():
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", TEXT, re.MULTILINE)
    assert sorted(name for name, _ in rows) == [
        n for n, station in sorted(part.names().items()) if station == "gradient"
    ]
    words = {"the loss": {"closure"}, "the next batch": {"next batch"}, "`losses`": {"losses"}}
    for name, last in rows:
        found = part.load(name)
        if found.needs:
            assert words[last] == set(found.needs)
        else:
            assert (f"`{next(iter(found.space))}`" if found.space else "nothing") == last


def test_the_recipes_of_the_page_are_recipes():
    for text in re.findall(r'Recipe\("(.*?)"\)', TEXT):
        assert sooner.Recipe(str(sooner.Recipe(text))) == sooner.Recipe(text)
