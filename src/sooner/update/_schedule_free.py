"""Schedule-Free learning: gradients are taken between the iterate of an ordinary rule and the average of all of them.

    z <- z - lr * u,   x <- (1 - c) x + c z,   y <- (1 - beta) z + beta x,   u: the rule's direction at y

The weights in memory are y. Kept beside them is how far the iterate is ahead of the average, a = z - x:

    a' = (1 - c) (a - lr * u),   y' = y + beta a - lr * u - beta a',   z = y + beta a,   x = y - (1 - beta) a

so y, z and x are the same at the start, nothing is known twice, and another beta moves neither z nor x.

Defazio et al., 2024, arXiv 2405.15682, equations 3 to 5 and algorithm 1. Weights of the average as in the authors'
repository, facebookresearch/schedule_free: c = w_t / (w_1 + ... + w_t), w_t = t^power * (highest lr so far)^rate_power.
"""

from __future__ import annotations

import contextlib
import logging
import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.execute.cohort import MASTER
from sooner.execute.shards import is_sharded, local, reshard
from sooner.foundation import snapshots
from sooner.foundation.model_names import unwrapped
from sooner.part import check_range
from sooner.transform import Clock, Reduction, Scope, State
from sooner.update._one_by_one import OneByOne
from sooner.update._optimizer import ChainOptimizer

log = logging.getLogger(__name__)

_told: set[str] = set()


@dataclass(frozen=True)
class TowardsAverage(Reduction):
    """From a direction to the displacement of y. The memory says, per parameter, what its average is made of.

    Attributes:
        beta: share of the average in y.
        warmup: steps over which the learning rate rises linearly.
        power, rate_power: exponents in the weights of the average.
    """

    beta: float
    warmup: int
    power: float
    rate_power: float
    over: ClassVar[Scope] = "parameter"
    slots: ClassVar[tuple[str, ...]] = ("ahead",)
    memory: ClassVar[tuple[str, ...]] = ("averaged", "highest_rate", "beta")
    recalls: ClassVar[tuple[str, ...]] = ("share", "of_ahead", "of_step")

    def recall(self, memory: State, clock: Clock) -> State:
        """Return c, and what the distance and the step are multiplied by in the displacement of y; ``[n]``."""
        averaged, _ = self._weighed(memory, clock)
        share = torch.where(averaged > 0, 1 / averaged, 0.0)
        changed = torch.where(memory["averaged"] > 0, memory["beta"] - self.beta, 0.0)
        known = torch.where(changed.abs() > 1e-7, changed, 0.0)  # else it is the rounding of what is kept
        return {"share": share, "of_ahead": self.beta * share + known, "of_step": self.beta * (1 - share) - 1}

    def prepare(
        self, u: Tensor, state: State, theta: Tensor | None, clock: Clock
    ) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        """Return the displacement of y and the new distance; nothing is added up."""
        step = self._rate(clock) * u
        moved = state["ahead"] - step
        displacement = state["of_ahead"] * state["ahead"] + state["of_step"] * step
        return displacement, {"ahead": moved - state["share"] * moved}, ()

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """Keep what the average is made of now, and the beta of y."""
        averaged, highest = self._weighed(memory, clock)
        beta = torch.full_like(memory["beta"], self.beta)
        return (), {"averaged": averaged, "highest_rate": highest, "beta": beta}

    def finish(self, u: Tensor, theta: Tensor | None, numbers: tuple[Tensor, ...], clock: Clock) -> Tensor:
        """Leave it as it is."""
        return u

    def _rate(self, clock: Clock) -> Any:
        if self.warmup and clock.step < self.warmup:
            return clock.learning_rate * (clock.step / self.warmup)
        return clock.learning_rate

    def _weighed(self, memory: State, clock: Clock) -> tuple[Tensor, Tensor]:
        """Return how many steps like this one the average is made of, this one included, and the highest rate.

        Their number is kept rather than the sum of the weights, so that it counts exactly where rates are constant. A
        rate that is kept in float32 counts as the same while it is rounded to the same.
        """
        now = torch.zeros_like(memory["highest_rate"]) + self._rate(clock)
        before = torch.where(memory["highest_rate"].float() == now.float(), now, memory["highest_rate"])
        highest = torch.maximum(before, now)
        shrunk = (before / highest) ** self.rate_power
        averaged = memory["averaged"] * (((clock.step - 1) / clock.step) ** self.power * shrunk) + 1
        return averaged if self.rate_power == 0 else torch.where(highest > 0, averaged, 0.0), highest


