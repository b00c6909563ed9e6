"""Leap and verify: now and then extrapolates the weights, and keeps the leap if a held-out loss agrees.

    every `interval` steps, with v the displacement since the last check and v' the one before it:
        linear     theta + r v,   r = ahead / interval
        quadratic  theta + r v + 1/2 r^2 a,   a = v - v', shortened per parameter to ||a|| <= ||v|| / 2
    kept where  loss(leap) < loss(now),   or as `verify` says

It leaps only in calm stretches: where the model's outputs on held-out examples have changed little since the last
check, by the measure of this run so far. The optimizers' moments stay as they are, and batches are not skipped.

Use it when weights move along straight lines for long, as late in fine-tuning, and you want to try.

Leave it when seconds count: at most a few per cent of steps can be saved.

It costs two or three copies of the weights; some forward passes on a held-out batch every `interval` steps; nothing on
the wire.

"Leap+Verify", 2026, code at github.com/jmcentire/leap-verify. At a share s of kept leaps the steps saved are at most
s * ahead / interval of all; the study found s = 0.24 at 5 / 50, hence 2.4%, before the cost of checking.
"""

from __future__ import annotations

import contextlib
import math
import operator
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils import _pytree as pytree

from sooner.error import SoonerError, nearest
from sooner.foundation.intercept import BackwardHeld
from sooner.objective import Objective, evaluating
from sooner.part import Part, check_range
from sooner.space import Choice, Knob
from sooner.update._closure import averaged, workers_noticed

CHOICES: Mapping[str, tuple[str, ...]] = {
    "predictor": ("linear", "quadratic"),
    "verify": ("strict", "adaptive", "percent"),
    "when": ("stable", "not chaotic", "always"),
}


