"""What only a GPU can tell, in at most five minutes: ours against PyTorch's own, warmed up, interleaved, synchronised.

    python benchmarks/on_gpu.py

Measures a step of update parts, of Muon, gradient clipping and EMA, the triton executor for every method that works by
element (goal: at most 1.0 of fused AdamW, times its bytes over AdamW's) and captured in a CUDA graph, a race of two
cells on the device, and saving and loading a distributed checkpoint. It also says how far kernels are from the eager
executor's steps. Without CUDA it says so and ends. It was never run where it was written:
no GPU was at hand, so it brings no figures of its own.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from _lists import make as make_list
from torch import nn
from torch.distributed import checkpoint as dcp

import sooner
from sooner import gradient, part, update, weights
from sooner.execute import using
from sooner.race.plan import Plan
from sooner.race.referee import pool_of
from sooner.update._optimizer import ChainOptimizer

ROUNDS = 7
STEPS = 20
BUDGET_SECONDS = 300.0
WIDTH, LAYERS = 1024, 8
PAIRS: dict[str, tuple[Callable[..., torch.optim.Optimizer], Callable[..., torch.optim.Optimizer]]] = {
    "AdamW": (update.AdamW, lambda p: torch.optim.AdamW(p, fused=True)),
    "SGD": (lambda p: update.SGD(p, lr=0.01), lambda p: torch.optim.SGD(p, lr=0.01, fused=True)),
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
    gradient.ClipNorm(clipped, max_norm=1.0)
    parameters = [p for group in plain.param_groups for p in group["params"]]

    def by_torch() -> None:
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        plain.step()

    told("clipping and SGD", *milliseconds(clipped.step, by_torch))
    model, averaged = make(), make()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9, fused=True)
    average = weights.EMA(model, decay=0.999)
    other = torch.optim.swa_utils.AveragedModel(
        averaged, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
    )
    stepping = torch.optim.SGD(averaged.parameters(), lr=1e-9, fused=True)

    def with_ours() -> None:
        optimizer.step()
        average.after_step()

    def with_torch() -> None:
        stepping.step()
        other.update_parameters(averaged)

    told("EMA and SGD", *milliseconds(with_ours, with_torch))


def by_element() -> dict[str, Callable[..., ChainOptimizer]]:
    """Return the methods all of whose rules work by element, by name."""
    found = {}
    parameters = [nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))]
    for name, station in part.names().items():
        method = part.load(name)
        if station == "update" and issubclass(method, ChainOptimizer) and not method.needs:
            with warnings.catch_warnings(action="ignore"):
                made = method(parameters)
            rules = [rule for group in made.param_groups for rule in made.full_rule(group).rules]
            if all(rule.grain == "element" for rule in rules):
                found[name] = method
    return found


def kernels() -> None:
    """Measure the triton executor on GPT-2 small's list, in two dtypes, and compare its steps with eager's."""
    for dtype in (torch.float32, torch.bfloat16):
        model = make_list("gpt2").to("cuda", dtype)
        parameters = list(dict.fromkeys(p for p in model.parameters() if not p.is_meta))
        for p in parameters:
            p.grad = torch.randn_like(p).mul_(1e-3)
        theirs = torch.optim.AdamW(parameters, fused=True)
        for name, method in by_element().items():
            optimizer = method(parameters, lr=1e-6)

            def step(optimizer: ChainOptimizer = optimizer) -> None:
                with using("triton"):
                    optimizer.step()

            told(f"{name}, triton, {str(dtype).removeprefix('torch.')}", *milliseconds(step, theirs.step))
        captured = update.AdamW(parameters, lr=torch.tensor(1e-6, device="cuda"))
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), using("triton"):
            for _ in range(4):
                captured.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), using("triton"):
            captured.step()
        told("adamw, captured", *milliseconds(graph.replay, theirs.step))
        counted = int(captured.state[parameters[0]]["step"])
        print(f"the graph has counted {counted} steps of {4 + 5 + ROUNDS * STEPS}")
    for name, method in by_element().items():
        apart = []
        for executor in ("triton", "eager"):
            torch.manual_seed(0)
            p = nn.Parameter(torch.randn(4099, device="cuda"))
            optimizer = method([p], lr=1e-3)
            for _ in range(3):
                p.grad = torch.randn_like(p)
                with using(executor):
                    optimizer.step()
            apart.append(p.detach().clone())
        print(f"{name:32} triton and eager are {(apart[0] - apart[1]).abs().max().item():.1e} apart after 3 steps")


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
    for measure in (steps, kernels, checkpoint, race):
        if time.perf_counter() - start < BUDGET_SECONDS / 2:
            measure()
        else:
            print(f"{measure.__name__} was left out: half of the {BUDGET_SECONDS:g} s are gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