class ScheduleFree(ChainOptimizer):
    """Base of the Schedule-Free rules: an optimizer whose weights to evaluate are not those that it trains.

    The weights in memory are those at which gradients are taken. Evaluate, export and save for use inside `view`:

        with optimizer.view():
            evaluate(model)

    Running statistics of batch normalization are of the training weights, which are close to their average where beta
    is; inside `view`, `torch.optim.swa_utils.update_bn` measures them anew. A message says so where the model has some.
    """

    owns = frozenset({"step", "learning rate", "evaluation weights"})
    _shown = False
    _model: weakref.ref[nn.Module] | None = None

    def __init__(self, params: Any, defaults: dict[str, Any], **options: Any) -> None:
        super().__init__(params, defaults, **options)
        model = params if isinstance(params, nn.Module) else options.get("model")
        if isinstance(model, nn.Module):
            self._model = weakref.ref(unwrapped(model))
            self._tell_of_statistics(model)

    def _tell_of_statistics(self, model: nn.Module) -> None:
        """Say once that view() does not measure running statistics."""
        name = self.name()
        if name not in _told and any(getattr(module, "running_mean", None) is not None for module in model.modules()):
            _told.add(name)
            log.warning(
                "%s: the model has running statistics, of the weights in training and not of those in view(), which "
                "are close to them; torch.optim.swa_utils.update_bn measures them inside the view",
                name,
            )

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range(cls.name(), "warmup", group["warmup"], 0, math.inf, whole=True)
        for name in ("weight_decay", "power", "rate_power"):
            check_range(cls.name(), name, group[name], 0.0, math.inf)

    def towards_average(self, group: dict[str, Any], beta: float) -> TowardsAverage:
        """Return the last rule of the chain."""
        return TowardsAverage(beta, group["warmup"], group["power"], group["rate_power"])

    def _take_step(self) -> None:
        self._refuse_inside("a step")
        super()._take_step()

    def one_by_one(self, before: OneByOne | None = None) -> OneByOne:
        """As every optimizer.

        Raises:
            SoonerError: called inside `view`.
        """
        self._refuse_inside("a step")
        return super().one_by_one(before)

    @contextlib.contextmanager
    def view(self, model: nn.Module | None = None) -> Iterator[None]:
        """Inside, the parameters hold the average; what is done to their values there is undone.

        Parameters that have taken no step stay as they are. Takes memory for one more copy of the weights meanwhile.

        Args:
            model: whose parameters they are; needed only where they are sharded and the optimizer was not made of it.

        Raises:
            SoonerError: parameters are sharded and the model is not known, or one has another shape than its state.
        """
        if self._shown:  # inside another view: the average is there already
            yield
            return
        known = model if model is not None else self._model() if self._model is not None else None
        stepped = [p for group in self.param_groups for p in group["params"] if "ahead" in self.state.get(p, ())]
        if known is None and any(is_sharded(p) for p in stepped):
            raise SoonerError(
                f"{self.name()}: view() of sharded parameters has to know their model, which may hold whole copies of "
                f"them; make the optimizer of the model itself, or call view(model)"
            )
        _reshard(known)
        averages = [self._average(p) for p in stepped]
        with snapshots.shown(known if known is not None else nn.ParameterList(stepped)):
            kept = _copies(stepped)
            self._shown = True
            try:
                _put(stepped, averages)
                yield
            finally:
                self._shown = False
                _reshard(known)
                _put(stepped, kept)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _average(self, p: Tensor) -> Tensor:
        """Return x of a parameter, this process's piece, in the dtype of its state."""
        state, weight = self.state[p], local(p.detach())
        ahead = local(state["ahead"]).to(weight.device)
        if ahead.shape != weight.shape:
            raise SoonerError(
                f"{self.name()}: {self._label(p)} has the shape {tuple(weight.shape)} now and its state "
                f"{tuple(ahead.shape)}; resize that state with the parameter, or delete optimizer.state[parameter]"
            )
        wide = weight.to(ahead.dtype)
        if MASTER in state:
            master = local(state[MASTER]).to(weight.device)
            wide = torch.where(master.to(weight.dtype) == weight, master, wide)  # unless somebody set the parameter
        return wide - (1 - torch.as_tensor(state["beta"]).to(ahead)) * ahead

    def state_dict(self) -> dict[str, Any]:
        """Return the state, as every optimizer does.

        Raises:
            SoonerError: called inside `view`: with the weights there, training would go on from the average.
        """
        self._refuse_inside("a checkpoint")
        return super().state_dict()

    def adapted(self, state_dict: Any) -> Any:
        """Return the state as it is.

        Raises:
            SoonerError: called inside `view`.
        """
        self._refuse_inside("loading a state")
        return super().adapted(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        self._refuse_inside("a copy")
        return super().__getstate__()

    def _refuse_inside(self, what: str) -> None:
        if self._shown:
            raise SoonerError(
                f"{self.name()}: {what} inside view() would train on from the average; leave the view first"
            )


@torch.inference_mode(False)
@torch.no_grad()
def _copies(params: list[Tensor]) -> list[Tensor]:
    return [local(p).clone() for p in params]


@torch.inference_mode(False)
@torch.no_grad()
def _put(params: list[Tensor], values: list[Tensor]) -> None:
    for p, value in zip(params, values, strict=True):
        local(p).copy_(value)


def _reshard(model: nn.Module | None) -> None:
    if model is not None:
        reshard(model)
