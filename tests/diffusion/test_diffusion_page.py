"""docs/diffusion.md: its code runs from top to bottom, and its table names every part."""

import os
import re
import subprocess
import sys
from pathlib import Path

import sooner
from sooner import part

TEXT = (Path(__file__).parents[2] / "docs" / "diffusion.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs_in_a_fresh_process():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 5
    code = "\n".join([*blocks, "assert len(run.losses) == 4", "assert images_of_one_step.shape == (8, 16)"])
    environment = {**os.environ, "PYTHONPATH": str(Path(sooner.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_table_names_every_part_and_what_it_needs():
    rows = re.findall(r"^\| `(\w+)` \|.*\| `(.*?)` \|$", TEXT, re.MULTILINE)
    assert sorted(rows) == sorted(
        (name, *part.load(name).needs) for name, home in part.names().items() if home == "diffusion"
    )
