"""The one optimizer class behind every update part: a `torch.optim.Optimizer` whose step is a chain of rules.

A part subclasses `ChainOptimizer` and says in `rule` which chain a parameter group runs. Everything else (groups, schedulers, state files,
missing gradients, half precision) is handled here, once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.execute import Cohort, Work, run_eager, state_dtype
from sooner.part import Part, check_range
from sooner.transform import Chain, Clock


class ChainOptimizer(Part, Optimizer):
    """Base of the update parts.

    Args:
        params: what `torch.optim` takes: parameters, named parameters or groups of them; or a whole `nn.Module`.
        defaults: hyper-parameters of every group; ``lr`` is among them.
        maximize: ascend instead of descend.

    Raises:
        SoonerError: no parameters, a parameter that is listed twice, a parameter that is not floating point, or ``lr`` out of range.
    """

    station: ClassVar[str] = "update"
    owns = frozenset({"step"})

    def __init__(self, params: Any, defaults: dict[str, Any], *, maximize: bool = False) -> None:
        check_range(self.name(), "lr", defaults["lr"], 0.0, math.inf)
        groups = self.groups(params)
        _check_parameters(self.name(), groups)
        self._layout: dict[int, list[Cohort]] = {}
        super().__init__(groups, {**defaults, "maximize": maximize})

    @classmethod
    def name(cls) -> str:
        """The part's name, which is the name of its file."""
        return cls.__module__.rpartition(".")[2]

    def groups(self, params: Any) -> list[dict[str, Any]]:
        """Turn what the user passed into parameter groups. Parts that treat parameters differently override this."""
        if isinstance(params, torch.nn.Module):
            params = params.parameters()
        if isinstance(params, Tensor | str) or not isinstance(params, Iterable):
            raise SoonerError(
                f"{self.name()}: params must be a model or an iterable of its parameters, not {type(params).__name__}; "
                "pass model.parameters()"
            )
        listed = list(params)
        return listed if listed and isinstance(listed[0], dict) else [{"params": listed}]

    def rule(self, group: dict[str, Any]) -> Chain:
        """Return the chain that this parameter group runs, with the group's present hyper-parameters."""
        raise TypeError(f"{type(self).__name__} defines no rule")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step. Parameters without a gradient are left alone, as torch does.

        Args:
            closure: evaluates the model again and returns the loss; optional.

        Returns:
            What the closure returned, or None.
        """
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        alike: dict[tuple[type, ...], list[Work]] = {}
        for index, group in enumerate(self.param_groups):
            chain = self.rule(group)
            for cohort in self._cohorts(index, group, chain):
                clock = Clock(self._advance(cohort), group["lr"])
                kinds = tuple(type(rule) for rule in chain.rules)
                alike.setdefault(kinds, []).append(Work(cohort, chain, clock, group["maximize"]))
        for work in alike.values():
            run_eager(work)
        return result

    def _advance(self, cohort: Cohort) -> int:
        cohort.step += 1
        self.state[cohort.params[0]]["step"].fill_(cohort.step)  # one tensor, shared by all parameters of the cohort
        return cohort.step

    def _cohorts(self, index: int, group: dict[str, Any], chain: Chain) -> list[Cohort]:
        """Return the cohorts of the group that have gradients, regrouping when a different set of parameters has them."""
        stepping = [c for c in self._layout.get(index, []) if c.params[0].grad is not None]
        present = [p for p in group["params"] if p.grad is not None]
        if sum(len(c.params) for c in stepping) == len(present) and all(p.grad is not None for c in stepping for p in c.params):
            return stepping
        return self._regroup(index, group, chain, present)

    def _regroup(self, index: int, group: dict[str, Any], chain: Chain, present: list[Tensor]) -> list[Cohort]:
        for p in present:
            if p.grad.layout != torch.strided:  # type: ignore[union-attr]
                raise SoonerError(f"{self.name()} takes no sparse gradients; build the embedding with sparse=False")
        together: dict[tuple[Any, ...], list[Tensor]] = {}
        have = set(present)
        for p in group["params"]:
            steps = int(self.state[p]["step"]) if "step" in self.state.get(p, {}) else 0
            together.setdefault((p in have, p.device, p.dtype, steps), []).append(p)
        cohorts = []
        for (stepping, _device, _dtype, steps), params in together.items():
            if not stepping and steps == 0:
                continue  # never had a gradient: no state, as torch
            cohort = Cohort(params, self.state, chain.slots, steps)
            self._show_state(cohort)
            cohorts.append(cohort)
        self._layout[index] = cohorts
        return [c for c in cohorts if c.params[0] in have]

    def _show_state(self, cohort: Cohort) -> None:
        """Let ``optimizer.state[p]`` show the cohort's flat buffers as ordinary per-parameter tensors."""
        step = torch.tensor(float(cohort.step))
        views = {slot: cohort.views(flat) for slot, flat in cohort.state.items()}
        for i, p in enumerate(cohort.params):
            self.state[p] = {"step": step, **{slot: views[slot][i] for slot in cohort.slots}}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as `torch.optim.Optimizer.add_param_group`."""
        super().add_param_group(param_group)
        self._layout = {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave. Nothing is changed unless all of it fits.

        Raises:
            SoonerError: the state belongs to another method, other groups or other shapes.
        """
        self._check_state(state_dict)
        super().load_state_dict(state_dict)
        # torch casts state to the parameter's dtype; ours stays in float32 for half-precision parameters, so it is put back unrounded
        numbers = [n for g in state_dict["param_groups"] for n in g["params"]]
        params = [p for g in self.param_groups for p in g["params"]]
        for number, p in zip(numbers, params, strict=True):
            for slot, value in state_dict["state"].get(number, {}).items():
                home = {"device": "cpu", "dtype": torch.float32} if slot == "step" else {"device": p.device, "dtype": state_dtype(p.dtype)}
                self.state[p][slot] = torch.as_tensor(value).detach().to(**home, copy=True)
        self._layout = {}

    def _check_state(self, state_dict: dict[str, Any]) -> None:
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            theirs = [len(g["params"]) for g in state_dict["param_groups"]]
            ours = [len(g["params"]) for g in self.param_groups]
            if theirs != ours:
                raise SoonerError(f"{self.name()}: the state is for groups of {theirs} parameters, this optimizer has {ours}")
            numbers = [n for g in state_dict["param_groups"] for n in g["params"]]
            members = [(p, set(self.rule(g).slots)) for g in self.param_groups for p in g["params"]]
            for number, (p, slots) in zip(numbers, members, strict=True):
                saved = state_dict["state"].get(number, {})
                if saved and set(saved) - {"step"} != slots:
                    raise SoonerError(
                        f"{self.name()}: the state holds {sorted(set(saved) - {'step'})} where this method keeps {sorted(slots)}; "
                        "it was saved by another method"
                    )
                for slot in slots & set(saved):
                    if saved[slot].shape != p.shape:
                        raise SoonerError(
                            f"{self.name()}: {slot} of parameter {number} has shape {tuple(saved[slot].shape)}, "
                            f"the parameter has {tuple(p.shape)}; load the state of the same model"
                        )
            return
        raise SoonerError(f"{self.name()}: this is not an optimizer state; pass what optimizer.state_dict() returned")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._layout = {}


def _check_parameters(name: str, groups: list[dict[str, Any]]) -> None:
    seen: set[int] = set()
    total = 0
    for group in groups:
        if isinstance(group["params"], Tensor):
            group["params"] = [group["params"]]
        group["params"] = list(group["params"])
        for entry in group["params"]:
            label, p = entry if isinstance(entry, tuple) else (f"number {total}", entry)
            total += 1
            if not isinstance(p, Tensor):
                raise SoonerError(f"{name}: params holds a {type(p).__name__}; pass tensors, such as model.parameters() gives")
            if not p.is_floating_point():
                raise SoonerError(f"{name}: parameter {label} is {p.dtype}, which has no gradient steps; pass floating-point ones")
            if id(p) in seen:
                raise SoonerError(f"{name}: parameter {label} is listed twice; list every parameter once")
            seen.add(id(p))
    if total == 0:
        raise SoonerError(f"{name}: the parameter list is empty; a generator can be used only once, so pass model.parameters() anew")
