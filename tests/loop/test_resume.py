"""k steps, save, load in a new process, k steps: bit for bit what 2k steps give. For every part."""

import os
from pathlib import Path

import pytest
import torch
from stopping import Stopped, stop_after

import sooner
from sooner import part, space
from sooner.loop.checkpoint import load_checkpoint, save_checkpoint
from sooner.recipe import Recipe
from sooner.task import from_file

HERE = Path(__file__).parent
TOYS = HERE.parent / "recipe"
UPDATES = [
    name if issubclass(part.load(name), torch.optim.Optimizer) else f"adamw + {name}"
    for name, station in part.names().items()
    if station == "update"
]
SCHEDULES = [
    name
    for name, station in part.names().items()
    if station == "schedule" and issubclass(part.load(name), torch.optim.lr_scheduler.LRScheduler)
]
GRADIENT_RULES = [n for n, station in part.names().items() if station == "gradient" and not part.load(n).needs]


def together(number):
    """Whether an optimizer goes with a schedule: each with two of them in turn, in `make fuzz` with all."""
    return "SOONER_FUZZ" in os.environ or number % len(SCHEDULES) < 2


PLANNED = [one for one in UPDATES if all("learning rate" not in s.owns for s in Recipe(one).slots)]
"""Those that leave the learning rate to a schedule, and evaluation weights to an average."""

RECIPES = [
    *UPDATES,
    *(f"{update} + {s}" for i, update in enumerate(PLANNED) for j, s in enumerate(SCHEDULES) if together(i + j)),
    *(f"{update} + linear + toy_parts.RunningMean" for update in PLANNED),
    *(f"{rule} + {update}" for rule in GRADIENT_RULES for update in ("adamw", "torch.optim.AdamW")),
    "sgd(on='*.bias') + muon(on='rest') + cosine + toy_parts.RunningMean",
    "torch.optim.NAdam + torch.optim.lr_scheduler.OneCycleLR(max_lr=0.1, total_steps=12)",
]
ELSEWHERE = """
import sys, warnings, torch, sooner
from pathlib import Path
from sooner.task import from_file
sys.path.append(sys.argv[3])
warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, about what it calls itself
torch.manual_seed(987)
folder, task = Path(sys.argv[1]), from_file(Path(sys.argv[2]))
results = []
for i, recipe in enumerate((folder / "recipes").read_text().splitlines()):
    run = sooner.train(task, recipe, 3, checkpoint=folder / f"{i}.pt")
    results.append((run.model.state_dict(), run.losses, run.steps, run.values, run.metrics, run.state_bytes))
torch.save(results, folder / "results.pt")
"""


@pytest.fixture(scope="module")
def tiny():
    return from_file(HERE / "tiny_task.py")


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    monkeypatch.syspath_prepend(TOYS)


def train_half(task, recipe, checkpoint):
    """Leave a checkpoint of step 6 of 12; the run itself went on to step 9."""
    with pytest.raises(Stopped):
        sooner.train(task, recipe, 3, checkpoint=checkpoint, save_every=6, progress=stop_after(6))


def test_every_part_resumes_bit_for_bit_in_a_new_process(tiny, tmp_path, fresh):
    straight = []
    for i, recipe in enumerate(RECIPES):
        run = sooner.train(tiny, recipe, 3)
        straight.append((run.model.state_dict(), run.losses, run.steps, run.values, run.metrics, run.state_bytes))
        train_half(tiny, recipe, tmp_path / f"{i}.pt")
    (tmp_path / "recipes").write_text("\n".join(RECIPES))
    fresh(ELSEWHERE, tmp_path, HERE / "tiny_task.py", TOYS)
    resumed = torch.load(tmp_path / "results.pt", weights_only=True)
    for recipe, expected, got in zip(RECIPES, straight, resumed, strict=True):
        weights, losses, *history = expected
        assert all(torch.equal(value, got[0][name]) for name, value in weights.items()), recipe
        assert torch.equal(losses, got[1]), recipe
        assert history == list(got[2:]), recipe
        assert len(set(losses.tolist())) == 12, recipe  # the run did something at every step


def test_a_finished_run_is_read_back_without_a_step(tiny, tmp_path):
    first = sooner.train(tiny, "adamw", 3, checkpoint=tmp_path / "run.pt")
    written = (tmp_path / "run.pt").read_bytes()
    again = sooner.train(tiny, "adamw", 3, checkpoint=str(tmp_path / "run.pt"))
    assert (again.values, again.steps, again.cpu_seconds) == (first.values, first.steps, first.cpu_seconds)
    assert torch.equal(again.losses, first.losses)
    assert (tmp_path / "run.pt").read_bytes() == written
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"something else entirely",
        lambda content: content[:500] + bytes(200) + content[700:],
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(tiny, tmp_path, damage):
    file = tmp_path / "run.pt"
    train_half(tiny, "adamw", file)
    file.write_bytes(damage(file.read_bytes()))
    kept = file.read_bytes()
    with pytest.raises(sooner.SoonerError, match=r"run.pt can't be read \(\w+\); delete it to start again"):
        sooner.train(tiny, "adamw", 3, checkpoint=file)
    assert file.read_bytes() == kept


@pytest.mark.parametrize(
    "content", [torch.zeros(3), {"identity": {}}, {"identity": {}, "step": 1, "history": {}, "random": {}}]
)
def test_a_file_of_torch_that_is_no_checkpoint_is_refused(tiny, tmp_path, content):
    torch.save(content, tmp_path / "run.pt")
    with pytest.raises(sooner.SoonerError, match="can't be read"):
        sooner.train(tiny, "adamw", 3, checkpoint=tmp_path / "run.pt")


