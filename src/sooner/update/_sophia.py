"""What Sophia-G and Sophia-H share: the schedule of curvature estimates, their running mean and their randomness.

An estimate is made after every `every`-th step, at the weights that the step led to, and enters

    h <- b2 h + (1 - b2) estimate

only then. It draws from a generator of the optimizer's own, a function of the seed and of the number of the step, which
are kept in the parameter groups, where every kind of state file has them. It leaves gradients, random numbers and
running statistics as they were.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Unpack

import torch
import torch.distributed as dist
from torch import Tensor

from sooner.error import SoonerError
from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.update._betas import check_betas
from sooner.update._closure import Evaluation, NoLossError, unnoticed
from sooner.update._graphs import outside_graphs
from sooner.update._observing import Observing
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options

FORMER = "curvature"
"""Key of older state files under which the count of steps and the generator were kept."""


class Sophia(Observing, ChainOptimizer):
    """Base of both; subclasses define `rule` on the slots "exp_avg" and "hessian", and `estimate`.

    Args:
        params: a model, its parameters or parameter groups.
        defaults: hyper-parameters of every group: "lr"; "betas", decay rates of the gradient's and of the curvature's
            running mean, each in [0, 1); "rho", the scale of the curvature (the smaller, the more coordinates move by
            the full learning rate); "weight_decay", decoupled.
        every: steps between two curvature estimates.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    needs = frozenset({"closure"})
    draws_apart: ClassVar[bool] = False  # whether every worker draws for its own answers
    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-4, 1e-2), "rho": Log(1e-2, 10.0)}

    def __init__(self, params: Any, defaults: dict[str, Any], every: int, **options: Unpack[Options]) -> None:
        check_range(self.name(), "every", every, 1, math.inf, whole=True)
        seed = (torch.initial_seed() ^ 0x50F1A) % 2**63  # another stream than dropout's
        super().__init__(params, {**defaults, "steps_taken": 0, "seed": seed}, **options)
        self.every = every
        self.generator = self._own_generator()

    def _own_generator(self) -> torch.Generator:
        device = self.param_groups[0]["params"][0].device
        return torch.Generator("cpu" if device.type == "meta" else device)

    @property
    def steps_taken(self) -> int:
        """Number of steps so far."""
        return self.param_groups[0]["steps_taken"]  # type: ignore[no-any-return]

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_betas(cls.name(), group["betas"], 2, "both decay rates, as (0.965, 0.99)")
        check_range(cls.name(), "rho", group["rho"], 0.0, math.inf)
        check_range(cls.name(), "weight_decay", group["weight_decay"], 0.0, math.inf)

    @outside_graphs
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move by the gradients; after every `every`-th step evaluate the loss for the curvature.

        Args:
            closure: an `Objective`, or any function that returns the loss of the batch. Where it calls backward it is
                run once for the gradients, as PyTorch has it; where it does not, those in ``.grad`` count, and where
                there are none, those of the loss. None where the loss is given by `observe`.

        Returns:
            What the closure returned, None where it was not run for the gradients.

        Raises:
            SoonerError: neither a closure nor anything observed, a loss that can't be used (said before the first
                step), or what `ChainOptimizer.step` raises.
        """
        if self._sets_up(closure):
            return self._take_step()
        with self._with_gradients(closure) as (evaluate, result):
            if self.non_finite == "pass" or self._all_finite():
                self._take_step()
                taken = self.steps_taken + 1
                for group in self.param_groups:
                    group["steps_taken"] = taken
                if taken % self.every == 0 and evaluate is not None:
                    self._refresh(evaluate)
        return result

    def _try(self, evaluate: Evaluation, parameters: list[Tensor]) -> None:
        if parameters:
            self.estimate(evaluate, parameters)

    def estimate(self, closure: Evaluation, parameters: list[Tensor]) -> tuple[Tensor, ...]:
        """Return an unbiased estimate of the diagonal of the curvature, one tensor per parameter."""
        raise TypeError(f"{type(self).__name__} defines no estimate")

    def _refresh(self, closure: Evaluation) -> None:
        """Let a new estimate enter the running mean of every parameter that has a gradient."""
        groups = [[p for p in group["params"] if p.grad is not None and p.requires_grad] for group in self.param_groups]
        parameters = [p for members in groups for p in members]
        if not parameters:
            return
        first = self.param_groups[0]
        own = dist.get_rank() if self.draws_apart and dist.is_available() and dist.is_initialized() else 0
        self.generator.manual_seed((first["seed"] * 1_000_003 + first["steps_taken"] + own * 0x9E3779B1) % 2**63)
        try:
            with unnoticed(self.name(), self._parameters()):
                found = dict(zip(parameters, self.estimate(closure, parameters), strict=True))
        except NoLossError:  # the closure skips this batch
            return
        for group, members in zip(self.param_groups, groups, strict=True):
            if members:
                kept = [self.state[p]["hessian"] for p in members]
                fresh = [found[p].to(h.dtype) for p, h in zip(members, kept, strict=True)]
                torch._foreach_lerp_(kept, fresh, 1 - group["betas"][1])

    @property
    def win_rate(self) -> Tensor:
        """Share of coordinates that the present state does not clip, 0-d; reading its value waits for the device.

        It should peak early and then stay between 0.1 and 0.5; a larger `rho` raises it.
        """
        inside, total = torch.zeros((), device=self.generator.device), 0
        for group in self.param_groups:
            for kept in (self.state[p] for p in group["params"] if "hessian" in self.state.get(p, {})):
                inside += (kept["exp_avg"].abs() < group["rho"] * kept["hessian"]).sum().to(inside)
                total += kept["hessian"].numel()
        return inside / max(total, 1)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as `torch.optim.Optimizer.add_param_group`; it shares the count of steps and the seed.

        Raises:
            SoonerError: the group's parameters or hyper-parameters do not suit the method.
        """
        shared = {name: self.param_groups[0][name] for name in ("steps_taken", "seed")} if self.param_groups else {}
        super().add_param_group({**param_group, **shared})

    def adapted(self, state_dict: Any) -> Any:
        """Return a state, also of versions that kept the estimates' progress apart.

        Raises:
            SoonerError: it holds nothing of that.
        """
        if isinstance(state_dict, dict) and FORMER in state_dict:
            state_dict = _renewed(state_dict)
        groups = state_dict.get("param_groups", []) if isinstance(state_dict, dict) else []
        if any("steps_taken" not in group for group in groups):
            raise SoonerError(f"{self.name()}: the state holds no 'steps_taken'; it was saved by another method")
        return super().adapted(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "every": self.every, "numbers": self.generator.get_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        numbers = state.pop("numbers", None)
        super().__setstate__(state)
        if numbers is not None:  # a copy, rather than torch's way of loading a state
            self.generator = self._own_generator()
            self.generator.set_state(numbers)


def _renewed(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return a state of older versions as one of today: with the count of steps, and a seed, in the groups."""
    former = state_dict[FORMER]
    digest = hashlib.sha256(former["generator"].cpu().numpy().tobytes()).digest()
    own = {"steps_taken": former["steps_taken"], "seed": int.from_bytes(digest[:8]) % 2**63}
    kept = {name: value for name, value in state_dict.items() if name != FORMER}
    return {**kept, "param_groups": [{**group, **own} for group in state_dict["param_groups"]]}
