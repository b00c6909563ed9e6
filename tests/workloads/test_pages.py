"""The pages about the bundled tasks: complete, true where they give numbers, and with commands that run."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from sooner import workloads

PAGES = Path(__file__).parents[2] / "docs" / "workloads"


def one_liners(name):
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    return [shlex.split(command)[2] for command in re.findall(r"^python -c .*$", text, flags=re.MULTILINE)]


def test_the_index_names_every_task_and_nothing_else():
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\((\w+)\.md\)", index)) == workloads.names()
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted([*workloads.names(), "README"])


@pytest.mark.parametrize("name", workloads.names())
def test_page_gives_the_size_and_where_the_task_is_the_wrong_test(name):
    task = workloads.load(name)
    text = " ".join((PAGES / f"{name}.md").read_text(encoding="utf-8").split())
    parameters = sum(parameter.numel() for parameter in task.model(0).parameters())
    assert f"{task.steps:,} steps" in text
    assert re.search(rf"(?<![\d,]){parameters:,} parameters", text)
    assert f"{task.evaluations} evaluations" in text
    assert "## The wrong test for - **" in text
    assert len(one_liners(name)) == 2
    for code in one_liners(name):
        compile(code, name, "exec")


def test_commands_of_a_page_print_the_cost_and_the_fingerprint(capsys):
    threads = torch.get_num_threads()
    try:
        for code in one_liners("quadratic"):
            exec(code, {})
    finally:
        torch.set_num_threads(threads)
    cost, fingerprint = capsys.readouterr().out.splitlines()
    assert float(cost) > 0
    assert fingerprint == workloads.load("quadratic").fingerprint()
