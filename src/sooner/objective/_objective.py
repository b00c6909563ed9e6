"""The loss of one step, which parts may evaluate again and with its graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.objective.aside import Aside
from sooner.objective.counting import Count, Found, alike, check_sizes, mean, mean_of, measured, positive, together

PROVIDED = frozenset({"closure", "batch", "next batch", "held-out loss"})
"""What an `Objective` with all its fields offers; parts name these in `Part.needs`. With `losses` also "losses"."""

FROM_TASKS = {
    "domains": (
        "train on a task with examples of several domains, as languages is, and that says provides = {'domains'}"
    ),
    "flow times": (
        "train on a task whose loss asks sooner.diffusion.training_times for its times, as digits_flow does, and that "
        "says provides = {'flow times'}"
    ),
    "rollouts": (
        "train on a task whose loss is sooner.rl.policy_loss of its rollouts, as sums does, and that says "
        "provides = {'rollouts'}"
    ),
    "draft model": (
        "it changes no weights: leave it out of recipes, and call sooner.decoding.speculative where text is generated"
    ),
}
"""What parts of the domains need and only a task can offer (`sooner.Task.provides`), and what to do if it does not."""


@dataclass(frozen=True)
class Averaging:
    """Workers whose gradients are averaged before every step, so that the counts of all of them matter.

    Attributes:
        mean: returns the mean of a tensor over the workers, who all call it.
        at_once: gradients are averaged while backward runs, as with DDP and FSDP2, and not after it.
    """

    mean: Callable[[Tensor], Tensor]
    at_once: bool = False


@dataclass
class Objective:
    """The loss of one step. Calling it evaluates the mean loss of the step's micro-batches; it never calls backward.

    Attributes:
        model: the model, with its training weights.
        loss: ``loss(model, batch) -> 0-d tensor`` or ``(sum, count)``.
        batches: the micro-batches of the step.
        next_batches: the micro-batches of the step after this one.
        held_out: a batch that this run does not train on at this step, for checks.
        losses: optional ``losses(model, batch) -> {name: 0-d tensor}``, the terms whose sum is the loss; where the loss
            returns ``(sum, count)``, so do they, with its count.
        around: contexts in which the loss is evaluated while training, such as another cross-entropy.
        averaging: says which workers' gradients are averaged with these; None where there are none.
        trained: gives what is trained; what of the model is not in it counts as well.
    """

    model: nn.Module
    loss: Callable[[nn.Module, Any], Found]
    batches: Sequence[Any]
    next_batches: Callable[[], Sequence[Any]] | None = None
    held_out: Callable[[], Any] | None = None
    losses: Callable[[nn.Module, Any], Mapping[str, Found]] | None = None
    around: Sequence[Callable[[], contextlib.AbstractContextManager[Any]]] = field(default_factory=tuple)
    averaging: Callable[[], Averaging | None] = field(default=lambda: None, kw_only=True)
    trained: Callable[[], Iterable[Tensor]] | None = field(default=None, kw_only=True)
    _counts: list[Count] | None = field(default=None, init=False, repr=False)  # empty for means; None: not known yet
    _total: Count = field(default=0.0, init=False, repr=False)  # of this worker, or the mean over those that average

    def __call__(self) -> Tensor:
        """Return the mean loss over the micro-batches, with its graph where gradients are enabled."""
        found = [self.measured(batch) for batch in self.batches]
        losses = torch.stack([loss for loss, _ in found])
        counts = alike([count for _, count in found])
        return mean(losses.sum(), sum(counts)) if counts else losses.mean()

    def of(self, batch: Any) -> Tensor:
        """Return the training loss of one batch, a mean."""
        return mean(*self.measured(batch))

    def measured(self, batch: Any) -> tuple[Tensor, Count | None]:
        """Return the training loss of one batch as (sum, count), or as (mean, None).

        Raises:
            SoonerError: the loss returned a tuple that is no such pair, or now one and now the other.
        """
        with self.training_loss():
            found = measured(self.loss(self.model, batch))
        if self._counts is not None:
            alike([self._counts[0] if self._counts else None, found[1]])
        return found

    def terms(self, batch: Any) -> tuple[dict[str, Tensor], Count | None]:
        """Return the means of the terms whose sum is the training loss of one batch, and the count that they share.

        Raises:
            SoonerError: some terms count and others do not, or they count differently.
        """
        if self.losses is None:
            return {}, None
        with self.training_loss():
            found = {k: measured(v, f"losses(model, batch)[{k!r}]") for k, v in self.losses(self.model, batch).items()}
        counts = alike([count for _, count in found.values()])
        if len({count for count in counts if not isinstance(count, Tensor)}) > 1:
            shown = ", ".join(f"{name}: {count:g}" for name, (_, count) in found.items())
            raise SoonerError(
                f"losses(model, batch) returned terms with different counts ({shown}), which no loss adds up to; give "
                "all of them the count of the loss"
            )
        return {name: mean(*one) for name, one in found.items()}, counts[0] if counts else None

    def backward(self) -> Tensor:
        """Add the gradients of the step's mean loss to ``.grad`` and return that loss, 0-d and without its graph.

        Where the loss counts and gradients are averaged over workers, their average is the gradient of the mean over
        all that the workers have together, and so is the loss that is returned. One graph lives at a time: sums are
        scaled by what the first count lets expect, and the gradients are multiplied once, at the end, by what was
        expected over what came. Counts that are tensors stay on their device.

        Raises:
            SoonerError: the loss counts for some of the micro-batches only.
        """
        number = len(self.batches)
        total: Any = 0.0
        counts: list[Count | None] = []
        expected: Count = 1.0
        averaging = self.averaging()
        trained = self.trained
        if trained is None and torch.distributed.is_available() and torch.distributed.is_initialized():
            sharded = list(self.model.parameters())  # inside forward and backward FSDP2 shows others in their place
            trained = lambda: sharded  # noqa: E731
        with contextlib.ExitStack() as stack:
            aside: Aside | None = None
            for batch in self.batches:
                loss, count = self.measured(batch)
                if not counts and count is not None:
                    expected = positive(count) * number
                    if averaging is not None and averaging.at_once:
                        expected = averaging.mean(together(loss, expected))[0]
                    if number > 1 or averaging is not None:
                        known = () if trained is None else trained()
                        aside = stack.enter_context(Aside((*known, *self.model.parameters())))
                counts.append(count)
                part = loss / number if count is None else (loss / expected).to(loss.dtype)
                if part.requires_grad or count is None or float(count) > 0:  # a sum of nothing may be a plain 0
                    torch.autograd.backward(part)
                total = total + (part if count is None else loss).detach()
            total = self._settle(counts, total, averaging)
            if not self._counts:
                check_sizes(self.batches)
            elif aside is not None:
                aside.end(expected / positive(self._total))
        return mean(total, self._total).to(loss.dtype) if self._counts else total

    def settle(self, losses: Sequence[Tensor], counts: Sequence[Count | None]) -> Tensor:
        """Note how much each micro-batch counts, and return the step's loss.

        Args:
            losses: the means of all micro-batches, without their graphs.
            counts: of all of them; None for each where the loss is a mean.

        Raises:
            SoonerError: some are counts and others are not.
        """
        known = alike(counts)
        if not known:
            check_sizes(self.batches)
        sums = [loss * count for loss, count in zip(losses, known or [1.0] * len(losses), strict=True)]
        averaging = self.averaging() if known else None
        total = self._settle(counts, torch.stack(sums).sum(), averaging)
        return mean(total, self._total) if known else total / len(losses)

    def _settle(self, counts: Sequence[Count | None], total: Tensor, averaging: Averaging | None) -> Tensor:
        """Note the counts and what they count in; return the sum of the losses that stands for the latter."""
        self._counts = alike(counts)
        if not self._counts:
            return total
        self._total = sum(self._counts)
        if averaging is not None:
            total, self._total = averaging.mean(together(total, total.detach(), self._total))
        return total

    def shares(self) -> list[float]:
        """Return how much each micro-batch's mean counts in the step's loss.

        The shares add up to 1, or over all workers whose gradients are averaged to their number. Where the counts are
        not known from `backward`, the losses are evaluated once more for them, in evaluation mode and without a trace.
        """
        number = len(self.batches)
        if self._counts is None:
            averaging = self.averaging()
            if number == 1 and averaging is None:
                return [1.0]
            self._count(averaging)
        if not self._counts:
            return [1 / number] * number
        known = [*self._counts, self._total]
        tensor = next((one for one in known if isinstance(one, Tensor)), None)
        *each, whole = known if tensor is None else together(tensor, *known).tolist()
        return [float(one / (whole or 1.0)) for one in each]

    @torch.no_grad()
    def _count(self, averaging: Averaging | None) -> None:
        devices = {p.device.index for p in self.model.parameters() if p.device.type == "cuda"}
        total: Any = 0.0
        counts: list[Count | None] = []
        with torch.random.fork_rng(sorted(devices)), evaluating(self.model):
            for batch in self.batches:
                loss, count = self.measured(batch)
                counts.append(count)
                total = total + loss
                if count is None:
                    break
        self._settle(counts, total, averaging)

    def held_out_loss(self) -> Tensor:
        """Return the loss of a batch that is not trained on, without gradients and with the model in evaluation mode.

        Raises:
            TypeError: the loop offers none (a part that needs it declares "held-out loss").
        """
        if self.held_out is None:
            raise TypeError("this loop offers no held-out batch")
        with evaluating(self.model), torch.no_grad():
            return mean_of(self.loss(self.model, self.held_out()))

    @contextlib.contextmanager
    def training_loss(self) -> Iterator[None]:
        """Inside, the loss is what training minimises, as parts of the loss station want it."""
        with contextlib.ExitStack() as stack:
            for enter in self.around:
                stack.enter_context(enter())
            yield


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode; afterwards every module of it is in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
