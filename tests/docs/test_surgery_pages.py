"""docs/surgery.md and docs/data.md: their code runs from top to bottom."""

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["surgery", "data"])
def test_the_code_of_the_page_runs(name):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    place = {}
    exec("\n".join(blocks), place)
    if name == "surgery":
        assert len(place["plain"][0].weight.unique()) <= 15
        assert place["packed"] < 4 * (8 * 16 + 16 * 4)
        assert type(place["merged"][0]) is torch.nn.Linear
    else:
        assert len(place["resumed"]) == 60
        assert place["passes"][1] > 15
        assert len(next(iter(place["loader"]))[0]) == 32