class LeapVerify(Part):
    """Extrapolation of the weights around the step of all optimizers together. A check waits for the device.

    Loss and outputs are measured in evaluation mode on a batch that the loop keeps apart; buffers are left alone, and
    every module ends in the mode that it had. Parameters that are replaced, frozen or unfrozen begin their lines anew.

    Args:
        model: the model whose parameters leap.
        interval: steps between two checks, default 50.
        ahead: how many steps a leap stands for, default 5.
        predictor: "linear" (default) or "quadratic".
        verify: "strict" (default; the loss must fall), "adaptive" (it may rise by the standard deviation of the
            held-out losses seen) or "percent" (it may rise by half a percent).
        when: "stable" (default; two calm checks in a row), "not chaotic", or "always", which saves one evaluation. A
            check is calm above the 70th percentile of the similarities seen so far and chaotic below the 30th.

    Attributes:
        attempted, accepted: leaps that were tried and kept.
        schedules: learning-rate schedules to advance by `ahead` steps with every kept leap; none unless you put them
            here, so that in a recipe schedules count the steps really taken.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    station: ClassVar[str] = "update"
    needs = frozenset({"held-out loss"})
    owns = frozenset({"leaps"})
    order: ClassVar[int] = 60
    space: ClassVar[Mapping[str, Knob]] = {"ahead": Choice(5, 10, 25), "predictor": Choice("linear", "quadratic")}

    def __init__(
        self,
        model: nn.Module,
        interval: int = 50,
        ahead: int = 5,
        predictor: str = "linear",
        verify: str = "strict",
        when: str = "stable",
    ) -> None:
        check_range(self.name(), "interval", interval, 1, math.inf, whole=True)
        check_range(self.name(), "ahead", ahead, 1, math.inf, whole=True)
        for name, value in (("predictor", predictor), ("verify", verify), ("when", when)):
            if value not in CHOICES[name]:
                raise SoonerError(
                    f"{self.name()}: {name}={value!r}{nearest(str(value), CHOICES[name])} is not one of "
                    f"{', '.join(CHOICES[name])}; choose one of them"
                )
        self.model = model
        self.interval, self.ahead = interval, ahead
        self.predictor, self.verify, self.when = predictor, verify, when
        self.schedules: list[LRScheduler] = []
        self.parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.steps_taken = self.attempted = self.accepted = self.calm = 0
        self.similarities: list[float] = []
        self.losses: list[float] = []
        self.last: list[Tensor] = []
        self.velocity: list[Tensor] = []

    @contextlib.contextmanager
    def around_step(self, objective: Objective | None) -> Iterator[None]:
        """Let the optimizers step inside; after every `interval`-th step check, and perhaps leap.

        Raises:
            SoonerError: `objective` is no `Objective` with a held-out batch.
        """
        if not isinstance(objective, Objective) or objective.held_out is None:
            raise SoonerError(
                f"{self.name()} needs a held-out loss: pass sooner.objective.Objective(model, loss, [batch], "
                "held_out=lambda: other_batch)"
            )
        yield
        self.steps_taken += 1
        if self.steps_taken % self.interval == 0:
            with torch.no_grad(), workers_noticed():
                self._check(objective)

    def _check(self, objective: Objective) -> None:
        self._follow()
        here = [p.detach().clone() for p in self.parameters]
        if self.last:
            velocity = list(torch._foreach_sub(here, self.last))
            if self._may_leap(objective, here) and (self.velocity or self.predictor == "linear"):
                self._leap(objective, here, velocity)
            self.velocity = velocity if self.predictor == "quadratic" else []
        self.last = [p.detach().clone() for p in self.parameters]

    def _follow(self) -> None:
        """Take the model as it is now: other parameters begin anew, moved or cast ones go on."""
        present: list[Tensor] = [p for p in self.model.parameters() if p.requires_grad]
        known = len(present) == len(self.parameters) and all(map(operator.is_, present, self.parameters))
        if not known or any(p.shape != q.shape for p, q in zip(present, self.last, strict=False)):
            self.parameters, self.last, self.velocity = present, [], []
        self.last = [q.to(p) for p, q in zip(present, self.last, strict=False)]
        self.velocity = [v.to(p) for p, v in zip(present, self.velocity, strict=False)]

    def _may_leap(self, objective: Objective, here: list[Tensor]) -> bool:
        if self.when == "always":
            return True
        now = self._outputs(objective)
        self._put(self.last)
        before = self._outputs(objective)
        self._put(here)
        similarity = nn.functional.cosine_similarity(now, before, dim=1).mean()
        self.similarities.append(float(averaged([similarity])[0]))
        seen = torch.tensor(self.similarities, dtype=torch.float64)
        low, high = seen.quantile(0.3).item(), seen.quantile(0.7).item()
        self.calm = self.calm + 1 if seen[-1] >= high else 0
        return self.calm >= 2 if self.when == "stable" else bool(seen[-1] > low)

    def _leap(self, objective: Objective, here: list[Tensor], velocity: list[Tensor]) -> None:
        now = self._held_out_loss(objective)
        self.losses.append(now)
        self._put(self._predicted(here, velocity))
        self.attempted += 1
        if self._held_out_loss(objective) < now + self._tolerance(now):
            self.accepted += 1
            for schedule in self.schedules:
                for _ in range(self.ahead):
                    schedule.step()
        else:
            self._put(here)

    def _predicted(self, here: list[Tensor], velocity: list[Tensor]) -> Sequence[Tensor]:
        reach = self.ahead / self.interval
        there = torch._foreach_add(here, velocity, alpha=reach)
        if self.predictor == "linear":
            return there
        bend = torch._foreach_sub(velocity, self.velocity)
        tiny = torch.finfo(torch.float32).tiny
        lengths = zip(torch._foreach_norm(velocity), torch._foreach_norm(bend), strict=True)
        short = [(0.5 * v / a.clamp(min=tiny)).clamp(max=1.0) for v, a in lengths]
        return torch._foreach_add(there, torch._foreach_mul(bend, short), alpha=reach**2 / 2)

    def _tolerance(self, now: float) -> float:
        if self.verify == "percent":
            return 0.005 * abs(now)
        return statistics.pstdev(self.losses) if self.verify == "adaptive" else 0.0

    def _outputs(self, objective: Objective) -> Tensor:
        """Return what the model puts out for the held-out batch, a row ``[n, …]`` per example.

        Raises:
            SoonerError: the loss does not call the model, or that returns nothing with examples in rows.
        """
        caught: list[Any] = []
        handle = self.model.register_forward_hook(lambda module, inputs, output: caught.append(output))
        try:
            self._held_out_loss(objective)
        finally:
            handle.remove()
        rows = [x.flatten(1) for x in pytree.tree_leaves(caught) if isinstance(x, Tensor) and x.ndim > 1]
        if not rows:
            raise SoonerError(
                f"{self.name()} finds no outputs of the model to compare; let the loss call the model itself and the "
                "model return a tensor [examples, ...], or set when='always'"
            )
        return rows[0].float()

    def _held_out_loss(self, objective: Objective) -> float:
        """Return the loss, its mean over the workers who share the model: all of them decide alike."""
        with evaluating(self.model), BackwardHeld():
            return float(averaged([objective.held_out_loss()])[0])

    def _put(self, weights: Sequence[Tensor]) -> None:
        torch._foreach_copy_(self.parameters, list(weights))

    def state_dict(self) -> dict[str, Any]:
        """Return the weights at the last check and everything that was counted and measured."""
        values = {name: getattr(self, name) for name in _SAVED}
        return {name: list(value) if isinstance(value, list) else value for name, value in values.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        for name in _SAVED:
            value = state[name]
            copied = [v.clone() if isinstance(v, Tensor) else v for v in value] if isinstance(value, list) else value
            setattr(self, name, copied)


_SAVED = ("steps_taken", "attempted", "accepted", "calm", "similarities", "losses", "last", "velocity")
