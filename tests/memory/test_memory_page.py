"""docs/memory.md: its code runs from top to bottom."""

import re
from pathlib import Path

import torch

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"


def test_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(block, names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step15.pt", "step20.pt"]
    assert names["found"]["extra"]["step"] == 20
