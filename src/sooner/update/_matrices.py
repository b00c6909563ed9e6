"""What methods for hidden weight matrices share: which weights these are, and AdamW for all others."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Unpack

from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.kinds import Role, roles
from sooner.part import check_range
from sooner.transform import Chain, Descend, chain, decay
from sooner.update._form import AS_STORED, Form, Split, check_split, fits, form_of
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options
from sooner.update._parameters import check_parameters
from sooner.update._roles import Divided
from sooner.update.adamw import AdamMoments, check_adam

Select = Callable[[str, Tensor], bool]


def hidden_matrices(model: nn.Module) -> set[Tensor]:
    """Return a model's hidden weight matrices: what `sooner.kinds.roles` calls a matrix, and no empty one."""
    return {p for p, role in roles(model).items() if _suits(p, role)}


class MatrixOptimizer(ChainOptimizer):
    """Base of the methods that step hidden weight matrices their own way and everything else with AdamW.

    What a matrix is, is said by `sooner.kinds`. The parameter groups are the caller's: one that holds both matrices and
    other parameters stays one group, whose ``lr`` is that of the matrices. A group says under the method's name whether
    its matrices get the method, such as ``"muon": False`` for a group that AdamW steps with the group's own ``lr``.
    A part says in `matrix_rule` what happens to matrices.

    Args:
        params: a model, parameters, named parameters or groups.
        defaults: hyper-parameters of every group; ``lr``, ``adamw_lr``, ``betas``, ``eps`` and ``weight_decay`` are
            among them. ``adamw_lr`` keeps its ratio to ``lr`` when a schedule changes that.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices.
        split, heads: see `sooner.update.muon.Muon`.
        **options: see `sooner.update._options.Options`.

    Attributes:
        adamw_share: learning rate of everything else, as a share of that of the matrices, where ``adamw_lr`` is None.
        adamw_betas: of AdamW, for groups to come, where the method has a momentum of its own: schedulers that cycle
            momentum look for "betas" in ``defaults`` first, and would leave that of the matrices alone.
        needs_matrices: whether a model without a hidden matrix is refused, or stepped by AdamW alone.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    adamw_share: ClassVar[float] = 1.0
    needs_matrices: ClassVar[bool] = True

    def __init__(
        self,
        params: Any,
        defaults: dict[str, Any],
        select: Select | None,
        split: Split | None = None,
        heads: Split | None = None,
        **options: Unpack[Options],
    ) -> None:
        name = self.name()
        if select is not None and not isinstance(params, nn.Module):
            raise SoonerError(
                f'{name}: select= chooses from a model; give groups with "{name}": False instead, or the model'
            )
        self._selected = _selected(name, params, select) if select is not None else None
        self._told = False
        self.adamw_betas = defaults["betas"]
        super().__init__(params, {**defaults, name: True, "split": split, "heads": heads}, **options)
        if "momentum" in self.defaults:
            del self.defaults["betas"]
        self._check_matrices(params if isinstance(params, nn.Module) else options.get("model"))

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_adam(cls.name(), group)
        if group["adamw_lr"] is not None:
            check_range(cls.name(), "adamw_lr", group["adamw_lr"], 0.0, math.inf)
        check_split(cls.name(), "split", group.get("split"))
        check_split(cls.name(), "heads", group.get("heads"))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group.

        Raises:
            SoonerError: the group's parameters or hyper-parameters do not suit the method.
        """
        name = self.name()
        check_parameters(name, [param_group])
        told = name in param_group
        group = {**self.defaults, "betas": self.adamw_betas, **param_group}
        self.check(group)
        given = group["adamw_lr"]
        if not group[name] and "lr" not in param_group:
            param_group["lr"] = self.adamw_share * group["lr"] if given is None else given
        if group[name] and given is not None and float(group["lr"]) == 0.0 != float(given):
            raise SoonerError(
                f"{name}: adamw_lr={given} goes with lr in a fixed ratio, and lr=0 has none; give an lr above 0 (a "
                "schedule may begin at 0), or freeze the matrices with requires_grad=False"
            )
        param_group.setdefault("betas", group["betas"])
        param_group.setdefault("adamw_at", float(param_group.get("lr", group["lr"])))
        super().add_param_group(param_group)
        added = self.param_groups[-1]
        self._form_of_all(added)
        if not told and added[name] and not self._told:
            self._tell_what_is_not_seen(added)

    def shares(self, group: dict[str, Any]) -> Divided:
        """Divide a group into matrices, by the way they are stored and split, and the rest at its own learning rate."""
        name = self.name()
        keys = (name, "split", "heads", "decay")
        divided = self.roles.divided(group, keys, self.param_groups, lambda: self._divide(group))
        rest = {"lr": self._adamw_lr(group)}
        return [(some, {**group, **own, **({} if own[name] else rest)}) for some, own in divided]

    def _adamw_lr(self, group: dict[str, Any]) -> Any:
        if not group[self.name()]:
            return group["lr"]
        if group["adamw_lr"] is None:
            return self.adamw_share * group["lr"]
        return group["adamw_lr"] * (group["lr"] / group["adamw_at"] if group["adamw_at"] else 1.0)

    def _divide(self, group: dict[str, Any]) -> Divided:
        """Return a group's parameters with the settings in which they differ from the group."""
        name = self.name()
        together: dict[Form, list[Tensor]] = {}
        rest: list[Tensor] = []
        for p, form in self._form_of_all(group):
            (rest if form is None else together.setdefault(form, [])).append(p)
        matrices: Divided = [(some, {name: True, "form": form}) for form, some in together.items()]
        if not rest:
            return matrices
        if group.get("decay") != "matrices":
            return [*matrices, (rest, {name: False})]
        return [*matrices, *self.roles.split_by_decay(rest, {name: False}, self.param_groups)]

    def _form_of_all(self, group: dict[str, Any]) -> list[tuple[Tensor, Form | None]]:
        """Return every parameter of a group with its form as a matrix; None for what AdamW steps."""
        found = []
        for p in group["params"]:
            role = self.roles.of(p, self.param_groups)
            mine = group[self.name()] and self._takes(p, role)
            form = form_of(self.name(), role, p.shape, group.get("split"), group.get("heads")) if mine else None
            found.append((p, form))
        return found

    def _takes(self, p: Tensor, role: Role) -> bool:
        return role.name in self._selected if self._selected is not None and role.name else _suits(p, role)

    def rule(self, group: dict[str, Any]) -> Chain:
        """Matrices: `matrix_rule`; the rest: AdamW's chain."""
        if group[self.name()]:
            return self.matrix_rule(group, group.get("form", AS_STORED))
        return chain(AdamMoments(group["betas"], group["eps"]), decay(group["weight_decay"]), Descend())

    def matrix_rule(self, group: dict[str, Any], form: Form) -> Chain:
        """Return the chain of matrices that are stored in this form."""
        raise TypeError(f"{type(self).__name__} defines no matrix_rule")

    def rule_name(self, p: Tensor, settings: dict[str, Any]) -> str:
        """Return what steps a parameter, for `explain`: the method and how the weight is divided, or AdamW."""
        if not settings[self.name()]:
            return "adamw"
        told = settings["form"].told(p.shape)
        return f"{self.name()} ({told})" if told else self.name()

    def adapted(self, state_dict: Any) -> Any:
        """Return a state, also of versions that made two groups of one with matrices and others, as one of ours."""
        return self._merged(super().adapted(state_dict))

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("adamw_betas", "_selected", "_told")}
        return {**super().__getstate__(), **own}

    def _check_matrices(self, model: nn.Module | None) -> None:
        """Refuse an optimizer without a matrix, and patterns that split none.

        Of bare tensors beside a model it is the model that must have one: `ZeroRedundancyOptimizer` hands every process
        a part of the parameters.
        """
        name = self.name()
        forms = [one for group in self.param_groups for one in self._form_of_all(group)]
        part = model is not None and not any("param_names" in group for group in self.param_groups)
        some = any(form for _, form in forms) or (part and hidden_matrices(model))  # type: ignore[arg-type]
        if self.needs_matrices and not some:
            found = [(self.roles.of(p, self.param_groups).name or f"number {i}", p) for i, (p, _) in enumerate(forms)]
            raise SoonerError(_no_matrix(name, found))
        names = [self.roles.of(p, self.param_groups).name for p, form in forms if form]
        if model is not None:
            names += [role.name for role in roles(model).values()]
        for argument in ("split", "heads"):
            asked = self.defaults[argument]
            for pattern in asked if isinstance(asked, Mapping) else ():
                if not any(names):
                    raise SoonerError(
                        f"{name}: {argument} goes by names, and these parameters have none; pass the model or "
                        f"model.named_parameters(), or a group with {argument!r}: {asked[pattern]!r}"
                    )
                if not any(fits(pattern, one) for one in names):
                    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
                    raise SoonerError(f"{name}: {argument} has {pattern!r}, which fits none of the matrices {shown}")

    def _tell_what_is_not_seen(self, group: dict[str, Any]) -> None:
        """Warn once where neither a model nor a telling name says which matrices are hidden ones."""
        found = [self.roles.of(p, self.param_groups) for p in group["params"]]
        matrices = [role for role in found if role.kind == "matrix"]
        bare = [role for role in matrices if not role.name]
        numbered = [role.name for role in matrices if re.fullmatch(r"(\d+\.)+weight", role.name)]
        if bare:
            said = f"{len(bare)} of the weights came without names: by shape it"
        elif numbered and not self.roles.of_model and not any(role.kind in ("embedding", "head") for role in found):
            said = f"by names such as {numbered[0]} it"
        else:
            return
        self._told = True
        warnings.warn(
            f"{self.name()}: {said} can't tell embeddings, the output layer and Conv1D weights (stored [in, out]) from "
            "hidden matrices, and takes all of them; pass the model (model= beside groups), or "
            "model.named_parameters(), and see explain()",
            stacklevel=_outside(),
        )

    def _merged(self, state_dict: Any) -> Any:
        """Return a state of an earlier version, whose groups were divided in two, as one of our groups."""
        name = self.name()
        try:
            saved = [dict(group) for group in state_dict["param_groups"]]
            flags = [bool(group[name]) for group in saved]
        except (KeyError, TypeError, AttributeError):
            return state_dict  # none of ours; what is wrong with it is said by whoever loads it
        if len(saved) == len(self.param_groups) or any("adamw_at" in group for group in saved[:1]) or not saved:
            return state_dict
        groups = []
        for ours in self.param_groups:
            forms = self._form_of_all(ours)
            first = [i for i, (_, form) in enumerate(forms) if form]
            second = [i for i, (_, form) in enumerate(forms) if not form]
            wanted = [(some, taken) for some, taken in ((first, True), (second, False)) if some]
            own, numbers = saved[: len(wanted)], [0] * len(forms)
            if [(len(g["params"]), flag) for g, flag in zip(own, flags, strict=False)] != [
                (len(some), taken) for some, taken in wanted
            ]:
                theirs = ", ".join(
                    f"{len(g['params'])}{'' if g[name] else ' others'}" for g in state_dict["param_groups"]
                )
                raise SoonerError(
                    f"{name}: the state is of an earlier version, which took other weights for matrices (groups of "
                    f"{theirs}; here {len(first)} matrices and {len(second)} others); choose those with select=, or "
                    "begin anew"
                )
            for (some, _), group in zip(wanted, own, strict=True):
                for place, number in zip(some, group["params"], strict=True):
                    numbers[place] = number
            groups.append({**own[0], "params": numbers, **(_rates(name, *own) if len(own) == 2 else {})})
            saved, flags = saved[len(wanted) :], flags[len(wanted) :]
        return {**state_dict, "param_groups": groups}


