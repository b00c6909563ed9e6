"""docs/diffusion.md, rl.md and decoding.md: their code runs from top to bottom, and their tables name every part."""

import re
from pathlib import Path

import pytest

from sooner import part

DOCS = Path(__file__).parents[2] / "docs"
AFTER = {
    "diffusion": "assert len(run.losses) == 4\nassert images_of_one_step.shape == (8, 16)",
    "rl": "right = tokens[:, 0] == 2\nassert (logp_of(tokens) - rollouts.logp)[right, 0].mean() > 0.2",
    "decoding": "assert len(found.tokens) == 100\nassert found.tokens_per_call > 1.5",
}


@pytest.mark.parametrize("name", AFTER)
def test_the_code_of_the_page_runs_in_a_fresh_process(name, fresh):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == {"diffusion": 5, "rl": 4, "decoding": 4}[name]
    fresh("\n".join([*blocks, AFTER[name]]))


@pytest.mark.parametrize("name", AFTER)
def test_the_table_names_every_part_and_what_it_needs(name):
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| `(.*?)` \|$", text, re.MULTILINE)
    assert sorted(rows) == sorted((one, *part.load(one).needs) for one, home in part.names().items() if home == name)
