"""State files of other parameter lists: in another order, or of a model that has gained or lost parameters since.

Parameters are matched by name where file and optimizer have names, otherwise by their place in the list.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sooner.error import SoonerError
from sooner.foundation.model_names import plain_names

Groups = list[dict[str, Any]]


class Difference(NamedTuple):
    """What loading a state left open.

    Attributes:
        new: parameters that the file does not know; they start afresh.
        gone: parameters of the file that this optimizer does not have; their state was left out.
    """

    new: list[str]
    gone: list[str]


def matched(
    method: str, state_dict: dict[str, Any], groups: Groups, *, strict: bool
) -> tuple[dict[str, Any], Difference]:
    """Return a saved state as one for these groups, with parameters numbered as they are here.

    Args:
        method: name of the method, for messages.
        state_dict: what was saved.
        groups: of the optimizer that loads it.
        strict: whether file and optimizer must have the same parameters in the same groups.

    Raises:
        SoonerError: they have not, or it can't be told which parameter is which.
    """
    saved: Groups = state_dict["param_groups"]
    theirs, ours = _names(saved), _names(groups)
    if theirs is None or ours is None:
        if strict or [len(g["params"]) for g in saved] == [len(g["params"]) for g in groups]:
            return state_dict, Difference([], [])
        theirs, ours = _places(method, saved, groups)
    numbers = dict(zip(theirs, (n for group in saved for n in group["params"]), strict=True))
    homes = dict(zip(theirs, (i for i, group in enumerate(saved) for _ in group["params"]), strict=True))
    difference = Difference([n for n in ours if n not in numbers], [n for n in theirs if n not in set(ours)])
    if strict and (difference.new or difference.gone):
        raise SoonerError(f"{method}: the state {_worded(difference)}; pass strict=False to load what fits")
    state, settings, position = {}, [], 0
    for i, group in enumerate(groups):
        names = ours[position : position + len(group["params"])]
        for number, name in enumerate(names, position):
            if numbers.get(name) in state_dict["state"]:
                state[number] = state_dict["state"][numbers[name]]
        settings.append(_settings(method, group, [homes[n] for n in names if n in homes], saved, i, strict=strict))
        settings[-1]["params"] = list(range(position, position + len(names)))
        position += len(names)
    return {**state_dict, "state": state, "param_groups": settings}, difference


def _names(groups: Groups) -> list[str] | None:
    """Return the names of all parameters without what wrappers put before them; None unless all have one."""
    if not all(len(group.get("param_names") or ()) == len(group["params"]) for group in groups):
        return None
    return list(plain_names(name for group in groups for name in group.get("param_names") or ()).values())


def _settings(
    method: str, group: dict[str, Any], homes: list[int], saved: Groups, i: int, *, strict: bool
) -> dict[str, Any]:
    """Return the hyper-parameters that a group goes on with: those of the saved group that its parameters come from."""
    if len(set(homes)) > 1 and strict:
        raise SoonerError(
            f"{method}: parameters of group {i} were saved in groups {', '.join(map(str, sorted(set(homes))))}, so it "
            "is open which settings go on; divide them as they were saved, or pass strict=False to keep those of now"
        )
    keep: dict[str, Any] = {name: group[name] for name in ("params", "param_names") if name in group}
    return {**(saved[homes[0]] if len(set(homes)) == 1 else group), **keep}


def _places(method: str, saved: Groups, groups: Groups) -> tuple[list[str], list[str]]:
    """Return stand-ins for names, made of group and place, where whole groups came or went at the end of the list."""
    sizes = [[len(group["params"]) for group in some] for some in (saved, groups)]
    if any(a != b for a, b in zip(*sizes, strict=False)):
        raise SoonerError(
            f"{method}: the state is for groups of {sizes[0]} parameters, this optimizer has {sizes[1]}, and without "
            "names it is open which is which; pass model.named_parameters() when saving and loading, or put new ones "
            "into groups behind the others"
        )
    theirs, ours = ([f"number {k} of group {i}" for i, n in enumerate(some) for k in range(n)] for some in sizes)
    return theirs, ours


def _worded(difference: Difference) -> str:
    known = [("knows nothing of", difference.new), ("holds what this optimizer has not:", difference.gone)]
    return " and ".join(f"{words} {', '.join(names[:4])}{', …' * (len(names) > 4)}" for words, names in known if names)
