"""How long the first step takes: with an empty cache, and in a new process that finds it full.

    python benchmarks/first_step.py [--lists small] [--recipes "adamw; adabelief"] [--executors native] [--peers]
    python benchmarks/first_step.py --graphs --executors inductor

Every figure comes from a process of its own, with a cache folder of its own ($SOONER_CACHE; $TORCHINDUCTOR_CACHE_DIR
for what torch.compile makes). Importing torch and sooner and making the optimizer are not counted; making the state is,
which on "gpt2" is half a gigabyte or more: the row of fused AdamW shows what that costs. `--graphs` counts instead the
graphs that torch.compile makes by the first step, and until the learning rate has taken eight values. A chain of
element rules is one graph, every rule that needs sums adds one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import torch
from _candidates import REFERENCE, Candidate, ours, reference, theirs
from _interleaved import waited
from _lists import make
from _peers import COMPILED, installed

TARGETS = {"cold": 1.5, "cached": 0.1}
"""Seconds, with a compiler present, for the executors that compile nothing but C."""

RATES = 8


def candidates(recipes: list[str], executors: list[str]) -> dict[str, Candidate]:
    """Return everything that a process may be asked for, by name."""
    mine = [ours(text, executor, labelled=True) for text in recipes for executor in executors]
    return {c.name: c for c in [reference(), *mine, *(theirs(peer) for peer in COMPILED)]}


def first(candidate: Candidate, list_name: str) -> dict[str, float]:
    """Return the seconds of the first and the second step in this process, and how long threads waited for a core."""
    model = make(list_name)
    stepper = candidate.build(model)
    before, started = waited(), time.perf_counter()
    stepper.step()
    middle = time.perf_counter()
    lost = waited() - before
    stepper.step()
    return {"first": middle - started, "second": time.perf_counter() - middle, "lost": lost}


def count_graphs(candidate: Candidate, list_name: str) -> dict[str, float]:
    """Return how many graphs the first step compiled, and all of `RATES` steps with as many learning rates."""
    from torch._dynamo.utils import counters

    stepper = candidate.build(make(list_name))
    before = counters["stats"]["unique_graphs"]
    found = []
    for number in range(RATES):
        for optimizer in stepper.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (1 - number / RATES)
        stepper.step()
        found.append(counters["stats"]["unique_graphs"] - before)
    return {"first": found[0], "last": found[-1]}


def in_new_process(job: dict[str, Any], folder: Path) -> dict[str, float]:
    """Run this file for one candidate, with its caches in `folder`."""
    caches = {"SOONER_CACHE": str(folder / "sooner"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--job", json.dumps(job)],
        env={**os.environ, **caches},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(name: str, job: dict[str, Any]) -> None:
    """Print one row: seconds cold, cached and of a later step."""
    with tempfile.TemporaryDirectory() as folder:
        cold, cached = (in_new_process(job, Path(folder)) for _ in TARGETS)
    aimed = name.endswith(("[auto]", "[native]"))
    shown = [
        f"{found['first']:8.3f} {f'<= {TARGETS[which]}' if aimed else '':>7}"
        for which, found in (("cold", cold), ("cached", cached))
    ]
    lost = max(cold["lost"], cached["lost"])
    note = f"  CONTENDED: threads waited {lost:.2f} s for a core" if lost > 0.02 else ""
    print(f"  {name:36} {shown[0]} {shown[1]} {cached['second']:9.4f}{note}", flush=True)


def main(
    *,
    lists: tuple[str, ...] = ("small", "gpt2"),
    recipes: str = "adamw; adabelief",
    executors: tuple[str, ...] = ("auto",),
    threads: int | None = None,
    peers: bool = False,
    graphs: bool = False,
    job: Annotated[str, cyclopts.Parameter(show=False)] = "",
) -> None:
    """Print a table for every list.

    Args:
        lists: of "small", "middle", "gpt2".
        recipes: separated by semicolons.
        executors: of "auto", "eager", "native", "inductor", "triton".
        threads: default as many as torch takes.
        peers: also what other packages compile; a minute each, and again from the cache.
        graphs: count graphs instead of seconds.
        job: what a process that this one started is to do, as JSON.
    """
    if job:
        answer(json.loads(job))
        return
    threads = threads or torch.get_num_threads()
    texts = [text.strip() for text in recipes.split(";")]
    names = [c.name for c in candidates(texts, list(executors)).values() if c.kind]
    if peers:
        names += [peer.name for peer in installed(COMPILED)]
    for name in lists:
        shared = {"list": name, "recipes": texts, "executors": executors, "threads": threads, "graphs": graphs}
        if graphs:
            print(f"== {name}: graphs compiled by the first step, and after {RATES} learning rates (target: no more)")
            for one in names:
                with tempfile.TemporaryDirectory() as folder:
                    found = in_new_process({**shared, "name": one}, Path(folder))
                print(f"  {one:36} {found['first']:.0f} {found['last']:4.0f}", flush=True)
            continue
        print(f"== {name}: seconds of the first step, threads: {threads}")
        print(f"  {'':36} {'cold':>8} {'target':>7} {'cached':>8} {'target':>7} {'2nd step':>9}")
        for one in [REFERENCE, *names]:
            row(one, {**shared, "name": one})


def answer(job: dict[str, Any]) -> None:
    """Do one job in this process and print what came of it as JSON."""
    torch.set_num_threads(job["threads"])
    candidate = candidates(job["recipes"], job["executors"])[job["name"]]
    print(json.dumps((count_graphs if job["graphs"] else first)(candidate, job["list"])))


if __name__ == "__main__":
    cyclopts.run(main)
