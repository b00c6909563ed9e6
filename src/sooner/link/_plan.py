"""From one run without a limit and counted bytes: on which links, and up to how many workers, each codec pays.

    step(link) = own step + seconds in the codec + messages * alpha + bytes on the wire * 8 / rate

A codec pays against another where its step takes less time. All-reduced payloads leave a worker 2 (n - 1) / n times,
all-gathered ones n - 1 times, so the latter lose in the end, however small they are.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import fields

import torch

from sooner import part as known_parts
from sooner.communication._codec import Codec
from sooner.communication._memory import Memory
from sooner.communication._outer import Outer
from sooner.error import SoonerError
from sooner.foundation.layout import Layout
from sooner.link._cost import cost
from sooner.link._model import LinkModel
from sooner.link._plan_rows import BASELINES, MOST_WORKERS, Against, Cost, Plan, Row
from sooner.objective import mean_of
from sooner.part import Part
from sooner.recipe import slot
from sooner.recipe.text import parse
from sooner.task import Task
from sooner.workloads.charlm import GPT, HEAD_WIDTH

_LARGEST = 2**24
"""Vectors of more numbers are not made; bytes and seconds of a smaller model of the same kind are scaled."""

_TIMED_STEPS = 10


def plan(
    recipes: Sequence[str], layout: Layout, own: float, link: LinkModel, workers: int, parameters: int | None = None
) -> Plan:
    """Return what every recipe costs a step behind a link, and where it pays against dense and half precision.

    Args:
        recipes: communication parts, such as ``"top_k(ratio=0.01) + ef"`` or ``"local_sgd(every=10) + fp16"``.
        layout: of the model's parameters.
        own: seconds of a step that sends nothing, measured without a limit.
        link: rate, latency and MTU.
        workers: how many send.
        parameters: of the model, where the layout is that of a smaller one of its kind.

    Raises:
        SoonerError: a number out of range, an unknown part, or one that sends nothing of its own.
    """
    if not (math.isfinite(own) and own > 0):
        raise SoonerError(f"a step of {own:g} seconds can't be; give the seconds of a step without a link, above 0")
    if not 2 <= workers <= MOST_WORKERS:
        raise SoonerError(f"{workers} workers send nothing or are too many; give 2 to {MOST_WORKERS}")
    times = 1.0 if parameters is None else parameters / layout.size
    names = [*BASELINES, *(one for one in recipes if one not in BASELINES)]
    costs = {name: _scaled(cost(_made(name), layout), times) for name in names}
    rows = []
    for name, one in costs.items():
        against = {base: _against(one, costs[base], link, workers) for base in BASELINES if base != name}
        rows.append(Row(name, one, own + one.seconds + _on_link(one, link, workers), against))
    scaled = None if times == 1 else layout.size
    return Plan(parameters or layout.size, own, link, workers, tuple(rows), scaled)


def default_recipes() -> list[str]:
    """Return every codec there is, with error feedback where it drops something, and two outer parts."""
    found = []
    for name, station in known_parts.names().items():
        if station != "communication":
            continue
        kind = known_parts.load(name)
        if issubclass(kind, Codec):
            alone = issubclass(kind, Memory) or not kind.contractive
            found.append(name if alone else f"{name} + ef")
        elif issubclass(kind, Outer) and name in ("local_sgd", "diloco"):
            found.append(f"{name}(every=10) + fp16")
    return found


def layout_of_size(parameters: float) -> tuple[Layout, int]:
    """Return the shapes of a GPT of about that many parameters, of a smaller one where that is too many to make.

    Raises:
        SoonerError: too few parameters for such a model.
    """
    if not (math.isfinite(parameters) and parameters >= 10_000):
        raise SoonerError(f"a model of {parameters:g} parameters can't be planned for; give 10000 or more")
    made = min(parameters, _LARGEST)
    # twelve matrices of width x width per block, and 64 times as wide as deep, as GPT-2 is
    blocks = max(1, round((made / (12 * 64**2)) ** (1 / 3)))
    width = max(1, round((made / (12 * blocks)) ** 0.5 / HEAD_WIDTH)) * HEAD_WIDTH
    with torch.device("meta"):
        model = GPT(width, blocks)
    return Layout.of(dict(model.named_parameters())), round(parameters)


def measured_step(task: Task) -> tuple[Layout, float]:
    """Return the layout of a task's model and the median seconds of its AdamW step on one thread."""
    model = task.model(0)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batches = task.batches(0, "train")
    taken = []
    for number in range(2 + _TIMED_STEPS):
        begun = time.process_time()
        torch.autograd.backward(mean_of(task.loss(model, batches[number])))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        taken.append(time.process_time() - begun)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return Layout.of(named), statistics.median(taken[2:])


def _made(recipe: str) -> list[Part]:
    slots = [slot(call.name, **call.settings) for call in parse(recipe)]
    for one in slots:
        if one.station != "communication":
            raise SoonerError(
                f"{one.name} of {recipe!r} sends nothing; name communication parts only, such as top_k + ef"
            )
    return [one.factory(**one.settings) for one in slots]


def _scaled(one: Cost, times: float) -> Cost:
    counts = one.averages, one.gathers, one.pairs
    return Cost(one.averaged * times, one.gathered * times, one.paired * times, *counts, one.seconds * times)


def _on_link(one: Cost, link: LinkModel, workers: int) -> float:
    return link.seconds(one.sent(workers), one.messages(workers))


def _against(one: Cost, base: Cost, link: LinkModel, workers: int) -> Against:
    less = Cost(*(getattr(base, f.name) - getattr(one, f.name) for f in fields(Cost)))  # what `one` saves
    bits = 8 * link.on_the_wire(less.sent(workers))
    seconds = less.seconds + link.alpha * less.messages(workers)
    if bits >= 0 and seconds >= 0:
        below = math.inf if bits or seconds else 0.0
    else:  # what takes less time but sends more pays on fast links only, which is nobody's reason to use it
        below = bits / -seconds if bits > 0 else 0.0

    def saves(n: int) -> bool:
        return less.seconds + _on_link(less, link, n) > 0

    return Against(below, next((n for n in range(MOST_WORKERS, 1, -1) if saves(n)), 0))
