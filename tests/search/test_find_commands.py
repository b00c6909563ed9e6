"""A search among commands: options with choices, whole commands, recipes that a program trains with."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from small_races import Inline

from sooner.cli import main
from sooner.command.searching import filled, ground_of, levels_of
from sooner.error import SoonerError
from sooner.race import limits
from sooner.recipe import Recipe
from sooner.search import Search, choices
from sooner.search import search as searching
from sooner.search.budget import Effort

PURE = Path(__file__).parent.parent / "command" / "pure.py"
TUNED = "--lr {{lr=0.03:log(1e-3,3e-1)}} --seed {{seed}} --steps {{steps}}"


@pytest.fixture(autouse=True)
def _small(tmp_path, monkeypatch):
    shutil.copy(PURE, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("LEAST_SEEDS", "TARGET_SEEDS"):
        monkeypatch.setattr(limits, name, 2)
    monkeypatch.setattr(searching, "effort", lambda *_: Effort(0, 2, 2, 2, 1, 2, 2))


def text(more=""):
    return f"{shlex.quote(sys.executable)} pure.py {more} {TUNED}".replace("{{", "{").replace("}}", "}")


def ground(*commands, choices=None, recipes=None, steps=20):
    return ground_of(list(commands), choices, recipes, "val_loss", steps=steps)


def test_choices_of_options_are_read_and_filled_in():
    assert levels_of("optimizer=adamw, muon; wd=0,0.1") == {"optimizer": ["adamw", "muon"], "wd": ["0", "0.1"]}
    assert filled("a {opt} {{opt}} {seed} {lr:log(1,2)}", {"opt": "x y"}) == "a 'x y' {{opt}} {seed} {lr:log(1,2)}"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "names nothing"),
        ("optimizer", "no option with its values"),
        ("optimizer=adamw", "two or more different values"),
        ("a=1,1", "two or more different values"),
        ("seed=1,2", "{seed} is filled in by the race"),
        ("a=1,2; a=3,4", "names a twice"),
    ],
)
def test_choices_that_are_none_get_one_sentence(typed, said):
    with pytest.raises(SoonerError, match=said):
        levels_of(typed)


def test_commands_that_leave_nothing_to_search_get_one_sentence():
    with pytest.raises(SoonerError, match="leaves nothing to search"):
        ground(text())
    with pytest.raises(SoonerError, match=r"has no \{momentum\}"):
        ground(text(), choices="momentum=0,0.9")
    with pytest.raises(SoonerError, match="and there are 2"):
        ground(text(), text(), choices="momentum=0,0.9")
    with pytest.raises(SoonerError, match="recipes are searched"):
        ground(text("{recipe}"), recipes=("adamw", choices("ema")))


def test_changes_make_commands_whose_names_say_them():
    made, base, changes = ground(text("--momentum {m} --fault {f}"), choices="m=0,0.5,0.9; f=none,decay")
    assert str(base) == "m=0, f=none"
    assert [change.name for change in changes] == ["m=0.5", "m=0.9", "f=decay"]
    assert changes[0].excludes(changes[1])
    assert not changes[0].excludes(changes[2])
    both = made.made(base, [changes[1], changes[2]])
    assert str(both) == "m=0.9, f=decay"
    assert "--momentum 0.9 --fault decay --lr {lr=0.03" in both.text
    assert both.space.keys() == {"lr"}
    assert made.pasted(both).endswith("--lr 0.03 --seed SEED --steps 0")
    made, base, (other,) = ground(f"slow: {text()}", f"heavy: {text('--momentum 0.9')}")
    assert (str(base), str(made.made(base, [other]))) == ("slow", "heavy")


def test_recipes_of_a_program_are_searched_as_those_of_a_task():
    command = f"{shlex.quote(sys.executable)} pure.py --fault {{recipe}} --seed {{seed}}"
    made, base, changes = ground(command, recipes=("adamw", choices("muon, ema")))
    assert str(made.made(base, changes)) == "muon + ema"
    assert made.made(base, changes).recipe == Recipe("muon + ema")
    assert "'muon + ema'" in made.pasted(made.made(base, changes).with_settings({}))


def test_a_search_among_options_finds_the_one_that_is_sooner_and_tells_what_can_not_race(tmp_path):
    made, base, changes = ground(text("--momentum {m} --fault {f}"), choices="m=0,0.9; f=none,exit")
    base, changes = made.try_out(base, changes, tmp_path / "tried", Inline(), lambda cells: None)
    assert made.length == 20
    assert not base.planned_end
    search = Search(made, base, changes, 1e6, tmp_path / "here", told=lambda _: None)
    found = search.run(Inline())
    assert str(found.recipe) == "m=0.9"
    assert found.factors == ["m=0.9"]
    assert "cannot open data.bin" in found.refused["f=exit"]
    again = Inline()
    assert str(search.run(again).recipe) == "m=0.9"
    assert again.ran == []
    assert str(search.confirming(found).baseline) == "m=0, f=none"


def test_the_command_line_searches_commands(tmp_path, monkeypatch, capsys):
    pool = Inline()
    monkeypatch.setattr("sooner.cli.finding.Processes", lambda *_, **__: __import__("contextlib").nullcontext(pool))
    monkeypatch.setattr(Search, "run", lambda self, _, run=Search.run: run(self, pool))
    words = ["find", "--command", text("--momentum {m}"), "--choices", "m=0.9,0", "--metric", "val_loss"]
    monkeypatch.setattr(sys, "argv", ["sooner", *words, "--steps", "20", "--out", "here", "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    data = json.loads(capsys.readouterr().out)
    assert (data["task"], data["base"], data["recipe"]) == ("pure", "m=0.9", "m=0.9")
    assert "--momentum 0.9 --lr 0.03 --seed SEED --steps 20" in data["code"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits", "--choices", "a=1,2"], "--choices goes with --command"),
        (["digits", "--command", "x"], "two things to train"),
        (["--command", "x {seed}"], "--metric val_loss"),
    ],
)
def test_options_that_do_not_go_together_get_one_sentence(words, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sooner", "find", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())
