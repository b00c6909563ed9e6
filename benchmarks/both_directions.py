"""What a message costs behind a slow link, over what the link model says: one way, swapped, all-reduced, gathered.

python benchmarks/both_directions.py [--rate 100mbit] [--megabytes 8] [--rounds 5]

One way shows the link itself. What two ranks send each other at the same time should cost no more, and costs twice as
much where gloo is asked to send before it is asked to receive; `Group` therefore receives first.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable

import cyclopts
import torch
import torch.distributed as dist

from sooner.communication._packing import gathered
from sooner.link import Lab, LinkModel, parse_rate, run


def rank_main(rate: float, numbers: int, rounds: int) -> None:
    """Time every way in turn, and print the medians over the model's seconds."""
    dist.init_process_group("gloo")
    other = 1 - dist.get_rank()
    mine, theirs = torch.ones(numbers), torch.empty(numbers)

    def one_way() -> None:
        if other:
            dist.send(mine, other)
            dist.recv(theirs[:1], other)
        else:
            dist.recv(theirs, other)
            dist.send(mine[:1], other)

    def swap(order: str) -> None:
        asked = [dist.irecv(theirs, other) if what == "receive" else dist.isend(mine, other) for what in order.split()]
        for work in asked:
            work.wait()

    ways: dict[str, Callable[[], object]] = {
        "one way": one_way,
        "swapped, receive first": lambda: swap("receive send"),
        "swapped, send first": lambda: swap("send receive"),
        "all-reduced": lambda: dist.all_reduce(mine),
        "gathered": lambda: gathered(mine, None),
    }
    ideal = LinkModel(rate).seconds(4 * numbers, 0, 1)
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):  # the first is a warm-up
        for way, call in ways.items():
            dist.barrier()
            begun = time.perf_counter()
            call()
            if number:
                found[way].append((time.perf_counter() - begun) / ideal)
    if other:
        for way, ratios in found.items():
            print(f"{way:24} {statistics.median(ratios):.3f}x   {min(ratios):.3f} to {max(ratios):.3f}", flush=True)
    dist.destroy_process_group()


def main(*, rate: str = "100mbit", megabytes: float = 8, rounds: int = 5) -> None:
    """Run two ranks behind a link of this rate, or be one of them."""
    bits, numbers = parse_rate(rate), int(megabytes * 1e6 / 4)
    if "RANK" in os.environ:
        rank_main(bits, numbers, rounds)
        return
    print(f"{megabytes:g} MB at {rate}, seconds over those of the link model")
    command = [sys.executable, __file__, "--rate", rate, "--megabytes", f"{megabytes}", "--rounds", f"{rounds}"]
    done = run(command, Lab(rate=bits))
    if done.failure or not done.measured:
        raise SystemExit(done.failure or f"there are no namespaces here ({done.refusal})")


if __name__ == "__main__":
    cyclopts.run(main)
