"""docs/watching.md: its code runs from top to bottom, and it names what there is."""

import re
from pathlib import Path

from forked_workers import forked

import sooner
from sooner.watch import NAMES, Watch

TEXT = (Path(__file__).parents[2] / "docs" / "watching.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys, zygote):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        with forked(zygote):
            exec(block, names)
    said = capsys.readouterr().out
    assert [event["step"] for event in names["steps"]] == [20, 40, 60]
    assert "after 60 steps the largest norm was" in said
    assert "<race on quadratic, 6 seeds, against sgd(lr=0.05): sgd(lr=0.2) " in said


def test_the_tables_name_every_sink_and_every_method():
    assert set(NAMES) == set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    told = {
        name for row in re.findall(r"^\| (`\w+\(.*?) \|", TEXT, re.MULTILINE) for name in re.findall(r"`(\w+)\(", row)
    }
    assert told == {name for name in vars(Watch) if not name.startswith("_")}


def test_the_commands_and_extras_are_there():
    from sooner.cli import app

    assert all(app[name] for name in re.findall(r"^(?:ssh .* )?sooner (\w+)", TEXT, re.MULTILINE))
    project = (Path(sooner.__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in project for extra in re.findall(r"sooner\[(\w+)\]", TEXT))
