"""What only a GPU can tell, in at most five minutes: ours against PyTorch's own, warmed up, interleaved, synchronised.

    python benchmarks/on_gpu.py

Measures a step of every update part that is not Muon, of Muon, gradient clipping, EMA, a race of two cells on the
device, and saving and loading a distributed checkpoint. Without CUDA it says so and ends. It was never run where it was
written: no GPU was at hand, so it brings no figures of its own.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.distributed import checkpoint as dcp

import sooner
from sooner import gradient, update, weights
from sooner.race.plan import Plan
from sooner.race.referee import pool_of

ROUNDS = 7
STEPS = 20
BUDGET_SECONDS = 300.0
WIDTH, LAYERS = 1024, 8
PAIRS: dict[str, tuple[Callable[..., torch.optim.Optimizer], Callable[..., torch.optim.Optimizer]]] = {
    "AdamW": (update.AdamW, lambda p: torch.optim.AdamW(p, fused=True)),
    "SGD": (lambda p: update.SGD(p, lr=0.01), lambda p: torch.optim.SGD(p, lr=0.01, fused=True)),
    "Lion against AdamW": (update.Lion, lambda p: torch.optim.AdamW(p, fused=True)),
}


def make() -> nn.Module:
    """Return a model of square hidden matrices, 8 million parameters, with gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))).cuda()
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def milliseconds(*works: Callable[[], object]) -> list[float]:
    """Return the fastest of `ROUNDS` interleaved blocks of `STEPS` calls for each, per call."""
    found: list[list[float]] = [[] for _ in works]
    for work in works:
        for _ in range(5):
            work()
    for _ in range(ROUNDS):
        for work, times in zip(works, found, strict=True):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(STEPS):
                work()
            torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start) / STEPS)
    return [min(times) for times in found]


def told(what: str, ours: float, theirs: float) -> None:
    """Print one line."""
    print(f"{what:32} {ours:9.3f} ms   torch {theirs:9.3f} ms   {ours / theirs:6.2f}x", flush=True)


def steps() -> None:
    """Measure update parts, Muon, clipping and EMA."""
    for name, (ours, theirs) in PAIRS.items():
        told(name, *milliseconds(*(opt(m.parameters()).step for opt, m in ((ours, make()), (theirs, make())))))
    told("Muon", *milliseconds(*(opt(make().parameters()).step for opt in (update.Muon, torch.optim.Muon))))
    plain, clipped = (torch.optim.SGD(make().parameters(), lr=1e-9, fused=True) for _ in range(2))
    part = gradient.ClipNorm(max_norm=1.0).attach(clipped)
    parameters = [p for group in plain.param_groups for p in group["params"]]

    def by_torch() -> None:
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        plain.step()

    told("clipping and SGD", *milliseconds(clipped.step, by_torch))
    del part
    model, averaged = make(), make()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9, fused=True)
    average = weights.EMA(decay=0.999).attach(optimizer, model)
    other = torch.optim.swa_utils.AveragedModel(
        averaged, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
    )
    stepping = torch.optim.SGD(averaged.parameters(), lr=1e-9, fused=True)

    def with_torch() -> None:
        stepping.step()
        other.update_parameters(averaged)

    told("EMA and SGD", *milliseconds(optimizer.step, with_torch))
    del average


def race() -> None:
    """Train two cells of a bundled workload on the device, and the same two on the processor."""
    with tempfile.TemporaryDirectory() as folder:
        for device in ("cuda", "cpu"):
            task = sooner.workload("charlm")
            plan = Plan(task, [sooner.Recipe("adamw"), sooner.Recipe("sgd")], steps=50, tune=0, device=device)
            plan.out = Path(folder) / device
            cells = [plan.trial(recipe, recipe.default, 1) for recipe in plan.recipes]
            start = time.perf_counter()
            values = {}
            with pool_of(plan) as pool:
                pool.run(cells, lambda cell, data, kept=values: kept.update({cell.key: data["values"][-1]}))
            print(f"race of two cells on {device:5} {time.perf_counter() - start:7.1f} s   {sorted(values.values())}")


def checkpoint() -> None:
    """Save and load the state of a model and its optimizer with torch.distributed.checkpoint."""
    for name, optimizer in (("ours", update.AdamW), ("torch", torch.optim.AdamW)):
        model = make()
        made = optimizer(model.parameters())
        made.step()
        before = copy.deepcopy(made.state_dict())
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            state = {"model": model.state_dict(), "optimizer": made.state_dict()}
            dcp.save(state, checkpoint_id=folder)
            saved = time.perf_counter() - start
            dcp.load(state, checkpoint_id=folder)
            made.load_state_dict(state["optimizer"])
        torch.testing.assert_close(made.state_dict()["state"], before["state"], rtol=0, atol=0)
        print(f"DCP of AdamW ({name:5}): save {saved:.2f} s, save and load {time.perf_counter() - start:.2f} s")


def main() -> int:
    """Run what fits into the budget."""
    if not torch.cuda.is_available():
        print("no CUDA device was found, so nothing was measured")
        return 0
    start = time.perf_counter()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for measure in (steps, checkpoint, race):
        if time.perf_counter() - start < BUDGET_SECONDS / 2:
            measure()
        else:
            print(f"{measure.__name__} was left out: half of the {BUDGET_SECONDS:g} s are gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