def test_a_checkpoint_never_runs_code(tiny, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trap"),)

    torch.save({"identity": Trap()}, tmp_path / "run.pt")
    with pytest.raises(sooner.SoonerError, match="can't be read"):
        sooner.train(tiny, "adamw", 3, checkpoint=tmp_path / "run.pt")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 4}, r"seed 3 there, 4 here"),
        ({"recipe": "adamw(lr=0.5)"}, r"recipe 'adamw' there, 'adamw\(lr=0.5\)' here"),
        ({"steps": 24}, "steps 12 there, 24 here"),
        ({"accumulate": 2}, "accumulate 1 there, 2 here"),
        ({"clip_norm": 1.0}, "clip_norm None there, 1.0 here"),
        ({"evaluate_at": [0, 12]}, "evaluate_at"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused_and_kept(tiny, tmp_path, change, named):
    file = tmp_path / "run.pt"
    train_half(tiny, "adamw", file)
    kept = file.read_bytes()
    arguments = {"recipe": "adamw", "seed": 3, **change}
    with pytest.raises(sooner.SoonerError, match=f"belongs to another run .*{named}.*; give another file"):
        sooner.train(tiny, **arguments, checkpoint=file)
    assert file.read_bytes() == kept


def test_a_changed_task_file_is_another_run(tmp_path):
    source = (HERE / "tiny_task.py").read_text()
    (tmp_path / "changing.py").write_text(source)
    train_half(from_file(tmp_path / "changing.py"), "adamw", tmp_path / "run.pt")
    (tmp_path / "changing.py").write_text(source.replace("0.3", "0.4"))
    with pytest.raises(sooner.SoonerError, match="belongs to another run"):
        sooner.train(from_file(tmp_path / "changing.py"), "adamw", 3, checkpoint=tmp_path / "run.pt")


def test_a_model_of_other_shapes_is_refused(tiny, tmp_path):
    training = Recipe("adamw").build(torch.nn.Linear(2, 2), 2)
    run = sooner.Run(training.model, [], [], [], torch.zeros(2), None, 0.0, 0)
    save_checkpoint(tmp_path / "run.pt", {}, training, run, 1)
    other = Recipe("adamw").build(torch.nn.Linear(3, 2), 2)
    with pytest.raises(sooner.SoonerError, match="holds another model"):
        load_checkpoint(tmp_path / "run.pt", {}, other, run)
    assert load_checkpoint(tmp_path / "run.pt", {}, training, run) == 1


def test_a_checkpoint_of_a_wrapped_model_goes_into_the_plain_one_and_back(tmp_path):
    def made(wrap):
        return Recipe("sgd + ema").build(wrap(torch.nn.Sequential(torch.nn.Linear(2, 2))), 2)

    wraps = (lambda net: net, torch.nn.DataParallel, lambda net: torch.compile(net, backend="eager"))
    for saved in wraps:
        for loaded in wraps:
            training, other = made(saved), made(loaded)
            training.step()
            run = sooner.Run(training.model, [], [], [], torch.zeros(2), None, 0.0, 0)
            save_checkpoint(tmp_path / "run.pt", {}, training, run, 1)
            assert load_checkpoint(tmp_path / "run.pt", {}, other, run) == 1
            pairs = zip(training.model.parameters(), other.model.parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tiny, tmp_path, monkeypatch):
    file = tmp_path / "run.pt"
    train_half(tiny, "adamw", file)
    kept = file.read_bytes()
    for failure in (OSError(28, "No space left on device"), RuntimeError("enforce fail at inline_container.cc")):

        def save(content, to, failure=failure):
            to.write(b"half a checkpoint")
            raise failure

        with monkeypatch.context() as patched:
            patched.setattr(torch, "save", save)
            with pytest.raises(
                sooner.SoonerError, match=r"run.pt can't be written: .*; the previous one, if any, is unto"
            ):
                sooner.train(tiny, "adamw", 3, checkpoint=file)
        assert file.read_bytes() == kept
        assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]

    def interrupted(number):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sooner.train(tiny, "adamw", 3, checkpoint=file)
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]
    assert sooner.train(tiny, "adamw", 3, checkpoint=file).values == sooner.train(tiny, "adamw", 3).values


def test_a_folder_that_does_not_exist_is_named_before_the_first_step(tiny, tmp_path):
    taken = []
    with pytest.raises(sooner.SoonerError, match=r"run.pt has no place: the folder .*nowhere does not exist; make it"):
        sooner.train(tiny, "adamw", checkpoint=tmp_path / "nowhere" / "run.pt", progress=lambda *at: taken.append(at))
    assert taken == []


def test_settings_from_numpy_do_not_spoil_the_checkpoint(tiny, tmp_path):
    import numpy as np

    recipe = Recipe(sooner.slot("adamw", lr=np.float64(0.01)))
    assert isinstance(recipe.slots[0].settings["lr"], float)
    train_half(tiny, recipe, tmp_path / "run.pt")
    assert sooner.train(tiny, recipe, 3, checkpoint=tmp_path / "run.pt").steps[-1] == 12
    assert space.Log(1e-3, 1.0) == Recipe("adamw(lr=log(1e-3, 1.0))").space["lr"]
