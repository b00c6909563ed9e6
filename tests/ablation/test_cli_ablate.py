"""`sooner ablate` as typed: the arms, a small study with its confirmation, and going on where it stopped."""

import json
import sys

import pytest
from small_races import LINE, Inline, written

from sooner.cli import main
from sooner.race import limits


@pytest.fixture(scope="module", autouse=True)
def _few():
    """Races take few seeds here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LEAST_SEEDS", "TARGET_SEEDS"):
            patch.setattr(limits, name, 3)
        yield


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Runs the command in this process, cells and all: exit code, standard output and error, keys of its cells."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, LINE)

    def run(*words):
        pool = Inline()
        monkeypatch.setattr(sys, "argv", ["sooner", "ablate", *words])
        own = __import__("sooner.race.referee", fromlist=["run"]).run
        monkeypatch.setattr("sooner.race.referee.run", lambda plan, watchers, _: own(plan, watchers, pool))
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            monkeypatch.setattr("sooner.race.referee.run", own)
        told = capsys.readouterr()
        return code, told.out, told.err, pool.ran

    return run


WORDS = ("sgd(lr=0.1) + clip_norm(max_norm=100.0)", "my_task.py", "--seeds", "3", "--tune", "0", "--jobs", "1")


def test_arms_are_listed_and_nothing_runs(typed):
    code, out, _, ran = typed("muon + cautious + ema", "--list")
    assert code == 0
    assert out.splitlines()[0] == "8 stacks; pairs are told apart"
    assert "muon(cautious=True) + ema   the whole stack" in out
    assert "adamw   without muon, cautious, ema" in out
    assert ran == []


def test_a_small_study_ends_with_words_json_a_page_and_is_not_run_twice(typed, tmp_path):
    code, out, err, ran = typed(*WORDS, "--instead", "adamw(lr=0.01)", "--out", "here", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["parts"] == ["sgd", "clip_norm"]
    assert told["races"][0]["verdicts"]["clip_norm"] == "may go", "no gradient is as long as that"
    assert told["confirmation"]["recipe"] == "sgd(lr=0.1)"
    assert told["confirmation"]["targets"]["middle"]["ratio"] == 1
    assert ran
    assert (tmp_path / "here" / "report.html").read_text(encoding="utf-8").count("<table") >= 1
    again = typed(*WORDS, "--instead", "adamw(lr=0.01)", "--out", "here", "--json")
    assert again[3] == []
    assert json.loads(again[1]) == told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("muon",), "1 part of the stack can be left out"),
        (("muon + ema", "--worth", "3"), "--worth 3 must be a share"),
        (("muon + ema", "--sizes", "one"), "--sizes 'one'"),
        (("muon + ema", "nowhere.py"), "nowhere.py"),
    ],
)
def test_bad_input_gets_one_sentence(typed, words, said):
    code, out, err, _ = typed(*words)
    assert code == 2
    assert said in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""
