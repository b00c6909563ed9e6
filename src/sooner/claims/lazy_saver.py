"""Copies made during forward and backward keep training from standing still for checkpoints."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sooner.claims._claim import Claim, Criterion, Measured, Measurement, Regime
from sooner.claims._findings import Findings
from sooner.claims._stalls import stalls
from sooner.memory.lazy_saver import LazySaver
from sooner.update.adamw import AdamW


def killed(times: int, seed: int) -> dict[str, int]:
    """Kill processes that write checkpoints; return how many files were whole, damaged and under way."""
    if not times:
        return {"finished": 0, "broken": 0, "under_way": 0}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sooner.claims._killed", folder, str(times), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def restored(arm: str, seed: int, width: int) -> dict[str, int]:
    """Train past a lazy checkpoint and return how many of its tensors differ from a copy made at its moment."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))
    model[3].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1) if arm == "torch" else AdamW(model, lr=0.1)

    def advance() -> None:
        torch.autograd.backward(model(torch.randn(8, width)).square().mean())
        optimizer.step()
        optimizer.zero_grad()

    advance()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pt"
        with LazySaver(optimizer) as saver:
            expected = _tensors({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
            expected = [t.clone() for t in expected]
            saver.save(path, model=model, optimizer=optimizer)
            for _ in range(3):
                advance()
        found = _tensors(torch.load(path, weights_only=True))
    differ = [not torch.equal(a, b) for a, b in zip(found, expected, strict=True)]
    return {"tensors": len(differ), "differ": sum(differ)}


def _tensors(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        return [t for key in sorted(tree, key=str) for t in _tensors(tree[key])]
    return [t for one in tree for t in _tensors(one)] if isinstance(tree, list | tuple) else []


def _ratio(f: Findings, new: str, base: str) -> Measured:
    """Return the median ratio over the rounds; of six rounds or more the extremes are a 95 % interval of the median."""
    (ours,), (theirs,), (waited,) = (f.values("stalls", key) for key in (new, base, "waited"))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    busy = statistics.median(waited)
    why = f"others took the core for {100 * busy:.0f} % of the time" if busy > 0.2 else ""
    return Measured(statistics.median(ratios), min(ratios), max(ratios), unit="x", undecided=why)


CLAIM = Claim(
    part="lazy_saver",
    paper="datastates",
    headline="Up to 48x shorter blocking per checkpoint and training up to 2.2x faster, checkpointing every iteration.",
    source="Maurya et al., 2024, arXiv 2406.10707, abstract",
    experiment=(
        "A network and AdamW of 400 MiB in all train on one thread: how long a checkpoint holds training up, copied "
        "lazily, by torch.save, by copying first, and by torch's own stager, in turn; and how long six steps with one "
        "checkpoint take. Beside it, whether the file is the state at its moment, and what 30 killed processes leave."
    ),
    baseline="torch.save; a copy of everything that a thread then writes.",
    experiments={
        "stalls": Measurement(stalls, [{"mib": 400, "rounds": 6}], [{"mib": 0.5, "rounds": 1, "steps": 2}], timed=True),
        "restored": Measurement(
            restored,
            [{"arm": arm, "seed": seed, "width": 300} for arm in ("torch", "sooner") for seed in range(3)],
            [{"arm": arm, "seed": 0, "width": 40} for arm in ("torch", "sooner")],
        ),
        "killed": Measurement(killed, [{"times": 30, "seed": 0}], [{"times": 0, "seed": 0}]),
    },
    criteria=[
        Criterion(
            "training stands still at most 0.1x as long as with torch.save",
            lambda f: _ratio(f, "stall lazy", "stall torch.save"),
            at_most=0.1,
            paper="1/48 at best, against the best of the others",
        ),
        Criterion(
            "and at most 0.5x as long as when everything is copied first",
            lambda f: _ratio(f, "stall lazy", "stall clone"),
            at_most=0.5,
        ),
        Criterion(
            "six steps with a checkpoint take at most 1.05x as long as without",
            lambda f: _ratio(f, "steps lazy", "steps none"),
            at_most=1.05,
        ),
        Criterion(
            "tensors of the file that differ from the state at its moment",
            lambda f: f.largest("restored", "differ"),
            at_most=0,
        ),
        Criterion(
            "damaged files among those that 30 killed processes had finished",
            lambda f: f.largest("killed", "broken"),
            at_most=0,
        ),
        Criterion(
            "the set-up shows what standing still costs: six steps with torch.save take at least 1.05x as long",
            lambda f: _ratio(f, "steps torch.save", "steps none"),
            at_least=1.05,
            control=True,
            positive=True,
        ),
        Criterion(
            "processes were killed in the middle of a file (how many of 30)",
            lambda f: f.smallest("killed", "under_way"),
            at_least=5,
            control=True,
        ),
    ],
    trend={
        "torch's DefaultStager, standing still over torch.save": lambda f: _ratio(
            f, "stall stager", "stall torch.save"
        ),
        "the same in its thread": lambda f: _ratio(f, "stall stager in a thread", "stall torch.save"),
    },
    regime=Regime(
        "language models of 3 to 70 billion parameters on hundreds of accelerators, checkpoints every step",
        "AdamW",
        "constant, from the first step on",
        "does not matter",
        "a checkpoint that takes longer than a step, as there; one process, host memory only",
    ),
    minutes=4,
    limits=(
        "One process on one machine without a GPU; a killed process leaves the system's cache, a power cut would not."
    ),
)
