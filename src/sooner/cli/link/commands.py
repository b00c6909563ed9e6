"""The `sooner link` commands: parse, call, print. PyTorch is imported by the plan only."""

from __future__ import annotations

import sys
from json import dumps
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from sooner.cli.numbers import Whole
from sooner.error import SoonerError

link = App(
    name="link",
    help="Run ranks behind a slow or unreliable network on this machine, or plan which codec pays on which network.",
)

Repeated = Annotated[list[str] | None, Parameter(negative=())]


@link.default
def run(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    rate: str | None = None,
    loss: str = "0%",
    ranks: Whole = 2,
    cut: Repeated = None,
    kill: Repeated = None,
    wait: float = 10.0,
    timeout: float | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Run a command once per rank, each behind its own link, and say what each rank sent and how it ended.

    Every rank is in a network namespace of its own and gets the environment that torchrun would give it, so any script
    for torchrun runs unchanged: sooner link --rate 100mbit -- python train.py

    Parameters
    ----------
    command
        The command, after two dashes.
    rate
        What every link carries either way, such as 100mbit, 512kbit or 1gbit. Default: no limit.
    loss
        Share of the packets that get lost on arrival, such as 1%; needs iptables.
    ranks
        How many.
    cut
        RANK@SECONDS cuts a rank's link after so many seconds, RANK@SECONDS:FOR for a while. May be repeated.
    kill
        RANK@SECONDS kills a rank after so many seconds. May be repeated.
    wait
        Seconds that the other ranks get to end on their own once one has failed.
    timeout
        Seconds after which all ranks are ended. Default: never.
    json
        Print the result as JSON on standard output; what the ranks write goes to standard error.
    """
    from sooner.cli.link.tables import show_run
    from sooner.link import Lab, parse_cut, parse_kill, parse_loss, parse_rate
    from sooner.link import run as run_ranks

    lab = Lab(
        rate=None if rate is None else parse_rate(rate),
        loss=parse_loss(loss),
        ranks=ranks,
        cuts=tuple(map(parse_cut, cut or ())),
        kills=tuple(map(parse_kill, kill or ())),
        wait=wait,
        timeout=timeout,
    )
    made = run_ranks(command, lab, echo="stderr" if json else "print")
    if json:
        print(dumps(made.as_json(), indent=1, allow_nan=False))
    else:
        show_run(made)
    if made.failure:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"sooner: {made.failure}", markup=False)
        sys.exit(1)


@link.command
def plan(
    workload: str | None = None,
    /,
    *,
    parameters: float | None = None,
    step: float | None = None,
    rate: str = "100mbit",
    workers: Whole = 2,
    codecs: str | None = None,
    latency: float = 0.0,
    mtu: Whole = 1500,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Say below which link speed, and up to how many workers, each codec pays against dense and fp16: a model.

    Bytes are counted on the codecs' own payloads; a step and the codecs are timed here, without a link, on one thread.

    Parameters
    ----------
    workload
        A bundled workload or a task file: its model and the seconds of its step.
    parameters
        Instead of a workload: the size of the model, such as 124e6; it gets the shapes of a GPT. Needs --step.
    step
        Seconds of a step that sends nothing. Default: measured on the workload.
    rate
        The link for the step times and the numbers of workers.
    workers
        How many send, for the step times and the link speeds.
    codecs
        Recipes of communication parts separated by semicolons, such as "fp16; top_k(ratio=0.01) + ef". Default: all.
    latency
        Seconds that a message takes on that link beyond what it takes on this machine.
    mtu
        Bytes of the largest packet; the headers follow from it.
    json
        Print the plan as JSON.
    """
    if (workload is None) == (parameters is None):
        raise SoonerError("give either a workload, as in `sooner link plan charlm`, or --parameters, as in 124e6")
    if parameters is not None and step is None:
        raise SoonerError("--parameters has no step to measure; add --step with the seconds of one, or name a workload")
    import torch

    from sooner.cli.link.tables import plain, show_plan
    from sooner.link import LinkModel, parse_rate
    from sooner.link import plan as make_plan
    from sooner.link._plan import default_recipes, layout_of_size, measured_step
    from sooner.recipe.text import split
    from sooner.workloads import find

    torch.set_num_threads(1)
    model = LinkModel(parse_rate(rate), latency, mtu)
    if parameters is not None:
        layout, size = layout_of_size(parameters)
    else:
        layout, found = measured_step(find(str(workload)))
        size, step = layout.size, found if step is None else step
    recipes = default_recipes() if codecs is None else split(codecs)
    made = make_plan(recipes, layout, float(step or 0), model, workers, size)
    if json:
        print(dumps(plain(made), indent=1, allow_nan=False))
    else:
        show_plan(made)
