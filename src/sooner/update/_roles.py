"""What an optimizer knows of its parameters: what each is, which settings it gets, and a table that says so."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from sooner.kinds import WEIGHTS, Role, bare_name, role_by_shape, roles, roles_by_name

DECAYS = ("all", "matrices")
"""What weight decay is for: everything, or what multiplies (`sooner.kinds.WEIGHTS`)."""

_shape_of = operator.attrgetter("shape")

Divided = list[tuple[list[Tensor], dict[str, Any]]]


class Roles:
    """The roles of an optimizer's parameters, looked up in the model, in the names or in the shapes, in this order.

    Whatever is asked is checked against the parameters and shapes of the moment, so that groups may be edited and
    parameters replaced or resized at any time. The model is not kept alive.

    Args:
        model: whose modules say what each parameter is; None where there is none.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._model = weakref.ref(model) if model is not None else None
        self._known: MutableMapping[Tensor, tuple[Role, torch.Size, bool]] = WeakTensorKeyDictionary()
        self._divided: dict[Tensor, tuple[list[Tensor], list[torch.Size] | None, list[Any], Divided]] = {}

    @property
    def of_model(self) -> bool:
        """Whether a model says what the parameters are."""
        return self._model is not None

    def of(self, p: Tensor, groups: Sequence[dict[str, Any]]) -> Role:
        """Return a parameter's role; `groups` are all of the optimizer's."""
        known = self._known.get(p)
        if known is None or known[1] != p.shape:
            self._learn(groups)
            known = self._known[p]
        return known[0]

    def _learn(self, groups: Sequence[dict[str, Any]]) -> None:
        model = self._model() if self._model is not None else None
        of_model = roles(model) if model is not None else {}
        named = [
            (name, p)
            for group in groups
            if len(group.get("param_names", ())) == len(group["params"])  # else the list was edited, the names were not
            for name, p in zip(group.get("param_names", ()), group["params"], strict=True)
        ]
        of_names = roles_by_name(named)
        for group in groups:
            for p in group["params"]:
                before = self._known.get(p)
                if before is None or before[1] != p.shape:
                    role = of_model.get(p) or of_names.get(p) or (before[0] if before and before[0].name else None)
                    self._known[p] = role or role_by_shape(p), p.shape, p in of_model

    def divided(
        self,
        group: dict[str, Any],
        keys: Sequence[str],
        groups: Sequence[dict[str, Any]],
        divide: Callable[[], Divided],
    ) -> Divided:
        """Return what `divide` returned for the group, asked again only when its parameters, shapes or keys changed."""
        params = group["params"]
        if not params:
            return []
        settings = [group.get(key) for key in keys]
        kept = self._divided.get(params[0])
        same = kept and kept[2] == settings and len(kept[0]) == len(params) and all(map(operator.is_, kept[0], params))
        if kept and same and (kept[1] is None or kept[1] == list(map(_shape_of, params))):
            return kept[3]
        found = divide()
        of_model = all(self._known[p][2] for p in params)  # whatever their shapes
        shapes = None if of_model and not group.get("split") and not group.get("heads") else [p.shape for p in params]
        present = {other["params"][0] for other in groups if other["params"]}
        self._divided = {first: entry for first, entry in self._divided.items() if first in present}
        self._divided[params[0]] = list(params), shapes, settings, found
        return found

    def by_decay(self, group: dict[str, Any], groups: Sequence[dict[str, Any]]) -> Divided:
        """Return a group's shares where only what multiplies decays: with its settings, and with no weight decay."""

        def divide() -> Divided:
            return self.split_by_decay(group["params"], {}, groups)

        return [(some, {**group, **own}) for some, own in self.divided(group, ("decay",), groups, divide)]

    def split_by_decay(
        self, params: Sequence[Tensor], settings: dict[str, Any], groups: Sequence[dict[str, Any]]
    ) -> Divided:
        """Return the parameters that decay with these settings, and the others with no weight decay beside them."""
        decayed = [p for p in params if self.of(p, groups).kind in WEIGHTS]
        chosen = set(decayed)
        others = [p for p in params if p not in chosen]
        both = [(decayed, settings), (others, {**settings, "weight_decay": 0.0})]
        return [(some, own) for some, own in both if some]

    def __getstate__(self) -> dict[str, Any]:
        return {"known": [(p, *known) for p, known in self._known.items()]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(None)  # type: ignore[misc]
        for p, *known in state["known"]:
            self._known[p] = tuple(known)


def explained(
    roles: Roles,
    groups: Sequence[dict[str, Any]],
    shares: Iterable[tuple[list[Tensor], dict[str, Any]]],
    rule_of: Callable[[Tensor, dict[str, Any]], str],
) -> str:
    """Return a table of an optimizer's parameters: what each is, and which rule steps it with which settings."""
    settings = {p: own for some, own in shares for p in some}
    rows = [("parameter", "shape", "kind", "rule", "lr", "weight decay", "why")]
    for number, p in enumerate(p for group in groups for p in group["params"]):
        role, own = roles.of(p, groups), settings[p]
        decay = f"{own['weight_decay']:g}" if "weight_decay" in own else "-"
        shape = " x ".join(map(str, p.shape)) or "number"
        name = bare_name(role.name) or f"number {number}"
        rows.append((name, shape, role.kind, rule_of(p, own), f"{float(own['lr']):g}", decay, role.why))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(word.ljust(w) for word, w in zip(row, widths, strict=True)).rstrip() for row in rows)
