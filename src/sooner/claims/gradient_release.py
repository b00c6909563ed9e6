"""Steps inside backward leave at most a layer's gradients in memory, and the weights of ordinary training."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from sooner.claims._claim import Claim, Criterion, Measurement, Regime
from sooner.memory.gradient_release import GradientRelease
from sooner.update.adamw import AdamW
from sooner.update.muon import Muon

METHODS = {"adamw": AdamW, "muon": Muon}


def trained(method: str, arm: str, layers: int, width: int, seed: int, steps: int = 3) -> tuple[nn.Module, int]:
    """Return a model of equal layers after some steps, and the most bytes of gradients that were there at once."""
    torch.manual_seed(seed)
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)), nn.Linear(width, 1))
    optimizer = METHODS[method](model, lr=1e-2)
    there: dict[Tensor, tuple[StorageWeakRef, int]] = {}
    most = 0

    def found(p: Tensor) -> None:
        nonlocal most
        assert p.grad is not None
        memory = p.grad.untyped_storage()
        there[p] = StorageWeakRef(memory), memory.nbytes()  # type: ignore[no-untyped-call]
        alive = [size for one, size in there.values() if not one.expired()]  # type: ignore[no-untyped-call]
        most = max(most, sum(alive))

    for p in model.parameters():  # in front of the release's own hooks
        p.register_post_accumulate_grad_hook(found)  # type: ignore[no-untyped-call]
    if arm == "release":
        GradientRelease(optimizer)
    for _ in range(steps):
        torch.autograd.backward(model(torch.randn(8, width)).square().mean())
        optimizer.step()
        optimizer.zero_grad()
    return model, most


def gradients(method: str, arm: str, layers: int, width: int, seed: int) -> dict[str, Any]:
    """Return the most bytes of gradients at once, over those of the weights, and how many weights differ."""
    model, most = trained(method, arm, layers, width, seed)
    plain, _ = trained(method, "plain", layers, width, seed)
    pairs = list(zip(model.parameters(), plain.parameters(), strict=True))
    return {
        "share": most / sum(p.numel() * p.element_size() for p, _ in pairs),
        "differ": sum(int((p != q).sum()) for p, q in pairs),
    }


CLAIM = Claim(
    part="gradient_release",
    paper="",
    headline="Fine-tuning of all parameters with 10.8 % of the usual memory, without gradients and optimizer state.",
    source="Lv et al., 2023, arXiv 2306.09782, abstract",
    experiment=(
        "Stacks of 12 equal layers are trained for three steps by AdamW and by Muon, with gradients released and "
        "without: the most bytes of gradients that are in memory together, and whether the weights are the same."
    ),
    baseline="The same steps with all gradients in memory.",
    experiments={
        "gradients": Measurement(
            gradients,
            [
                {"method": method, "arm": arm, "layers": 12, "width": 256, "seed": seed}
                for method in METHODS
                for arm in ("release", "plain")
                for seed in range(3)
            ],
            [
                {"method": method, "arm": arm, "layers": 4, "width": 16, "seed": 0}
                for method in METHODS
                for arm in ("release", "plain")
            ],
        ),
    },
    criteria=[
        Criterion(
            "at most 0.1x of the bytes of all gradients are there at once, of 12 layers",
            lambda f: f.largest("gradients", "share", arm="release"),
            at_most=0.1,
            paper="one parameter's",
        ),
        Criterion(
            "weights that differ after three steps",
            lambda f: f.largest("gradients", "differ", arm="release"),
            at_most=0,
        ),
        Criterion(
            "the count sees gradients: without release at least 0.99x of them are there at once",
            lambda f: f.smallest("gradients", "share", arm="plain"),
            at_least=0.99,
            control=True,
            positive=True,
        ),
    ],
    regime=Regime(
        "fine-tuning of language models of 7 to 65 billion parameters in half precision",
        "AdamW and Muon, where the paper has SGD",
        "constant, from the first step on",
        "does not matter",
        "what is in memory at once, which size does not change; the optimizer keeps its state here",
    ),
    minutes=1,
    limits="Gradients alone are counted: activations and the state of the optimizer are what they were.",
)
