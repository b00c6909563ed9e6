"""Bad input ends with exit code 2 and one sentence that names the value and the remedy."""

import errno
import os
import shutil
import subprocess

import pytest
from small_races import LINE

from sooner.race import journal
from sooner.race.journal import Journal, read


@pytest.fixture
def refused(cli):
    """Runs the command line, which must refuse in one line; returns that line."""

    def run(*words):
        told = cli(*words)
        assert told.code == 2
        assert told.out == ""
        last = told.err.strip().splitlines()[-1]
        assert "Traceback" not in told.err
        assert last.startswith("sooner: ")
        return last.removeprefix("sooner: ")

    return run


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["quadratc"], "unknown workload 'quadratc' (did you mean 'quadratic'?)"),
        ([""], "unknown workload ''"),
        (["ünknøwn"], "unknown workload 'ünknøwn'"),
        (["."], "unknown workload '.'"),
        (["no_such.py"], "there is no file no_such.py"),
        (["/"], "there is no file /"),
        (["quadratic", "--recipes", "adamw; muno"], "column 1: there is no part named 'muno' (did you mean 'muon'?)"),
        (["quadratic", "--recipes", "sgd; adamw(lr=) + cosine"], "can't be read at column 10 (') + cosine')"),
        (["quadratic", "--recipes", "adamw ! sgd"], "can't be read at column 7"),
        (["quadratic", "--recipes", "adamw(lr=log(1, 0))"], "a logarithmic range needs low < high"),
        (["quadratic", "--recipes", "adamw(rate=1)"], "adamw has no hyper-parameter 'rate'"),
        (["quadratic", "--recipes", "adamw(lr=-1)"], "adamw: lr=-1 is not a number in [0, inf)"),
        (["quadratic", "--recipes", "adamw(lr='fast')"], "adamw: lr='fast' is not a number"),
        (["quadratic", "--recipes", "adamw(0.1)"], "settings are written name=value"),
        (["quadratic", "--recipes", "cosine"], "no part that moves the weights"),
        (["quadratic", "--recipes", "adamw + sgd"], "has two optimizers, adamw and sgd"),
        (["quadratic", "--recipes", "adamw + cosine + linear"], "cosine and linear both own the learning rate"),
        (["quadratic", "--recipes", "torch.optim.NAdm"], "torch.optim has no class 'NAdm' (did you mean 'NAdam'?)"),
        (["quadratic", "--recipes", "adamw + adadagrad"], "adadagrad needs a variable batch size"),
        (["quadratic", "--recipes", "torch.nn.Linear"], "'torch.nn.Linear' is not a part"),
        (["quadratic", "--recipes", "nowhere.Optimizer"], "'nowhere.Optimizer' is neither a part of sooner nor"),
        (["quadratic", "--recipes", "adamw; muon"], "muon finds no hidden weight matrix"),
        (["quadratic", "--recipes", "adamw; adamw"], "recipe 'adamw' is listed twice"),
        (["quadratic", "--recipes", " ; "], "a race needs at least one recipe"),
        (["quadratic", "--recipes", "(" * 3000], "can't be read at column"),
        (["quadratic", "--seeds", "1"], "racing seeds: 1 can't tell luck from merit; the exact test needs 6 or more"),
        (["quadratic", "--seeds", "5"], "racing seeds: 5 can't tell luck from merit; the exact test needs 6 or more"),
        (["quadratic", "--seeds", "-3"], "racing seeds: -3 can't tell luck from merit"),
        (["quadratic", "--seeds", str(10**30)], "are too many"),
        (["quadratic", "--looks", "8;16"], "--looks '8;16' is not a list of seed counts; write it like 8,16,32"),
        (["quadratic", "--looks", "16,8"], "in ascending order"),
        (["quadratic", "--looks", ""], "in ascending order"),
        (["quadratic", "--looks", "4,8"], "racing seeds: 4 can't tell luck from merit"),
        (["quadratic", "--looks", "8", "--seeds", "8"], "--seeds 8 and --looks 8 say in two ways when to judge"),
        (["quadratic", "--looks", "any"], "or --until 64 to look after every seed"),
        (["quadratic", "--until", "5"], "--until 5: a race that is judged after every seed needs room to decide"),
        (["quadratic", "--until", "0"], "choose a number from 8 to 200"),
        (["quadratic", "--until", "500"], "choose a number from 8 to 200"),
        (["quadratic", "--until", "64", "--seeds", "8"], "--seeds 8 and --until 64 say in two ways when to judge"),
        (["quadratic", "--power", "90"], "--power 90.0 is the chance of seeing an effect; choose one from 0.5 to 0.99"),
        (["quadratic", "--power", "nan"], "choose one from 0.5 to 0.99"),
        (["quadratic", "--effect", "0.9"], "--effect 0.9 is what --power asks about; give both"),
        (["quadratic", "--power", "0.9", "--effect", "1.2"], "--effect 1.2 is a ratio of steps to the target"),
        (["quadratic", "--regime", "forever"], "regime 'forever' is unknown; choose auto, anytime or budgeted"),
        (["quadratic", "--regime", "anytime", "--recipes", "adamw + cosine"], "race it with --regime budgeted"),
        (["quadratic", "--steps", "0"], "a budget of 0 steps is too short"),
        (["quadratic", "--steps", "-40"], "a budget of -40 steps is too short"),
        (["quadratic", "--steps", str(10**30)], "more than any race ends in"),
        (["quadratic", "--tune", "-1"], "tune is -1"),
        (["quadratic", "--tune", "1000000000"], "choose a number from 0 to 10,000"),
        (["quadratic", "--jobs", "0"], "jobs is 0"),
        (["quadratic", "--series", "-1"], "series is -1"),
    ],
)
def test_a_race_that_cannot_be(refused, words, sentence):
    assert sentence in refused("race", *words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["parts", "muno"], "there is no part named 'muno' (did you mean 'muon'?)"),
        (["parts", "../update/muon"], "there is no part named '../update/muon'"),
        (["workloads", "charm"], "unknown workload 'charm' (did you mean 'charlm'?)"),
        (["explain", ""], "an empty recipe trains nothing"),
        (["explain", "adamw; sgd"], "can't be read at column 6"),
        (["show", "nowhere"], "no race in nowhere: name the folder that was given to `sooner race` as --out"),
        (["show", ""], "no race in ."),
        (["show", "/dev/null"], "no race in /dev/null"),
    ],
)
def test_other_commands(refused, words, sentence):
    assert sentence in refused(*words)


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        [""],
        ["race", "--bogus"],
        ["race", "quadratic", "two"],
        ["race", "--seeds"],
        ["race", "--seeds", "eight"],
        ["race", "--seeds", "8.5"],
        ["race", "--steps", "1e3"],
        ["show"],
    ],
)
def test_usage_errors_end_with_2_as_well(cli, words):
    told = cli(*words)
    assert told.code == 2
    assert "Error" in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_a_fraction_is_not_rounded_to_a_whole_number(cli):
    assert "'8.5' is not a whole number" in cli("race", "--seeds", "8.5").err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = (", "does not import: line 1: SyntaxError"),
        ("\nimport nowhere", "does not import: line 2: ModuleNotFoundError: No module named 'nowhere'"),
        ("raise SystemExit(3)", "does not import: line 1: SystemExit"),
        ("x = 1", "defines no function model"),
        (LINE.replace("def loss", "def los"), "defines no function loss (did you mean 'los'?)"),
        (LINE.replace("steps = 40", ""), "sets no budget; add a line such as steps = 400"),
        (LINE.replace("steps = 40", "steps = 'many'"), "steps = 'many' must be a whole number"),
        (LINE.replace("    torch.manual_seed(seed)\n", ""), "begin it with torch.manual_seed(seed)"),
        (LINE.replace(").mean()", ").mean() * float('nan')"), "loss(model, batch) is nan at step 0"),
        (LINE.replace(").mean()", ")"), "loss(model, batch) returned shape (16, 1)"),
        (LINE + "metric = 'accuracy'", "metric 'accuracy' is not among what metrics(model, batch) returns"),
        (LINE.replace("return [(", "return len([(").replace("(60)]", "(60)])"), "can't be indexed by step"),
        (LINE.replace("range(60)", "range(30)"), "by taking the index modulo its length"),
        (LINE.replace("import torch", "import torch\n1 / 0"), "does not import: line 4: ZeroDivisionError"),
    ],
)
def test_a_file_that_is_no_task(refused, tmp_path, text, sentence):
    (tmp_path / "my_task.py").write_text(text)
    found = refused("race", "my_task.py", "--recipes", "adamw; sgd")
    assert sentence in found
    assert "my_task" in found


