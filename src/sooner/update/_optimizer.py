"""The one optimizer class behind every update part: a `torch.optim.Optimizer` whose step is a chain of rules.

A part subclasses `ChainOptimizer` and says in `rule` which chain a parameter group runs and in `check` which
hyper-parameters are allowed. Everything else (groups, schedulers, state files, missing gradients, half precision) is
handled here, once.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError, nearest
from sooner.execute import run
from sooner.execute.packed import packs
from sooner.execute.shards import is_sharded, whole
from sooner.foundation.gradient_norm import gradient_norm
from sooner.foundation.heard import refuse_unheard_loss
from sooner.foundation.unwrap import unwrapped
from sooner.objective import Objective
from sooner.part import Part, check_choice, check_flags, check_range
from sooner.transform import Chain, Transform, chain
from sooner.update._cautious import cautious
from sooner.update._graphs import outside_graphs
from sooner.update._matching import Difference
from sooner.update._one_by_one import OneByOne
from sooner.update._options import NON_FINITE, check_state_bits, tell_of_foreign
from sooner.update._parameters import check_parameters
from sooner.update._plan import Plan, Share
from sooner.update._roles import DECAYS, Roles, explained
from sooner.update._saved_state import check_state, match_state, not_a_state, restore_precision

log = logging.getLogger(__name__)


class ChainOptimizer(Part, Optimizer):
    """Base of the update parts.

    Args:
        params: what `torch.optim` takes: parameters, named parameters or groups of them; or a whole `nn.Module`.
        defaults: hyper-parameters of every group; ``lr`` is among them.
        maximize, stochastic_rounding, master_weights, state_bits, non_finite, decay, cautious, model: see `Options`.
        **foreign: keywords of torch.optim that have no meaning here; a warning says so once.

    Attributes:
        gradient_rules: rules that the gradient station put before the chain of every group.
        roles: what each parameter is.
        non_finite_steps: steps whose gradients were not finite, counted unless `non_finite` is "pass".
        last_step_taken: whether the last call of `step` moved the weights; not where `non_finite` is "skip" and has
            left the step out. Schedules, EMA and gradient parts go by it.

    Raises:
        SoonerError: no parameters, a parameter that is listed twice or is not floating point, or a hyper-parameter out
            of range.
    """

    station: ClassVar[str] = "update"
    owns = frozenset({"step"})
    optional_slots: ClassVar[frozenset[str]] = frozenset()
    """State that a parameter may have though its chain does not use it at present."""
    last_step_taken = True

    def __init__(
        self,
        params: Any,
        defaults: dict[str, Any],
        *,
        maximize: bool = False,
        stochastic_rounding: bool = False,
        master_weights: bool = False,
        state_bits: int | None = None,
        non_finite: Literal["pass", "skip", "raise"] = "pass",
        decay: Literal["all", "matrices"] = "all",
        cautious: bool = False,
        model: torch.nn.Module | None = None,
        **foreign: Any,
    ) -> None:
        tell_of_foreign(self.name(), foreign)
        if non_finite not in NON_FINITE:
            raise SoonerError(
                f"{self.name()}: non_finite={non_finite!r}{nearest(str(non_finite), NON_FINITE)} is not one of "
                f"{', '.join(NON_FINITE)}; choose one of them"
            )
        self._plan = Plan(self.name(), self._label)
        self.gradient_rules: tuple[Transform, ...] = ()
        self.non_finite = non_finite
        self.non_finite_steps = 0
        self.roles = Roles(params if isinstance(params, torch.nn.Module) else model)
        if "weight_decay" in defaults:
            defaults = {**defaults, "decay": decay}
        elif decay != "all":
            raise SoonerError(f"{self.name()}: decay={decay!r} says what decays, and {self.name()} has no weight decay")
        switches = {
            "maximize": maximize,
            "stochastic_rounding": stochastic_rounding,
            "master_weights": master_weights,
            "cautious": cautious,
            "state_bits": state_bits,
        }
        self.check({**defaults, **switches})
        groups = self.groups(params)
        if check_parameters(self.name(), groups) == 0:
            raise SoonerError(
                f"{self.name()}: the parameter list is empty; a generator can be used only once, "
                "so pass model.parameters() anew"
            )
        super().__init__(groups, {**defaults, **switches})

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range; called with the defaults and with every group. Parts extend it.

        Raises:
            SoonerError: a hyper-parameter is outside its range.
        """
        check_range(cls.name(), "lr", group["lr"], 0.0, math.inf)
        check_choice(cls.name(), "decay", group.get("decay", "all"), DECAYS)
        check_state_bits(cls.name(), group.get("state_bits"))
        check_flags(cls.name(), **{name: group[name] for name in cls._switches() if name in group})

    @classmethod
    def _switches(cls) -> tuple[str, ...]:
        """Return the names of the hyper-parameters that are on or off."""
        own = inspect.signature(cls).parameters.values()
        return (
            "maximize",
            "stochastic_rounding",
            "master_weights",
            "cautious",
            *(p.name for p in own if type(p.default) is bool),
        )

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
        if group.get("decay", "all") == "all" or not group["weight_decay"]:
            return [(group["params"], group)]
        return self.roles.by_decay(group, self.param_groups)

    def explain(self) -> str:
        """Return a table of who gets what and why: per parameter its kind, rule, learning rate and weight decay."""
        shares = (share for group in self.param_groups for share in self.shares(group))
        return explained(self.roles, self.param_groups, shares, self.rule_name)

    def rule_name(self, p: Tensor, settings: dict[str, Any]) -> str:
        """Return what steps a parameter, in a word or two for `explain`."""
        return self.name()

    def full_rule(self, settings: dict[str, Any]) -> Chain:
        """Return the chain of these settings with what the gradient station put before it."""
        own = self.rule(settings)
        if settings["cautious"]:
            own = cautious(self.name(), own)
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

    @outside_graphs
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
            refuse_unheard_loss(result, [self], self.name())
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
        run(self._plan.work(self._shares(), self.state))

    def _shares(self) -> list[Share]:
        return [
            Share(params, settings, self.full_rule(settings))
            for group in self.param_groups
            for params, settings in self.shares(group)
        ]

    def one_by_one(self, before: OneByOne | None = None) -> OneByOne:
        """Return what takes a step of parameters one by one, with the settings of now; `before`: that of the last step.

        Raises:
            SoonerError: a rule that needs the gradients of all of them.
        """
        steps = OneByOne(self.name(), self._label, self.state) if before is None else before
        steps.begin(self._shares())
        return steps

    def _label(self, parameter: Tensor) -> str:
        """Return how a message calls a parameter: by its name where names were given, else by its number."""
        number = 0
        for group in self.param_groups:
            for i, p in enumerate(group["params"]):
                if p is parameter:
                    names = group.get("param_names", ())
                    return f"parameter {names[i]!r}" if len(names) > i else f"parameter number {number}"
                number += 1
        return "a parameter"

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as `torch.optim.Optimizer.add_param_group`.

        Raises:
            SoonerError: the group's parameters or hyper-parameters do not suit the method.
        """
        check_parameters(self.name(), [param_group])
        self.check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        added = self.param_groups[-1]
        if added["cautious"]:
            for _, settings in self.shares(added):
                self.full_rule(settings)  # refuses here, not at the first step
        if added["state_bits"]:
            self._check_means(added, added["state_bits"])

    def shorten_state(self, bits: int) -> None:
        """Keep running means in few bits from the next step on: ``state_bits`` of all groups that say nothing of it.

        Raises:
            SoonerError: another number of bits, or a rule that keeps no running means.
        """
        check_state_bits(self.name(), bits)
        for group in self.param_groups:
            self._check_means(group, bits)
        for group in [self.defaults, *self.param_groups]:
            group["state_bits"] = group["state_bits"] or bits

    def _check_means(self, group: dict[str, Any], bits: int) -> None:
        if not any(packs(slot) for _, settings in self.shares(group) for slot in self.full_rule(settings).slots):
            raise SoonerError(f"{self.name()} keeps no running means that {bits} bits could hold; leave them out")

    def state_dict(self) -> dict[str, Any]:
        """Return the state as torch does, each tensor with memory of its own size; state of parameters that are in no
        group any more is left out.
        """
        everything, listed = self.state, {p for group in self.param_groups for p in group["params"]}
        self.state = defaultdict(dict, {p: kept for p, kept in everything.items() if p in listed})
        try:
            content = super().state_dict()
        finally:
            self.state = everything
        content["state"] = {
            number: {name: value.clone() if _is_number(value) else value for name, value in kept.items()}
            for number, kept in sorted(content["state"].items())
        }
        return content

    def load_state_dict(  # type: ignore[override]  # torch returns None
        self, state_dict: dict[str, Any], *, strict: bool = True
    ) -> Difference:
        """Load what `state_dict` gave, or the state of the same method of torch.optim. Nothing changes unless all fits.

        Parameters are matched by name, in any order, where both sides have names (``Muon(model.named_parameters())``).

        Args:
            state_dict: the state.
            strict: refuse a state of other parameters; else what fits is loaded, and the rest starts afresh.

        Returns:
            The names of parameters that are new here and of those that are gone.

        Raises:
            SoonerError: the state belongs to another method, other groups or other shapes.
        """
        state_dict = self.adapted(state_dict)
        if not isinstance(state_dict, dict):
            raise not_a_state(self.name())
        loaded: list[dict[str, Any]] = []
        differences: list[Difference] = []

        def check(_: Optimizer, hooked: dict[str, Any]) -> dict[str, Any]:
            fitting, difference = match_state(self, hooked, strict=strict)
            check_state(self, fitting)
            loaded.append(fitting)
            differences.append(difference)
            return fitting

        before = self.param_groups
        handle = self.register_load_state_dict_pre_hook(check)  # runs after the user's hooks, which may adapt the state
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        for ours, group in zip(before, self.param_groups, strict=True):
            for name, value in ours.items():
                group.setdefault(name, value)  # torch.optim knows fewer hyper-parameters
            if "param_names" in ours:
                group["param_names"] = ours["param_names"]
        restore_precision(self, loaded[0])
        (difference,) = differences
        for words, names in (("start afresh", difference.new), ("of the state are gone", difference.gone)):
            if names:
                log.info("%s: %d parameters %s: %s", self.name(), len(names), words, ", ".join(names))
        return difference

    def adapted(self, state_dict: Any) -> Any:
        """Return a state of an earlier version, or of the same method elsewhere, as one of this; any other as it is."""
        return state_dict

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("gradient_rules", "non_finite", "non_finite_steps", "roles")}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plan = Plan(self.name(), self._label)


def _is_number(value: Any) -> bool:
    """Whether a state value is one number, which may lie in the memory of all parameters' numbers."""
    return isinstance(value, Tensor) and value.ndim == 0 and not is_sharded(value)
