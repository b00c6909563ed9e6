"""What Sophia-G and Sophia-H share: the schedule of curvature estimates, their running mean and their randomness.

An estimate is made after every `every`-th step, at the weights that the step led to, and enters

    h <- b2 h + (1 - b2) estimate

only then. It draws from a generator of the optimizer's own, whose state is saved, and leaves ``.grad`` as it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.update._closure import Evaluation, gradients_aside, required
from sooner.update._optimizer import ChainOptimizer, Options

SAVED = "curvature"
"""Key of the state file under which the count of steps and the generator are kept."""


class Sophia(ChainOptimizer):
    """Base of both; subclasses define `rule` on the slots "exp_avg" and "hessian", and `estimate`.

    Args:
        params: a model, its parameters or parameter groups.
        defaults: hyper-parameters of every group: "lr"; "betas", decay rates of the gradient's and of the curvature's
            running mean, each in [0, 1); "rho", the scale of the curvature (the smaller, the more coordinates move by
            the full learning rate); "weight_decay", decoupled.
        every: steps between two curvature estimates.
        **options: see `sooner.update._optimizer.Options`.

    Attributes:
        steps_taken: number of steps so far.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    needs = frozenset({"closure"})
    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-4, 1e-2), "rho": Log(1e-2, 10.0)}

    def __init__(self, params: Any, defaults: dict[str, Any], every: int, **options: Unpack[Options]) -> None:
        check_range(self.name(), "every", every, 1, math.inf, whole=True)
        super().__init__(params, defaults, **options)
        self.every = every
        self.steps_taken = 0
        self.generator = torch.Generator(self.param_groups[0]["params"][0].device)
        self.generator.manual_seed((torch.initial_seed() ^ 0x50F1A) % 2**63)  # another stream than dropout's

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        betas = group["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise SoonerError(f"{cls.name()}: betas={betas!r} is not a pair; give both decay rates, as (0.965, 0.99)")
        for i, beta in enumerate(betas):
            check_range(cls.name(), f"betas[{i}]", beta, 0.0, 1.0, open_high=True)
        check_range(cls.name(), "rho", group["rho"], 0.0, math.inf)
        check_range(cls.name(), "weight_decay", group["weight_decay"], 0.0, math.inf)

    @torch.no_grad()
    def step(self, closure: Evaluation | None = None) -> None:  # type: ignore[override]
        """Move by the gradients in ``.grad``; after every `every`-th step evaluate the closure for the curvature.

        Args:
            closure: an `Objective`, or any function that returns the loss of the batch without calling backward.

        Raises:
            SoonerError: no closure, or what `ChainOptimizer.step` raises.
        """
        evaluate = required(self.name(), closure)
        if self.non_finite != "pass" and not self._all_finite():
            return
        self._take_step()
        self.steps_taken += 1
        if self.steps_taken % self.every == 0:
            self._refresh(evaluate)

    def estimate(self, closure: Evaluation, parameters: list[Tensor]) -> tuple[Tensor, ...]:
        """Return an unbiased estimate of the diagonal of the curvature, one tensor per parameter."""
        raise TypeError(f"{type(self).__name__} defines no estimate")

    def _refresh(self, closure: Evaluation) -> None:
        """Let a new estimate enter the running mean of every parameter that has a gradient."""
        groups = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        parameters = [p for members in groups for p in members]
        if not parameters:
            return
        with gradients_aside(parameters):
            found = dict(zip(parameters, self.estimate(closure, parameters), strict=True))
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

    def state_dict(self) -> dict[str, Any]:
        """Return the state as torch does, with the count of steps and the generator besides."""
        own = {"steps_taken": self.steps_taken, "generator": self.generator.get_state()}
        return {**super().state_dict(), SAVED: own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave.

        Raises:
            SoonerError: the state belongs to another method, other groups or other shapes.
        """
        if isinstance(state_dict, dict) and "param_groups" in state_dict and SAVED not in state_dict:
            raise SoonerError(f"{self.name()}: the state holds no {SAVED!r}; it was saved by another method")
        super().load_state_dict(state_dict)
        self.steps_taken = state_dict[SAVED]["steps_taken"]
        self.generator.set_state(state_dict[SAVED]["generator"].cpu())

    def __getstate__(self) -> dict[str, Any]:
        own = {"every": self.every, "steps_taken": self.steps_taken}
        return {**super().__getstate__(), **own, "generator": (self.generator.device, self.generator.get_state())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "generator" in state:  # a copy, rather than torch's way of loading a state
            device, numbers = state.pop("generator")
            self.generator = torch.Generator(device)
            self.generator.set_state(numbers)
        super().__setstate__(state)
