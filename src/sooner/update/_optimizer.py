"""The one optimizer class behind every update part: a `torch.optim.Optimizer` whose step is a chain of rules.

A part subclasses `ChainOptimizer` and says in `rule` which chain a parameter group runs and in `check` which
hyper-parameters are allowed. Everything else (groups, schedulers, state files, missing gradients, half precision) is
handled here, once.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypedDict

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError, nearest
from sooner.execute import Cohort, Work, run
from sooner.execute.shards import spread_of, whole
from sooner.gradient_norm import gradient_norm
from sooner.objective import Objective
from sooner.part import Part, check_range
from sooner.transform import Chain, Clock, Reduction, Transform, chain
from sooner.unwrap import unwrapped
from sooner.update._saved_state import check_state, not_a_state, restore_precision

NON_FINITE = ("pass", "skip", "raise")


class Options(TypedDict, total=False):
    """What every update part takes besides its own hyper-parameters.

    Attributes:
        maximize: ascend instead of descend, default False.
        stochastic_rounding: round bfloat16 parameters up or down at random so that the mean is kept, default False:
            to the nearest, which loses steps below 1/256 of a weight.
        non_finite: what to do about a step whose gradients hold NaN or infinity: "pass" takes it as torch does
            (default), "skip" leaves parameters and state alone, "raise" refuses it. The last two read all gradients
            once more, wait for the device, and count such steps in ``optimizer.non_finite_steps``.
    """

    maximize: bool
    stochastic_rounding: bool
    non_finite: Literal["pass", "skip", "raise"]


_layout_of = operator.attrgetter("layout")


class ChainOptimizer(Part, Optimizer):
    """Base of the update parts.

    Args:
        params: what `torch.optim` takes: parameters, named parameters or groups of them; or a whole `nn.Module`.
        defaults: hyper-parameters of every group; ``lr`` is among them.
        maximize, stochastic_rounding, non_finite: see `Options`.

    Attributes:
        gradient_rules: rules that the gradient station put before the chain of every group.
        non_finite_steps: steps whose gradients were not finite, counted unless `non_finite` is "pass".
        last_step_taken: whether the last call of `step` moved the weights; not where `non_finite` is "skip" and has
            left the step out. Schedules, EMA and gradient parts go by it.

    Raises:
        SoonerError: no parameters, a parameter that is listed twice or is not floating point, or a hyper-parameter out
            of range.
    """

    station: ClassVar[str] = "update"
    owns = frozenset({"step"})
    last_step_taken = True

    def __init__(
        self,
        params: Any,
        defaults: dict[str, Any],
        *,
        maximize: bool = False,
        stochastic_rounding: bool = False,
        non_finite: Literal["pass", "skip", "raise"] = "pass",
    ) -> None:
        if non_finite not in NON_FINITE:
            raise SoonerError(
                f"{self.name()}: non_finite={non_finite!r}{nearest(str(non_finite), NON_FINITE)} is not one of "
                f"{', '.join(NON_FINITE)}; choose one of them"
            )
        self._layout: dict[int, tuple[list[Cohort], list[Tensor]]] = {}  # per share: cohorts, and what never stepped
        self._states: list[dict[str, Tensor]] = []
        self.gradient_rules: tuple[Transform, ...] = ()
        self.non_finite = non_finite
        self.non_finite_steps = 0
        self.check(defaults)
        groups = self.groups(params)
        if check_parameters(self.name(), groups) == 0:
            raise SoonerError(
                f"{self.name()}: the parameter list is empty; a generator can be used only once, "
                "so pass model.parameters() anew"
            )
        super().__init__(groups, {**defaults, "maximize": maximize, "stochastic_rounding": stochastic_rounding})

    @classmethod
    def name(cls) -> str:
        """The part's name, which is the name of its file."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range; called with the defaults and with every group. Parts extend it.

        Raises:
            SoonerError: a hyper-parameter is outside its range.
        """
        check_range(cls.name(), "lr", group["lr"], 0.0, math.inf)

    def groups(self, params: Any) -> list[dict[str, Any]]:
        """Turn what the user passed into parameter groups. Parts that treat parameters differently override this."""
        if isinstance(params, torch.nn.Module):
            params = params.parameters()
        if isinstance(params, Tensor | str | set | frozenset) or not isinstance(params, Iterable):
            raise SoonerError(
                f"{self.name()}: params must be a model or an ordered collection of its parameters, "
                f"not a {type(params).__name__}; pass model.parameters()"
            )
        listed = list(params)
        return listed if listed and isinstance(listed[0], dict) else [{"params": listed}]

    def rule(self, group: dict[str, Any]) -> Chain:
        """Return the chain that this parameter group runs, with the group's present hyper-parameters."""
        raise TypeError(f"{type(self).__name__} defines no rule")

    def shares(self, group: dict[str, Any]) -> Sequence[tuple[list[Tensor], dict[str, Any]]]:
        """Divide a group's parameters among the settings that `rule` is asked with; the groups stay the caller's.

        Returns:
            Pairs of parameters and settings, a group's hyper-parameters with ``lr``; every parameter is in one pair.
        """
        return [(group["params"], group)]

    def full_rule(self, settings: dict[str, Any]) -> Chain:
        """Return the chain of these settings with what the gradient station put before it."""
        own = self.rule(settings)
        return chain(*self.gradient_rules, *own.rules) if self.gradient_rules else own

    @property
    def gradient_norm(self) -> Tensor:
        """The global L2 norm of the gradients of the last step, 0-d, for logging; nothing waits for the device.

        Of the gradients as the step found them: averaged over workers, without the scale of a GradScaler, not clipped
        yet. Read it after `step`. The first reading computes it from ``.grad``, so it has to come before `zero_grad`;
        every step from then on keeps its norm (at the price of one pass over the gradients), also for after
        `zero_grad`. Of sharded gradients the norm of the whole ones is returned: all processes read it together.

        Raises:
            SoonerError: the gradients are gone, and nobody had asked for their norm before that step.
        """
        return gradient_norm([unwrapped(self)])  # Lightning's wrappers inherit from the class they wrap

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step. Parameters without a gradient are left alone, as torch does.

        Args:
            closure: evaluates the loss, goes back through it and returns it, as PyTorch has it; optional. An
                `Objective` is not evaluated: the gradients are there already.

        Returns:
            What the closure returned, or None.

        Raises:
            SoonerError: sparse gradients, or gradients that are not finite where `non_finite` is "raise".
        """
        result = None
        if closure is not None and not isinstance(closure, Objective):
            with torch.enable_grad():
                result = closure()
        if self.non_finite == "pass" or self._all_finite():
            self._take_step()
        return result

    def _all_finite(self) -> bool:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        dense = [g for g in gradients if g.layout == torch.strided and g.numel()]
        largest = whole(torch.nn.utils.get_total_norm(dense, math.inf))
        if bool(torch.isfinite(largest)):
            return True
        self.non_finite_steps += 1
        self.last_step_taken = False
        if self.non_finite == "raise":
            raise SoonerError(
                f"{self.name()}: the gradients hold NaN or infinity (step refused, nothing was changed); lower the "
                'learning rate, clip the gradients, or pass non_finite="skip"'
            )
        return False

    def _take_step(self) -> None:
        self.last_step_taken = True
        shares = [share for group in self.param_groups for share in self.shares(group)]
        chains = [self.full_rule(settings) for _, settings in shares]
        if not self._state_is_ours():
            self._layout = {}
        found = [self._cohorts(i, s[0], c) for i, (s, c) in enumerate(zip(shares, chains, strict=True))]
        self._states = list(self.state.values())
        work = [  # all groups fit: from here on the step is taken
            Work(
                cohort,
                rules,
                Clock(self._advance(cohort), settings["lr"]),
                settings["maximize"],
                settings["stochastic_rounding"],
                gradients=gradients,
            )
            for (_, settings), rules, members in zip(shares, chains, found, strict=True)
            for cohort, gradients in members
        ]
        shared = any(isinstance(rule, Reduction) and rule.over == "model" for rule in self.gradient_rules)
        if shared and len(_alike(work)) > 1:
            # one norm for groups that run different chains: the rules for gradients go ahead, over all of them
            run([replace(one, chain=Chain(self.gradient_rules), moves=False) for one in work])
            work = [_rest(one, len(self.gradient_rules)) for one in work]
        for some in _alike(work):
            run(some)

    def _advance(self, cohort: Cohort) -> int:
        cohort.step += 1
        self.state[cohort.params[0]]["step"].fill_(cohort.step)  # one tensor, shared by all parameters of the cohort
        return cohort.step

    def _state_is_ours(self) -> bool:
        """Whether nobody put other state in the place of the flat buffers' views since the last step."""
        try:
            return (
                len(self.state) == len(self._states)
                and all(
                    all(map(operator.is_, map(operator.itemgetter(slot), cohort.states), views))
                    for cohorts, _ in self._layout.values()
                    for cohort in cohorts
                    for slot, views in cohort.shown.items()
                )
                and all(map(operator.is_, self.state.values(), self._states))
            )
        except KeyError:
            return False

    def _cohorts(self, index: int, params: list[Tensor], rules: Chain) -> list[tuple[Cohort, list[Tensor]]]:
        """Return the share's cohorts that have gradients, with these, regrouping when the layout no longer fits."""
        known, idle = self._layout.get(index, ([], []))
        found = [(cohort, cohort.gradients()) for cohort in known]
        kinds = [set(map(type, gradients)) for _, gradients in found]
        complete = len(idle) + sum(len(c.params) for c in known) == len(params)
        steady = complete and all(p.grad is None for p in idle) and all(c.slots == rules.slots for c in known)
        if not steady or any(type(None) in kind and len(kind) > 1 for kind in kinds):
            self._regroup(index, params, rules)
            found = [(cohort, cohort.gradients()) for cohort in self._layout[index][0]]
        stepping = [(cohort, gradients) for cohort, gradients in found if gradients[0] is not None]
        for _, gradients in stepping:
            if set(map(_layout_of, gradients)) != {torch.strided}:
                raise SoonerError(f"{self.name()} takes no sparse gradients; build the embedding with sparse=False")
        return stepping  # type: ignore[return-value]

    def _regroup(self, index: int, params: list[Tensor], rules: Chain) -> None:
        together: dict[tuple[Any, ...], list[Tensor]] = {}
        for p in params:
            steps = int(self.state[p]["step"]) if "step" in self.state.get(p, {}) else 0
            together.setdefault((p.grad is not None, p.device, p.dtype, steps, spread_of(p)), []).append(p)
        cohorts, idle = [], []
        for (stepping, _device, _dtype, steps, _spread), members in together.items():
            if not stepping and steps == 0:
                idle += members  # never had a gradient: no state, as torch
                continue
            cohort = Cohort(members, self.state, rules, steps)
            self._show_state(cohort)
            cohorts.append(cohort)
        self._layout[index] = cohorts, idle

    def _show_state(self, cohort: Cohort) -> None:
        """Let ``optimizer.state[p]`` show the cohort's flat buffers as ordinary per-parameter tensors."""
        step = torch.tensor(float(cohort.step))
        cohort.states = [{"step": step} for _ in cohort.params]
        for slot, views in cohort.shown.items():
            for kept, view in zip(cohort.states, views, strict=True):
                kept[slot] = view
        self.state.update(zip(cohort.params, cohort.states, strict=True))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as `torch.optim.Optimizer.add_param_group`.

        Raises:
            SoonerError: the group's parameters or hyper-parameters do not suit the method.
        """
        check_parameters(self.name(), [param_group])
        self.check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        self._layout = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state as torch does. The step count, one tensor per cohort here, becomes one per parameter."""
        content = super().state_dict()
        content["state"] = {
            number: {name: value.clone() if name == "step" else value for name, value in kept.items()}
            for number, kept in sorted(content["state"].items())
        }
        return content

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave, or the state of the same method of torch.optim. Nothing changes unless all fits.

        Raises:
            SoonerError: the state belongs to another method, other groups or other shapes.
        """
        if not isinstance(state_dict, dict):
            raise not_a_state(self.name())
        loaded: list[dict[str, Any]] = []

        def check(_: Optimizer, hooked: dict[str, Any]) -> None:
            check_state(self, hooked)
            loaded.append(hooked)

        before = self.param_groups
        handle = self.register_load_state_dict_pre_hook(check)  # runs after the user's hooks, which may adapt the state
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        for ours, group in zip(before, self.param_groups, strict=True):
            for name, value in ours.items():
                group.setdefault(name, value)  # torch.optim knows fewer hyper-parameters
        restore_precision(self, loaded[0])
        self._layout = {}

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("gradient_rules", "non_finite", "non_finite_steps")}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._layout = {}
        self._states = []


def _alike(work: Sequence[Work]) -> list[list[Work]]:
    """Return the work in groups that run the same kinds of rules, as the executors want it."""
    groups: dict[tuple[type, ...], list[Work]] = {}
    for one in work:
        groups.setdefault(tuple(map(type, one.chain.rules)), []).append(one)
    return list(groups.values())


def _rest(work: Work, done: int) -> Work:
    """Return what is left to do after the first rules, whose result is in the cohort's update vector."""
    rules = Chain(work.chain.rules[done:])
    return replace(work, chain=rules, maximize=False, gradients=work.cohort.views(work.cohort.update))


def check_parameters(name: str, groups: list[dict[str, Any]]) -> int:
    """Refuse anything but floating-point tensors that are listed once; `params` of every group becomes a list.

    Returns:
        The number of parameters.

    Raises:
        SoonerError: names the method, the parameter and what is wrong with it.
    """
    seen: set[int] = set()
    for group in groups:
        if isinstance(group["params"], set | frozenset):
            raise SoonerError(f"{name}: params is a set, whose order changes from run to run; pass a list")
        group["params"] = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        for entry in group["params"]:
            label, p = entry if isinstance(entry, tuple) else (f"number {len(seen)}", entry)
            if not isinstance(p, Tensor):
                raise SoonerError(f"{name}: params holds a {type(p).__name__}; pass tensors such as model.parameters()")
            if not p.is_floating_point():
                raise SoonerError(f"{name}: parameter {label} is {p.dtype}; pass floating-point parameters only")
            if id(p) in seen:
                raise SoonerError(f"{name}: parameter {label} is listed twice; list every parameter once")
            seen.add(id(p))
    return len(seen)
