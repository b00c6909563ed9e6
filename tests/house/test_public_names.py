"""Everything that the package promises is there after ``import sooner`` alone."""

import inspect
import subprocess
import sys

import pytest
import torch
from torch import nn

import sooner
from sooner import part
from sooner.error import SoonerError
from sooner.update._optimizer import ChainOptimizer

PROGRAM = """
import sooner
for name in sooner.__all__:
    getattr(sooner, name)
for station in (
    *(sooner.update, sooner.gradient, sooner.loss, sooner.schedule, sooner.communication),
    *(sooner.diffusion, sooner.rl, sooner.decoding),
):
    for name in station.__all__:
        getattr(station, name)
"""


def test_every_public_name_loads():
    assert subprocess.run([sys.executable, "-c", PROGRAM], check=False).returncode == 0
    assert {"update", "gradient", "loss", "schedule", "communication"} <= set(sooner.__all__)


def test_dir_shows_what_is_loaded_on_first_use():
    program = "import sooner; print(*dir(sooner))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert set(sooner.__all__) <= set(told)
    assert len(told) == len(set(told))


def test_neither_the_package_nor_its_help_imports_torch():
    program = "import sys, sooner; dir(sooner); import sooner.cli; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "False\n"


def test_reading_a_recipe_does_not_import_the_compiler():
    recipe = "clip_norm + adamw + ema + lazy_saver"
    program = f"import sys, sooner; sooner.Recipe('{recipe}'); print('torch._dynamo' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "False\n"


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))


OPTIMIZERS = [name for name, station in part.names().items() if station == "update"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_made_by_its_name_as_by_its_class(name):
    method = part.load(name)
    if not issubclass(method, torch.optim.Optimizer):
        with pytest.raises(SoonerError, match=f"{name} goes around other optimizers; make one of them, and then"):
            sooner.create_optimizer(net(), name)
        return
    lr = {"lr": 0.25} if "lr" in inspect.signature(method).parameters else {}
    model = net()
    made, direct = sooner.create_optimizer(model, name, **lr), method(model, **lr)
    assert type(made) is method
    for ours, theirs in zip(made.param_groups, direct.param_groups, strict=True):
        assert [id(p) for p in ours["params"]] == [id(p) for p in theirs["params"]]
        assert {k: v for k, v in ours.items() if k != "params"} == {k: v for k, v in theirs.items() if k != "params"}


def test_an_optimizer_takes_parameters_groups_options_and_classes_of_torch():
    model = net()
    few = sooner.create_optimizer([{"params": [model[0].weight], "lr": 0.5}], "adamw", maximize=True)
    assert isinstance(few, ChainOptimizer)
    assert [(g["lr"], g["maximize"], len(g["params"])) for g in few.param_groups] == [(0.5, True, 1)]
    model[0].weight.requires_grad_(False)
    theirs = sooner.create_optimizer(model, "torch.optim.NAdam", lr=0.1, foreach=False)
    assert isinstance(theirs, torch.optim.NAdam)
    assert len(theirs.param_groups[0]["params"]) == 5
    assert theirs.defaults["foreach"] is False


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        (
            "adamv",
            {},
            "there is no optimizer named 'adamv' (did you mean 'adamw'?); create_optimizer takes adabelief, ",
        ),
        ("cosine", {}, "'cosine' is a part of the station schedule"),
        ("muon(lr=0.02)", {}, "there is no optimizer named 'muon(lr=0.02)'"),
        ("adamw", {"learning_rate": 1.0}, "adamw has no hyper-parameter 'learning_rate'"),
        ("adamw", {"lr": -1.0}, "adamw: lr=-1.0 is not a number in [0, inf)"),
        ("adamw", {"lr": sooner.space.Log(1e-4, 1e-2)}, "adamw: lr is a range, which only a race tunes; give a value"),
        ("adamw", {"on": "rest"}, "on='rest' belongs to recipes; give the parameters instead of the model"),
        ("torch.optim.Adaam", {}, "torch.optim has no class 'Adaam'"),
        ("no_such_package.Adam", {}, "neither a part of sooner nor an importable class"),
    ],
)
def test_what_makes_no_optimizer_gets_one_sentence(name, settings, said):
    with pytest.raises(SoonerError) as told:
        sooner.create_optimizer(net(), name, **settings)
    assert said in str(told.value)
