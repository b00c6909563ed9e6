"""Which optimizer takes which parameter: every one has exactly one."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import nn

from sooner.error import SoonerError


def partition(optimizers: Sequence[tuple[str, str | None]], model: nn.Module) -> list[set[str]]:
    """Return, per optimizer, the names of the parameters it takes.

    Args:
        optimizers: of each its name and which parameters it takes: a pattern, ``!`` and a pattern, ``rest``, or None.
        model: the model.

    Raises:
        SoonerError: a parameter with no or two optimizers, or an optimizer without a parameter.
    """
    names = [n for n, _ in model.named_parameters()]
    if not names:
        raise SoonerError("the model has no parameters to train; return a model with parameters that require gradients")
    taken: dict[str, list[str]] = {n: [] for n in names}
    chosen: list[set[str]] = []
    for optimizer, on in optimizers:
        pattern = on or "*"
        negated, glob = pattern.startswith("!"), pattern.removeprefix("!")
        mine = set() if on == "rest" else {n for n in names if fnmatch.fnmatchcase(n, glob) is not negated}
        chosen.append(mine)
        for n in mine:
            taken[n].append(optimizer)
    rest = {n for n, owners in taken.items() if not owners}
    for i, (optimizer, on) in enumerate(optimizers):
        if on == "rest":
            chosen[i] = set(rest)
            for n in rest:
                taken[n].append(optimizer)
        if not chosen[i]:
            shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
            left = "nothing is left for on='rest'" if on == "rest" else f"on={on!r} matches none of {shown}"
            raise SoonerError(f"{optimizer} takes no parameter of this model: {left}; change or drop it")
    for n, owners in taken.items():
        if len(owners) > 1:
            raise SoonerError(
                f"parameter {n!r} has two optimizers, {owners[0]} and {owners[1]}; "
                "divide the model with on='pattern' and on='rest'"
            )
        if not owners:
            raise SoonerError(f"parameter {n!r} has no optimizer; add a part with on='rest'")
    return chosen
