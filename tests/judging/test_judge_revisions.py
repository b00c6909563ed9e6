"""Judgements of git revisions: which files run, what is refused, and that the checkout stays as it was."""

import subprocess
import sys

import pytest

import sooner
from sooner.error import SoonerError

PYTHON = [sys.executable, "-I", "-S"]
TRAIN = """
import pathlib, random, sys
seed = sys.argv[1]
checkpoint = pathlib.Path("checkpoint")
assert not checkpoint.exists(), "another run's checkpoint"
checkpoint.write_text(seed)
gain = float(pathlib.Path("gain.txt").read_text())
noise = random.Random(f"{seed} {gain}").gauss(0, 0.004)
print("val_loss", (3 + random.Random(seed).gauss(0, 0.2)) * (1 - gain) * (1 + noise))
"""


def git(folder, *words):
    told = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """main, and a branch that is 3 % better, checked out."""
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "gain.txt").write_text("0")
    (tmp_path / ".gitignore").write_text("data\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "checkout", "-qb", "better")
    (tmp_path / "gain.txt").write_text("0.03")
    git(tmp_path, "commit", "-qam", "two")
    return tmp_path


COMMAND = [*PYTHON, "train.py", "{seed}"]


def test_each_revision_runs_its_own_files_in_a_clean_folder(repository):
    found = sooner.judge(COMMAND, baseline="main", candidate="HEAD")
    assert found.better
    assert found.candidate.startswith("HEAD (")
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "worktree", "list").count("\n") == 1
    assert git(repository, "branch", "--format", "%(refname:short)").split() == ["better", "main"]
    assert sooner.judge(COMMAND, baseline="main", candidate="better").seeds == found.seeds  # the same files by any name
    assert sooner.judge(COMMAND, baseline="HEAD", candidate="main").outcome == "worse"


def test_what_a_killed_judgement_left_is_removed(repository):
    left = repository / ".sooner" / "worktrees" / "0123456789abcdef-baseline"
    git(repository, "worktree", "add", "--detach", str(left), "main")
    assert sooner.judge(COMMAND, baseline="main", candidate="HEAD").better
    assert not left.exists()
    assert git(repository, "worktree", "list").count("\n") == 1


def test_changes_beside_the_candidate_are_not_left_out_silently(repository):
    (repository / "gain.txt").write_text("-0.05")
    with pytest.raises(SoonerError, match=r"gain.txt in .* differ from the candidate HEAD.*--candidate \."):
        sooner.judge(COMMAND, baseline="main", candidate="HEAD")
    (repository / "new.txt").write_text("")
    with pytest.raises(SoonerError, match="and 1 more"):
        sooner.judge(COMMAND, baseline="main", candidate="better")
    staged = git(repository, "diff", "--cached")
    found = sooner.judge(COMMAND, candidate=".")
    assert (found.outcome, found.candidate) == ("worse", "the working tree")
    assert git(repository, "diff", "--cached") == staged
    assert (repository / "gain.txt").read_text() == "-0.05"


def test_new_files_are_part_of_the_working_tree(repository):
    (repository / "train.py").write_text(TRAIN + "\nimport pathlib; assert pathlib.Path('module.py').exists()\n")
    (repository / "module.py").write_text("")
    assert sooner.judge(COMMAND, baseline="main", candidate=".").better


def test_the_same_files_are_no_candidate(repository):
    with pytest.raises(SoonerError, match="same files and the same command"):
        sooner.judge(COMMAND, baseline="HEAD", candidate="better")


def test_a_candidate_that_changes_nothing_that_runs(repository):
    (repository / "notes.md").write_text("a comment")
    found = sooner.judge(COMMAND, candidate=".")
    assert found.outcome == "no difference"
    assert "very same numbers" in found.sentence
    assert any("check that the program runs the code of the folder" in note for note in found.notes)


def test_revisions_that_are_not_there(repository):
    for name in ("mian", "--force", "HEAD~9"):
        with pytest.raises(SoonerError, match="is no revision"):
            sooner.judge(COMMAND, baseline=name, candidate="HEAD")
    with pytest.raises(SoonerError, match="has no candidate"):
        sooner.judge(COMMAND, baseline="main")
    with pytest.raises(SoonerError, match="nothing to run"):
        sooner.judge(baseline="main", candidate="HEAD")


def test_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(SoonerError, match="compare two commands with"):
        sooner.judge(COMMAND, baseline="main", candidate="HEAD")


def test_data_that_git_does_not_keep_is_shared(repository):
    (repository / "data").mkdir()
    (repository / "data" / "corpus.txt").write_text("text")
    reading = [*PYTHON, "-c", "import sys; open('data/corpus.txt'); exec(open('train.py').read())", "{seed}"]
    with pytest.raises(SoonerError, match="exit code 1"):
        sooner.judge(reading, baseline="main", candidate="HEAD")
    assert sooner.judge(reading, baseline="main", candidate="HEAD", share=["data"]).better
    assert (repository / "data" / "corpus.txt").exists()
    for name, message in (("nothing", "no such file"), ("train.py", "git keeps it"), ("../x", "no such file")):
        with pytest.raises(SoonerError, match=message):
            sooner.judge(reading, baseline="main", candidate="HEAD", share=[name])


def test_of_a_folder_that_git_keeps_in_part_the_rest_is_shared(repository):
    (repository / "data").mkdir()
    (repository / "data" / "prepare.py").write_text("")
    (repository / ".gitignore").write_text("*.bin\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "data")
    (repository / "data" / "train.bin").write_text("1")
    with pytest.raises(SoonerError, match=r"share what it holds besides, such as --share data/train\.bin"):
        sooner.judge(COMMAND, baseline="main", candidate="HEAD", share=["data"])


def test_from_a_folder_below(repository, monkeypatch):
    (repository / "below").mkdir()
    (repository / "below" / "a.txt").write_text("a")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "three")
    monkeypatch.chdir(repository / "below")
    (repository / "gain.txt").write_text("0.06")
    reading = [*PYTHON, "-c", "import os, sys; open('a.txt'); os.chdir('..'); exec(open('train.py').read())", "{seed}"]
    assert sooner.judge(reading, candidate=".").better
    assert (repository / ".sooner" / "judged.jsonl").exists()
