"""docs/communication.md: its code runs on two workers, and what it says about parts is so."""

import re
from pathlib import Path

import pytest

import sooner
from sooner import part
from sooner.communication import Sim
from sooner.communication._codec import Codec
from sooner.communication._cohort import Cohort
from sooner.communication._doubts import doubts
from sooner.communication._local import Local
from sooner.communication._memory import Memory
from sooner.communication._outer import Outer
from sooner.recipe.attach import attach

PAGE = Path(__file__).parents[2] / "docs" / "communication.md"
TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
KINDS = {"Codecs": Codec, "Memories": Memory, "Outer parts": Outer, "Local parts": Local, "Cohorts": Cohort}


def listed(title):
    """Return the rows of a section's table of parts: name, sentence, rest."""
    return re.findall(r"^\| `(\w+)` \| (.*?) \|(?: (.*?) \|)?$", SECTIONS[title], re.MULTILINE)


def test_the_code_of_the_page_runs_on_two_workers(tmp_path, zygote):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 6
    script = tmp_path / "train.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    environment = {"PYTHONPATH": str(Path(sooner.__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
    words = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        2,
        script,
    ]  # whose processes are its own
    done = zygote.start(words, tmp_path, "torchrun", cwd=tmp_path, **environment)
    assert done.wait() == 0, done.error.read_text()[-3000:]
    printed = done.out.read_text()
    for line in ("bytes sent in 20 steps", r"(?<!, )loss [\d.]+", r"bytes per worker, loss [\d.]+"):
        assert len(re.findall(line, printed)) == 2, printed  # lines of two processes may share one


def test_every_part_is_listed_once_with_its_sentence():
    rows = [row for title in KINDS for row in listed(title)]
    names = [name for name, *_ in rows]
    assert sorted(names) == sorted(name for name, station in part.names().items() if station == "communication")
    for name, sentence, _ in rows:
        assert sentence == part.summary(name)


def test_parts_stand_under_what_they_are():
    for title, kind in KINDS.items():
        assert all(issubclass(part.load(name), kind) for name, *_ in listed(title))


def test_what_codecs_and_memories_cost_is_so():
    for name, _, told in listed("Codecs"):
        if name != "powersgd":  # depends on the shapes
            assert float(told) == pytest.approx(part.load(name)().bytes_per_number, rel=0.01)
    adding_up = re.search(r"Payloads of (.*?) add up", SECTIONS["Codecs"]).group(1)
    assert set(re.findall(r"`(\w+)`", adding_up)) == {n for n, *_ in listed("Codecs") if part.load(n).reducible}
    for name, _, told in listed("Memories"):
        made = part.load(name)
        assert int(told) == len(made.slots) + len(made.shared)
    for name, _, told in listed("Local parts"):
        assert int(told) == part.load(name).passes


def made(recipe):
    """Return the communication parts of a recipe, and its optimizer."""
    slots = sooner.Recipe(recipe).slots
    (optimizer,) = [s for s in slots if s.station == "update"]
    weight = sooner.workload("quadratic").model(0)
    return [s.factory(**s.settings) for s in slots if s.station == "communication"], optimizer.factory(weight)


def test_the_recipes_of_the_page_are_recipes():
    for row in re.findall(r"^\| `(.*?)` \|", SECTIONS["Six contracts"], re.MULTILINE)[6:]:
        parts, optimizer = made(row)
        assert not doubts(parts, [optimizer], 2)
    for text in re.findall(r'--recipes "(.*?)"', TEXT):
        for recipe in text.split(";"):
            assert sooner.explain(recipe)
    for row in re.findall(r"^\|.*\| (`.*) \| (`.*) \|$", SECTIONS["Which one?"], re.MULTILINE):
        for recipe in re.findall(r"`(.*?)`", " ".join(row)):
            assert sooner.explain(f"sgd + {recipe}")


def test_pairs_known_to_be_bad_are_doubted():
    pairs = re.findall(r"^\| `(.*?)` \|", SECTIONS["Pairs known to be bad"], re.MULTILINE)
    assert len(pairs) == 7
    for recipe in pairs:
        parts, optimizer = made(recipe)
        assert doubts(parts, [optimizer], 2), recipe


def test_what_needs_a_simulation_is_refused_elsewhere():
    model = sooner.workload("quadratic").model(0)
    for name in ["full", "sam", "fedspeed"]:
        parts = [part.load("local_sgd")(), part.load(name)()]
        with pytest.raises(sooner.SoonerError, match="--workers"):
            attach(parts, model, [sooner.update.SGD(model)], Sim(2), ())


def test_parts_whose_code_is_not_their_paper_have_it_on_their_card():
    rows = re.findall(r"^\| `(\w+)` \|", SECTIONS["Where published code is not the paper"], re.MULTILINE)
    for name in rows:
        assert re.search(r"code|script|hook|released", " ".join(part.about(name).text)), name
