"""The examples of docs/integrations: by hand and by an integration they do the same, in as many lines as it says."""

import difflib
import importlib
import inspect
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch

import sooner

DOCS = Path(__file__).parents[2] / "docs" / "integrations"
EXAMPLES = {
    "hugging_face": ("transformers", "checkpoint-8", "hugging-face.md"),
    "lightning_module": ("lightning", "epoch=0.ckpt", "lightning.md"),
    "accelerate_loop": ("accelerate", "0", "accelerate.md"),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(does not have many workers|smaller than the logging interval)"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning"),
]


def example(name, monkeypatch):
    pytest.importorskip(EXAMPLES[name][0])
    monkeypatch.syspath_prepend(DOCS / "examples")
    for module in (name, "data"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return importlib.import_module(name)


def outcome(name, result):
    """What an evaluation has shown, and where there is a trainer, the weights too."""
    if name == "accelerate_loop":
        return result, None
    if name == "hugging_face":
        losses = [entry["eval_loss"] for entry in result.state.log_history if "eval_loss" in entry]
        model = result.model
    else:
        losses, model = [float(result.callback_metrics["loss"])], result.lightning_module
    return losses, torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", EXAMPLES)
def test_by_hand_and_by_an_integration_they_train_the_same_also_from_the_middle(name, tmp_path, monkeypatch):
    module = example(name, monkeypatch)
    runs = {}
    for way in (module.before, module.now):
        folder = tmp_path / way.__name__
        whole = outcome(name, way(str(folder)))
        runs[way] = whole, outcome(name, way(str(folder), str(folder / EXAMPLES[name][1])))
    (first, again), (ours, ours_again) = runs.values()
    assert first[0] == ours[0]
    assert first[0][-1] == again[0][-1] == ours_again[0][-1]
    if first[1] is not None:
        assert all(torch.equal(first[1], one[1]) for one in (ours, again, ours_again))
    module.plain(str(tmp_path / "plain"))


def glue(module, way):
    """Lines of a way to train by a recipe that the library's own way to train does not have."""
    plain, other = (inspect.getsource(getattr(module, name)).splitlines() for name in ("plain", way))
    stripped = [[line.strip() for line in source[2:]] for source in (plain, other)]
    return sum(line.startswith("+ ") and bool(line[2:]) for line in difflib.ndiff(*stripped))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_pages_show_the_examples_and_count_their_lines(name, monkeypatch):
    module = example(name, monkeypatch)
    assert inspect.getsource(module.now) in (DOCS / EXAMPLES[name][2]).read_text(encoding="utf-8")
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    before, now = re.search(rf"\[[^\]]*\]\([^)]*\) \| `{name}.py` \| (\d+) \| (\d+) \|", text).groups()
    assert (int(before), int(now)) == (glue(module, "before"), glue(module, "now"))


def test_what_is_shown_of_torchtitan_and_diffusers_fits_what_they_hand_over():
    accelerate = pytest.importorskip("accelerate")
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "others.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    place = {
        "job_config": SimpleNamespace(training=SimpleNamespace(steps=5)),
        "args": SimpleNamespace(max_train_steps=5),
        "accelerator": accelerate.Accelerator(cpu=True),
        "unet": tiny.net(),
        "train_dataloader": tiny.loader(),
    }
    for block in blocks:
        exec(block, place)
    built = place["build_recipe"](tiny.net(), place["job_config"])
    assert len(built.optimizers) == len(place["training"].optimizers) == 1


@pytest.mark.parametrize(
    ("name", "libraries"),
    [
        ("hf", ["transformers"]),
        ("accelerate", ["accelerate", "accelerate.utils"]),
        ("lightning", ["lightning", "lightning.pytorch", "pytorch_lightning"]),
    ],
)
def test_a_library_that_is_missing_is_named(name, libraries, monkeypatch):
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"sooner.integrations.{name}", raising=False)
    with pytest.raises(sooner.SoonerError, match=rf"which is not installed; pip install sooner\[{name}\]"):
        importlib.import_module(f"sooner.integrations.{name}")
