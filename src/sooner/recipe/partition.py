"""Which optimizer takes which parameter: every one that is trained has exactly one."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import nn

from sooner.error import SoonerError


def partition(optimizers: Sequence[tuple[str, str | None]], model: nn.Module) -> list[set[str]]:
    """Return, per optimizer, the names of the parameters it takes.

    Frozen parameters need no optimizer. One that a pattern covers goes along all the same, so that it is trained if it
    is unfrozen later; until then an optimizer leaves it alone.

    Args:
        optimizers: of each its name and which parameters it takes: a pattern, ``!`` and a pattern, ``rest``, or None.
        model: the model.

    Raises:
        SoonerError: a parameter with no or two optimizers, or an optimizer without a parameter to train.
    """
    names = [n for n, _ in model.named_parameters()]
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    if not trained:
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
        if not chosen[i] & trained:
            if chosen[i]:
                raise SoonerError(f"{optimizer} takes only frozen parameters of this model; change or drop it")
            shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
            left = "nothing is left for on='rest'" if on == "rest" else f"on={on!r} matches none of {shown}"
            raise SoonerError(f"{optimizer} takes no parameter of this model: {left}; change or drop it")
    for n, owners in taken.items():
        if len(owners) > 1:
            raise SoonerError(
                f"parameter {n!r} has two optimizers, {owners[0]} and {owners[1]}; "
                "divide the model with on='pattern' and on='rest'"
            )
        if not owners and n in trained:
            raise SoonerError(f"parameter {n!r} has no optimizer; add a part with on='rest'")
    return chosen
