"""A step kept inside the radius of softmax's ghosts survives learning rates a thousand times too large."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._regimes import images_regime
from sooner.update.softmax_ghosts import SoftmaxGhosts

ARMS = ("plain", "guard", "clip norm 0.1", "clip norm 1", "clip value 0.01", "clip value 0.1")
RATE = 1e-2


def train(arm: str, seed: int, steps: int, spike: float) -> dict[str, Any]:
    """Train on digits with Adam, its rate multiplied by `spike` from a quarter of the steps on; return test results."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images / 16).float(), torch.from_numpy(labels)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=generator)
    test, kept = order[:360], order[360:]
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    guard = SoftmaxGhosts(model) if arm == "guard" else None
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (spike if step >= steps // 4 else 1.0)
        batch = kept[torch.randint(0, len(kept), (128,), generator=generator)]

        def closure(batch: Tensor = batch) -> Tensor:
            return F.cross_entropy(model(x[batch]), y[batch])

        optimizer.zero_grad()
        torch.autograd.backward(closure())
        _clip(arm, model)
        if guard is None:
            optimizer.step()
        else:
            with guard.around_step(closure):
                optimizer.step()
    with torch.no_grad():
        logits = model(x[test])
        loss = float(F.cross_entropy(logits, y[test]))
        return {
            "accuracy": float((logits.argmax(1) == y[test]).float().mean()),
            "loss": loss if np.isfinite(loss) else None,
        }


def _clip(arm: str, model: nn.Module) -> None:
    kind, _, limit = arm.rpartition(" ")
    if kind == "clip norm":
        nn.utils.clip_grad_norm_(model.parameters(), float(limit))
    elif kind == "clip value":
        nn.utils.clip_grad_value_(model.parameters(), float(limit))


SPIKED = [{"arm": arm, "seed": seed, "steps": 200, "spike": 1000.0} for seed in range(6) for arm in ARMS]
CALM = [{"arm": arm, "seed": seed, "steps": 200, "spike": 1.0} for seed in range(6) for arm in ("plain", "guard")]

CLAIM = Claim(
    part="softmax_ghosts",
    paper="softmax-ghosts",
    headline="The controller survives learning-rate spikes up to 10,000x where gradient clipping collapses.",
    source="'Ghosts of Softmax', 2026, arXiv 2603.13552, abstract",
    experiment=(
        "A two-layer network learns digits with Adam; after a quarter of 200 steps the learning rate becomes a "
        "thousand times too large, to the end. Test accuracy with the guard, without, and with clipping by norm and "
        "by value at two limits each; and the test loss without any spike."
    ),
    baseline="Adam alone, and Adam behind the two usual clippings, at their better limit.",
    experiments={
        "spike": Measurement(train, SPIKED, [{**case, "steps": 8} for case in SPIKED[:6]]),
        "calm": Measurement(train, CALM, [{**case, "steps": 8} for case in CALM[:2]]),
    },
    criteria=[
        Criterion(
            "with the guard at least 0.9 accuracy in every run",
            lambda f: f.smallest("spike", "accuracy", arm="guard"),
            at_least=0.9,
        ),
        Criterion(
            "without it at most 0.5 on average",
            lambda f: f.mean("spike", "accuracy", arm="plain"),
            at_most=0.5,
        ),
        *(
            Criterion(
                f"with {arm} at most 0.5 on average",
                lambda f, arm=arm: f.mean("spike", "accuracy", arm=arm),  # type: ignore[misc]
                at_most=0.5,
            )
            for arm in ARMS[2:]
        ),
        Criterion(
            "without a spike the guard costs nothing: test loss at most 1.05x of Adam's",
            lambda f: f.paired_ratio("calm", "loss", {"arm": "guard"}, {"arm": "plain"}),
            at_most=1.05,
            control=True,
        ),
    ],
    regime=images_regime(
        "the same digits and network, Adam, spikes of up to 10,000x of the rate",
        "the authors' own set-up",
        optimizer="Adam",
    ),
    minutes=2,
    limits="The authors' own test set-up, one network. Adam divides by the gradient's size, so clipping helps little.",
    extra="sklearn",
)
