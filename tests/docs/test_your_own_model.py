"""The task file shown in docs/your-own-model.md: short, sound, and raced from the command line as the page says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-model.md").read_text(encoding="utf-8")
CODE = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)


@pytest.fixture
def task_file(tmp_path):
    path = tmp_path / "my_task.py"
    path.write_text(CODE, encoding="utf-8")
    return path


def sooner(*arguments, cwd):
    call = [sys.executable, "-c", "from sooner.cli import main; main()", *map(str, arguments)]
    return subprocess.run(call, cwd=cwd, capture_output=True, text=True, check=False, timeout=240)


def test_it_is_at_most_fifteen_lines_of_code():
    lines = [line for line in CODE.splitlines() if line.strip() and not line.lstrip().startswith(('"""', "#"))]
    assert len(lines) <= 15


def test_it_passes_the_check(task_file):
    done = sooner("workloads", task_file, cwd=task_file.parent)
    assert done.returncode == 0, done.stderr
    assert "4,417 parameters, 200 steps, metric loss" in done.stdout


def test_it_races(task_file):
    options = [
        "--recipes",
        "adamw; sgd(nesterov=True)",
        "--steps",
        "60",
        "--seeds",
        "6",
        "--tune",
        "1",
        "--no-cost",
        "--json",
    ]
    done = sooner("race", task_file, *options, "--out", "mine", cwd=task_file.parent)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [c["status"] for c in result["contenders"]] == ["raced", "raced"]
    curve = result["contenders"][0]["curves"][0]["values"]
    assert curve[-1] < curve[0]  # it learns something
    assert (task_file.parent / "mine" / "report.html").exists()
