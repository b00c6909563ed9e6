"""What `sooner link` prints: a row per rank, or a row per codec."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from sooner.link import Plan, Run
from sooner.link._lab import written_rate
from sooner.link._plan_rows import BASELINES, MOST_WORKERS, Against
from sooner.report.numbers import number, times


def show_run(made: Run) -> None:
    """Print what became of the ranks."""
    console = Console(highlight=False)
    grid = Table("rank", "seconds", "sent", "received", "sent per second", "ended", box=None, pad_edge=False)
    for column in grid.columns[1:5]:
        column.justify = "right"
    for rank in made.ranks:
        seconds = made.seconds_of(rank)
        speed = None if rank.sent is None else rank.sent / seconds
        ending = "well" if rank.code == 0 else rank.ending
        rate = "unknown" if speed is None else f"{_bytes(speed)}/s"
        grid.add_row(str(rank.rank), f"{seconds:.2f}", _bytes(rank.sent), _bytes(rank.received), rate, ending)
    console.print(grid)
    lost = f", {made.lab.loss:.2%} of the packets lost" if made.lab.loss else ""
    kind = "measured on" if made.measured else "modelled for"
    console.print(f"{kind} links of {written_rate(made.lab.rate)}{lost}; bytes on the interface, headers included")
    if not made.measured:
        console.print(
            f"There are no network namespaces here ({made.refusal}): the ranks ran on loopback, and what was counted "
            "there was charged at the rate afterwards; an equal share of its traffic stands for every rank.",
            soft_wrap=True,
            markup=False,
        )


def show_plan(made: Plan) -> None:
    """Print the codecs and where they pay."""
    console = Console(highlight=False)
    rate = written_rate(made.link.rate)
    console.print(
        f"modelled: {made.parameters:,} parameters, {made.own:.3g} s per step without a link, {made.workers} workers, "
        f"links of {rate}, headers {made.link.headers:.1%}",
        soft_wrap=True,
    )
    costs = Table("a step", "payload", "sent", "in the codec", "in all", "of dense", box=None, pad_edge=False)
    names = ("dense, on links below", "up to workers", "fp16, on links below", "up to workers")
    pays = Table("pays against", *names, box=None, pad_edge=False)
    for column in (*costs.columns[1:], *pays.columns[1:]):
        column.justify = "right"
    for grid in (costs, pays):
        grid.columns[0].no_wrap = True
    dense = made.rows[0].step
    for row in made.rows:
        sent = made.link.on_the_wire(row.cost.sent(made.workers))
        timed = f"{1000 * row.cost.seconds:.1f} ms", f"{row.step:.3g} s", times(row.step / dense)
        costs.add_row(row.name, _bytes(row.cost.payload), _bytes(sent), *timed)
        if row.name not in BASELINES[:1]:
            pays.add_row(row.name, *(cell for base in BASELINES for cell in _answers(row.against.get(base))))
    console.print(costs)
    console.print()
    console.print(pays)
    console.print()
    lines = ["A faster step is not yet a target reached sooner: what a codec drops may cost steps, which a race shows."]
    if made.scaled:
        lines.append(f"Bytes and seconds are those of {made.scaled:,} parameters of the same shapes, scaled.")
    for line in lines:
        console.print(line, soft_wrap=True)


def _answers(found: Against | None) -> list[str]:
    if found is None:
        return ["", ""]
    below = "any" if math.isinf(found.below) else written_rate(float(f"{found.below:.3g}"))
    workers = "any" if found.workers == MOST_WORKERS else str(found.workers)
    return [below if found.below else "never", workers if found.workers else "never"]


def plain(made: Plan) -> dict[str, object]:
    """Return a plan as plain values."""

    def told(found: Against) -> dict[str, object]:
        any_link, any_number = math.isinf(found.below), found.workers == MOST_WORKERS
        return {
            "below_bits_per_second": "any" if any_link else found.below,
            "up_to_workers": "any" if any_number else found.workers,
        }

    return {
        "link": "modelled",
        "parameters": made.parameters,
        "own_step_seconds": made.own,
        "workers": made.workers,
        "rate": made.link.rate,
        "latency": made.link.alpha,
        "headers": made.link.headers,
        "scaled_from": made.scaled,
        "codecs": [
            {
                "recipe": row.name,
                "payload_bytes": row.cost.payload,
                "wire_bytes": made.link.on_the_wire(row.cost.sent(made.workers)),
                "messages": row.cost.messages(made.workers),
                "codec_seconds": row.cost.seconds,
                "step_seconds": row.step,
                "against": {base: told(found) for base, found in row.against.items()},
            }
            for row in made.rows
        ],
    }


def _bytes(count: float | None) -> str:
    """Return bytes as people read them."""
    if count is None:
        return "unknown"
    size, unit = next(((s, u) for s, u in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= s), (1.0, "B"))
    return f"{number(count / size)} {unit}"
