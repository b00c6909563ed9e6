"""Softmax ghosts: shortens the step of any optimizer to the radius within which the cross-entropy's series converges.

    d = displacement the optimizers made,   a_i = derivative of the logits of answer i along d / ||d||
    spread = max_i ( max_k a_ik - min_k a_ik ),   radius = pi / (spread + 1e-12)
    theta <- theta_before + d * min(1, limit * radius / ||d||)

As a function of a complex step length the softmax's denominator has its nearest zero ("ghost") no closer than the
radius. The bound takes logits to be linear along d. One forward-mode derivative of the batch per check.

Use it when the learning rate may spike or is unknown, and the loss is a cross-entropy.

Leave it when every step must be cheap, or the loss is another one.

It costs one forward-mode pass, about two forward passes, per checked step; no state; nothing on the wire.

"Ghosts of Softmax", 2026, arXiv 2603.13552.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded
from sooner.objective import Objective, evaluating
from sooner.part import Part, check_range
from sooner.space import Knob, Log
from sooner.update._answers import Watch
from sooner.update._closure import (
    Evaluation,
    Loss,
    NoLossError,
    differentiable_attention,
    evaluations,
    largest,
    required,
    unnoticed,
)


class SoftmaxGhosts(Part):
    """A guard around the step of all optimizers together.

    In a loop of your own:

        with ghosts.around_step(lambda: loss_of(batch)):
            optimizer.step()

    The optimizers' own state advances as without it; only the displacement is scaled, weight decay's part included. The
    derivative is taken in the parameters' precision, at the weights before the step, with the model in evaluation mode.

    Args:
        model: the model whose parameters the optimizers move.
        limit: the share of the radius that a step may use, above 0, default 1; below 1 is safer.
        every: check every so many steps, default 1. Steps between two checks are not touched.

    Attributes:
        ratio: length of the last checked displacement over the radius (a 0-d tensor, None before the first check);
            the displacement was shortened where it is above `limit`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    station: ClassVar[str] = "update"
    needs = frozenset({"closure"})
    owns = frozenset({"length of the step"})
    order: ClassVar[int] = 70
    space: ClassVar[Mapping[str, Knob]] = {"limit": Log(0.1, 2.0)}

    def __init__(self, model: nn.Module, limit: float = 1.0, every: int = 1) -> None:
        check_range(self.name(), "limit", limit, 0.0, math.inf)
        check_range(self.name(), "every", every, 1, math.inf, whole=True)
        self.model = model
        self.limit = limit
        self.every = every
        self.steps_taken = 0
        self.ratio: Tensor | None = None
        self._tried = False

    @contextlib.contextmanager
    def around_step(self, closure: Evaluation | None) -> Iterator[None]:
        """Let the optimizers step inside, then shorten what they did where it is too long.

        Args:
            closure: an `Objective`, or any function that returns the loss of the batch from the model; where it calls
                backward, that is held back, and where it returns None, to skip the batch, nothing is done.

        Raises:
            SoonerError: no closure, no cross-entropy in the loss, or an operation without a forward-mode derivative
                (tried before the first step).
        """
        given = required(self.name(), closure, "around_step")
        evaluate = given if isinstance(given, Objective) else Loss(self.name(), given)
        named: dict[str, Tensor] = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if any(is_sharded(p) for p in named.values()):
            raise SoonerError(f"{self.name()} needs forward-mode derivatives, which sharded weights do not have")
        if not self._tried:
            self._try(evaluate, named)
        self.steps_taken += 1
        if self.steps_taken % self.every:
            yield
            return
        before = [p.detach().clone() for p in named.values()]
        yield
        with torch.no_grad(), contextlib.suppress(NoLossError):
            self._shorten(evaluate, named, before)

    @torch.no_grad()
    def _try(self, evaluate: Evaluation, named: dict[str, Tensor]) -> None:
        here = [p.detach() for p in named.values()]
        with contextlib.suppress(NoLossError):
            self._spread(evaluate, list(named), here, tuple(torch.ones_like(p) for p in here))
            self._tried = True

    def _shorten(self, evaluate: Evaluation, named: dict[str, Tensor], before: list[Tensor]) -> None:
        parameters = list(named.values())
        moved = torch._foreach_sub(parameters, before)
        length = nn.utils.get_total_norm(moved)
        unit = torch._foreach_mul(moved, 1 / length.clamp(min=torch.finfo(length.dtype).tiny))
        self.ratio = length * (self._spread(evaluate, list(named), before, unit) + 1e-12) / math.pi
        too_much = 1 - (self.limit / self.ratio).clamp(max=1.0)  # exactly 0 where nothing is to be shortened
        torch._foreach_sub_(parameters, torch._foreach_mul(moved, too_much))

    def _spread(self, closure: Evaluation, names: list[str], at: list[Tensor], direction: tuple[Tensor, ...]) -> Tensor:
        """Return how far apart the logits of one answer drift at most, per unit of length, 0-d."""
        widest = at[0].new_zeros(())
        everything = list(self.model.parameters())
        with (
            unnoticed(self.name(), everything),
            evaluating(self.model),
            forward_ad.dual_level(),
            differentiable_attention(),
        ):
            duals = {
                f"model.{n}": forward_ad.make_dual(p, d)  # type: ignore[no-untyped-call]
                for n, p, d in zip(names, at, direction, strict=True)
            }
            for _, evaluate in evaluations(closure):
                with Watch() as watch:
                    self._call(_Evaluator(self.model, evaluate), duals)
                if not watch.calls:
                    raise SoonerError(
                        f"{self.name()} sees no cross-entropy in the loss; it guards classifiers only, so leave it out"
                    )
                for call in watch.calls:
                    drift = forward_ad.unpack_dual(call.logits).tangent  # type: ignore[no-untyped-call]
                    if drift is not None:
                        spread = (drift.amax(1) - drift.amin(1)) * (call.scale != 0)
                        widest = torch.maximum(widest, spread.max().to(widest))
            return largest(widest)

    def _call(self, evaluator: nn.Module, duals: dict[str, Tensor]) -> None:
        try:
            functional_call(evaluator, duals, ())
        except NotImplementedError as error:
            raise SoonerError(
                f"{self.name()} needs forward-mode derivatives, which an operation of this model lacks: {error}"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Return the count of steps."""
        return {"steps_taken": self.steps_taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.steps_taken = int(state["steps_taken"])


class _Evaluator(nn.Module):
    """A module around model and closure, so that `functional_call` exchanges the weights that the closure uses."""

    def __init__(self, model: nn.Module, evaluate: Evaluation) -> None:
        super().__init__()
        self.model = model
        self.evaluate = evaluate

    def forward(self) -> Tensor:
        """Return the loss."""
        return self.evaluate()