def test_files_that_are_not_text(refused, tmp_path):
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.py").mkdir()
    assert "bytes.py does not import" in refused("race", "bytes.py")
    assert "there is no file folder.py" in refused("race", "folder.py")


SMALL = ["race", "quadratic", "--recipes", "sgd", "--steps", "40", "--tune", "0", "--seeds", "6", "--no-cost"]


def test_folders_that_cannot_be_used(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "cannot write in file" in refused(*SMALL, "--out", "file")
    assert "cannot write in file/below" in refused(*SMALL, "--out", "file/below")
    assert "cannot write in /proc/nowhere" in refused(*SMALL, "--out", "/proc/nowhere")
    assert "cannot write in xxx" in refused(*SMALL, "--out", "x" * 300)
    assert "is not a race folder and not empty" in refused(*SMALL, "--out", ".")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_of_another_race(refused, finished):
    sentence = refused(*SMALL, "--out", finished.folder)
    assert "holds another race, which differs in recipes[0]:" in sentence
    assert f"choose another --out for this one, such as {finished.folder}-2" in sentence


def test_a_folder_in_use(refused, tmp_path):
    with Journal.open(tmp_path / "race", {"made": "here"}, {}):
        sentence = refused(*SMALL, "--out", "race")
    assert sentence.startswith(f"another race (process {os.getpid()}) is running in race")


def test_a_damaged_journal(refused, finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "race")
    path = tmp_path / "race" / "journal.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b'"values":[', b'"values":[0.0,', 1)
    path.write_bytes(b"\n".join(lines))
    for words in (["show", "race"], [*SMALL, "--out", "race"]):
        assert "line 4 is damaged (its checksum is wrong)" in refused(*words)


def test_a_race_without_its_end(refused, cli, finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "race")
    path = tmp_path / "race" / "journal.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(lines[:10]) + b"\n")
    sentence = refused("show", "race")
    assert "the race in race is not finished (cells done: 8); go on with: sooner " in sentence
    end = next(i for i, line in enumerate(lines) if line.startswith(b'{"kind":"result"'))
    path.write_bytes(b"\n".join(lines[: end + 1])[:-40])  # cut off in the line that holds the result
    assert "not finished" in refused("show", "race")


@pytest.fixture
def tiny_disk(tmp_path, monkeypatch):
    """A folder on a disk of 24 KiB, and a function that makes room; without the right to mount one, it is pretended."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    if subprocess.run([*mount, "size=24k", "tmpfs", folder], capture_output=True).returncode == 0:
        yield folder, lambda: subprocess.run([*mount, "remount,size=16m", "tmpfs", folder], check=True)
        subprocess.run(["umount", folder], check=True)
    else:
        room, write = [24 << 10], os.write

        def writes_while_there_is_room(file, content):
            room[0] -= len(content)
            if room[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(file, content)

        monkeypatch.setattr(journal.os, "write", writes_while_there_is_room)
        yield folder, lambda: room.__setitem__(0, 16 << 20)


def test_a_full_disk_loses_nothing(refused, cli, tiny_disk):
    folder, make_room = tiny_disk
    words = [*SMALL, "--jobs", "1", "--out", str(folder / "race")]
    words[words.index("--seeds") + 1] = "12"
    sentence = refused(*words)
    assert sentence.startswith(f"no space left in {folder / 'race'}: free some and run the same command again; ")
    kept = [record.key for record in read(folder / "race").all("cell")]
    assert f"{len(kept)} finished cells are kept" in sentence
    assert len(kept) > 2
    make_room()
    assert cli(*words).code == 0
    assert [record.key for record in read(folder / "race").all("cell")][: len(kept)] == kept