def _selected(name: str, model: nn.Module, select: Select) -> frozenset[str]:
    """Return the names of the parameters that the caller chose, as roles have them."""
    of_all = roles(model)
    found = {p: n for n, p in model.named_parameters()}
    mine = {p: n for p, n in found.items() if select(n, p)}
    unfit = [n for p, n in mine.items() if p.ndim < 2 or not p.numel()]
    if unfit:
        raise SoonerError(f"{name}: parameter {unfit[0]} has fewer than two dimensions; select only weight matrices")
    return frozenset(of_all[p].name for p in mine)


def _outside() -> int:
    """Return how far up the caller's own line is, so that a warning shows that one."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("sooner", "torch"):
        frame, level = frame.f_back, level + 1
    return level


def _suits(p: Tensor, role: Role) -> bool:
    return role.kind == "matrix" and p.ndim >= 2 and p.numel() > 0


def _rates(name: str, matrices: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Return ``adamw_lr`` and what it refers to, so that the rest goes on at the saved ratio to the matrices' rate."""
    for key in ("initial_lr", "lr"):
        if matrices.get(key):
            return {"adamw_lr": others[key], "adamw_at": float(matrices[key])}
    return {}


def _no_matrix(name: str, named: Sequence[tuple[str, Tensor]]) -> str:
    shapes = ", ".join(f"{n} {tuple(p.shape)}" for n, p in named[:4]) + (", …" if len(named) > 4 else "")
    return (
        f"{name} finds no hidden weight matrix among the parameters ({shapes or 'there are none'}); "
        "use adamw or sgd here, or pass the model with select= to choose matrices yourself"
    )
