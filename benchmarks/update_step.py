"""What one step of every update part costs, as a ratio to torch.optim.AdamW(fused=True).

    python benchmarks/update_step.py [--lists small --lists gpt2] [--executors native --executors eager] [--peers]
        [--recipes "adamw; sgd(momentum=0.9)"] [--threads 1 --threads 2] [--rounds 7]

All candidates step the same parameters with the same constant gradients, in turn, in one process; the ratio is per
round. "limit" is the ratio that would be left if the memory's bandwidth were the only cost: the bytes that the method
must move (gradient in, parameter and state in and out) over the bandwidth of an in-place multiplication, timed in the
same rounds. Methods that need sums go through some of the memory twice, so they can't reach it. A few candidates at a
time share a block of rounds, because the state of each takes up to 1.5 GB on the list "gpt2".
"""

from __future__ import annotations

import gc
import math
import statistics

import cyclopts
import torch
from _candidates import CLIP, REFERENCE, Candidate, clipped_by_torch, goal, ours, reference, theirs, updates
from _interleaved import block_length, interleave, spread
from _lists import count, make
from _peers import ELEMENT, installed
from torch import nn

from sooner import part
from sooner.execute.snapshot import HELPER

LARGEST_PROBE = 2**28
"""Elements of the vector that shows the bandwidth: 1 GiB, or less where AdamW touches less."""

HEAD = f"  {'':46} {'ms':>8} {'ratio to fused AdamW':>24} {'limit':>6} {'B/param':>7} {'faults':>7} {'target':>7}"


def measure(list_name: str, model: nn.Module, candidates: list[Candidate], rounds: int) -> dict[str, list[float]]:
    """Print a row for every candidate, timed together; return the ratios of every round.

    Columns: milliseconds per step, ratio, limit, bytes of state per parameter, pages fetched per step, target ratio.
    """
    number = count(model)
    steppers = {c.name: c.build(model) for c in [reference(), *candidates]}
    memory = torch.ones(min(4 * number, LARGEST_PROBE))  # AdamW touches parameters, gradients and two moments
    steps = {**{name: stepper.step for name, stepper in steppers.items()}, "memory": lambda: memory.mul_(1.0)}
    timed = interleave(steps, rounds, {name: block_length(step) for name, step in steps.items()})
    seconds = {name: statistics.median(r.wall[name] for r in timed) for name in steps}
    ratios = {name: [r.wall[name] / r.wall[REFERENCE] for r in timed] for name in steps}
    bandwidth = 8 * memory.numel() / seconds["memory"]

    def at_the_limit(state: float) -> float:
        return (12 + 2 * state) * number / bandwidth / seconds[REFERENCE]

    print(
        f"  beside {REFERENCE} at {1e3 * seconds[REFERENCE]:.2f} ms (limit {at_the_limit(8):.2f} of that) and "
        f"{bandwidth / 1e9:.0f} GB/s (in-place multiplication of {4 * memory.numel() / 2**20:.0f} MiB)"
    )
    for c in candidates:
        state = steppers[c.name].state_bytes() / number
        faults = statistics.median(r.faults[c.name] for r in timed)
        aim = goal(list_name, c, state)
        print(
            f"  {c.name:46} {1e3 * seconds[c.name]:8.2f} {spread(ratios[c.name]):>24} {at_the_limit(state):6.2f} "
            f"{state:7.2f} {faults:7.0f} {'' if math.isnan(aim) else f'<= {aim:.2f}':>7}",
            flush=True,
        )
    return ratios


def clipping(list_name: str, model: nn.Module, executor: str, rounds: int) -> None:
    """Print what clipping by the norm of all gradients adds to AdamW, inside our chain and by torch's function."""
    plain, clipped, by_torch = ours("adamw", executor), ours(f"{CLIP} + adamw", executor), clipped_by_torch()
    ratios = measure(list_name, model, [plain, clipped, by_torch], rounds)
    inside = [with_it - without for with_it, without in zip(ratios[clipped.name], ratios[plain.name], strict=True)]
    outside = [ratio - 1 for ratio in ratios[by_torch.name]]
    aim = " (target <= 0.6)" if list_name == "gpt2" else ""
    print(f"  clipping adds {spread(inside)}{aim} inside the chain [{executor}], {spread(outside)} by torch's function")


def main(
    *,
    lists: tuple[str, ...] = ("small", "gpt2"),
    recipes: str = "",
    executors: tuple[str, ...] = ("auto",),
    peers: bool = False,
    threads: tuple[int, ...] = (),
    rounds: int = 7,
    at_once: int = 3,
) -> None:
    """Print a table for every list and number of threads.

    Args:
        lists: of "small" (1 million parameters in 150 tensors), "middle" (32 in 60) and "gpt2" (124 in 148).
        recipes: what to time, separated by semicolons; default every update part that works element by element.
        executors: of "auto", "eager", "native", "inductor", "triton".
        peers: also the optimizers of other packages that are installed; heavyball takes a minute to compile.
        threads: default as many as torch takes, and for "small" also one.
        rounds: how often every candidate has its turn.
        at_once: how many candidates are held in memory and timed together.
    """
    torch.set_num_threads(most := torch.get_num_threads())  # from here on nothing else decides
    HELPER.make()  # which a long run has after some hundred steps
    texts = [text.strip() for text in recipes.split(";")] if recipes else updates()
    several = len(executors) > 1
    candidates = [ours(text, executor, labelled=several) for text in texts for executor in executors]
    everything = candidates + [theirs(peer) for peer in (installed(ELEMENT) if peers else ())]
    clipped = executors if "clip_norm" in part.names() and not recipes else ()
    for name in lists:
        model = make(name)
        for n in threads or sorted({1, most} if name == "small" else {most}):
            torch.set_num_threads(n)
            tensors, millions = len(list(model.parameters())), count(model) / 1e6
            print(f"== {name}: {tensors} tensors, {millions:.2f} million parameters, float32, threads: {n}\n{HEAD}")
            for first in range(0, len(everything), at_once):
                measure(name, model, everything[first : first + at_once], rounds)
                gc.collect()  # the state is gigabytes
            for executor in clipped:
                clipping(name, model, executor, rounds)


if __name__ == "__main__":
    cyclopts.run(main)
