"""How a training loop gives the loss to the optimizers that evaluate it themselves.

    optimizer.step(closure)          closure returns the loss; where it calls backward, as PyTorch has it, that counts
    optimizer.observe(loss)          before the step, or once; then optimizer.step() as every loop calls it

What the parts need beside the gradients is evaluated with backward held back
(`sooner.foundation.intercept.BackwardHeld`), so both conventions lead to the same steps, bit for bit.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.execute.shards import whole
from sooner.foundation.unwrap import unwrapped
from sooner.objective import Objective
from sooner.update._closure import Evaluation, Loss, NoLossError, aside, dense, required, unnoticed, with_graph

if TYPE_CHECKING:
    from torch.optim import Optimizer

    _Base = Optimizer
else:
    _Base = object


class Observing(_Base):
    """Mix-in of these optimizers.

    Attributes:
        gradients_ready: called once in every step, when its gradients are in ``.grad`` and before anything moves; for
            those who change or look at gradients, since only the optimizer knows whether a closure finds them.
        tells_gradients: whether it is called at all.
    """

    tells_gradients: ClassVar[bool] = True
    gradients_ready: Callable[[], None] | None = None
    _observed: Callable[[], Any] | None = None

    def observe(self, loss: Callable[[], Any] | None) -> None:
        """Say how to evaluate the loss, for loops whose ``optimizer.step()`` passes no closure.

        Args:
            loss: a function without arguments that returns the loss of the step's batch, an `Objective`, or None to
                take it back. It is kept until another one comes, so set it before every step,
                ``optimizer.observe(lambda: loss_of(batch))``, or once where it looks up the batch itself. It is not
                saved, and copies of the optimizer don't have it.

        Raises:
            SoonerError: it is no function.
        """
        if loss is not None and not callable(loss):
            raise SoonerError(
                f"{self._called()}: observe takes a function without arguments that returns the loss, such as "
                f"lambda: loss_of(batch); got {loss!r}"
            )
        own = unwrapped(self)  # Lightning's wrappers inherit from the class they wrap
        own._observed = loss

    def _called(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _evaluation(self, closure: Any) -> Objective | Loss:
        """Return how to evaluate the loss of this step without going back through it.

        Raises:
            SoonerError: there is neither a closure nor anything to observe.
        """
        own = self._observed is None or isinstance(closure, Objective)
        source = required(self._called(), closure if own else self._observed)
        return source if isinstance(source, Objective) else Loss(self._called(), source)

    def _sets_up(self, closure: Any) -> bool:
        """Whether the step only lets the state come into being: `torch.distributed.checkpoint` takes such a one."""
        if closure is not None or self.state or any(group["lr"] != 0 for group in self.param_groups):
            return False
        gradients = [(p, p.grad) for p in self._parameters() if p.requires_grad]
        return all(g is not None for _, g in gradients) and not nonzero(gradients)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def _with_gradients(self, closure: Any) -> Iterator[tuple[Evaluation | None, Any]]:
        """Inside, the step's gradients are in ``.grad``.

        The caller has put them there, the closure does, or else they are found from the loss, and taken away again.

        Yields:
            How to evaluate the loss, None where there is none (see `NoLossError`), and what the closure returned.
        """
        with self._found_gradients(closure) as found:
            if self.gradients_ready is not None:
                self.gradients_ready()
            yield found

    @contextlib.contextmanager
    def _found_gradients(self, closure: Any) -> Iterator[tuple[Evaluation | None, Any]]:
        evaluate = self._evaluation(closure)
        goes_back = self._goes_back(evaluate)  # in which a closure may observe, as a training_step of Lightning's does
        if isinstance(closure, Objective):
            yield closure, None
        elif closure is not None and self._observed is not None:
            with torch.enable_grad():
                result = closure()
            evaluate = self._evaluation(None)
            self._goes_back(evaluate)
            yield evaluate, result
        elif isinstance(evaluate, Objective):
            yield evaluate, None
        elif closure is not None and goes_back is not False:
            present = [(p, p.grad) for p in self._parameters() if p.grad is not None]
            before = nonzero(present) if evaluate.adds else []
            with torch.enable_grad():
                result = closure()
            self._refuse_accumulation([p for p, g in before if p.grad is g])
            if goes_back is None and any(p.grad is not None for p in self._parameters()):
                raise NoLossError(
                    f"{self._called()}: the closure returned None and called no backward, so there is no loss to "
                    "evaluate; return the loss, or call optimizer.observe(lambda: loss_of(batch)) before the step"
                )
            given: Evaluation | None = None if goes_back is None else evaluate
            yield given, result
        elif any(p.grad is not None for p in self._parameters()):
            yield evaluate, None
        else:  # nobody has found them
            loss, found = self._own_gradients(evaluate)
            try:
                for p, gradient in found:
                    p.grad = gradient
                yield evaluate, loss
            finally:
                for p, _ in found:
                    p.grad = None

    def _own_gradients(self, evaluate: Evaluation) -> tuple[Tensor, list[tuple[Tensor, Tensor | None]]]:
        """Return the loss, 0-d, and its gradient for every parameter that requires one."""
        parameters = [p for p in self._parameters() if p.requires_grad]
        with aside(self._called(), parameters):
            loss = with_graph(self._called(), evaluate)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        dense(self._called(), gradients)
        return loss.detach(), list(zip(parameters, gradients, strict=True))

    def _refuse_accumulation(self, accumulated: Sequence[Any]) -> None:
        """Refuse a closure that adds to gradients of micro-batches before it, whose loss it does not give.

        Raises:
            SoonerError: there are such gradients.
        """
        if accumulated:
            raise SoonerError(
                f"{self._called()}: the closure adds to gradients that were accumulated before it, so its loss is not "
                "that of the step; call optimizer.observe(lambda: loss_of(batch)), with the mean loss, before the step "
                "(or let the closure begin with optimizer.zero_grad() where nothing is accumulated)"
            )

    def _goes_back(self, evaluate: Objective | Loss) -> bool | None:
        """Return whether a closure calls backward itself; None where it has no loss to show (see `NoLossError`).

        What has not been seen before is tried, without a trace: it must suit the method before the first step is taken.
        Closures that run the same code, such as the lambdas of one loop, are the same here.

        Raises:
            SoonerError: the method can't use the loss, or what is observed returns none.
        """
        if isinstance(evaluate, Objective):
            return False
        known: dict[Any, tuple[bool, bool]] = vars(self).setdefault("_seen", {})
        code = _code(evaluate.closure)
        if code not in known:
            parameters = self._parameters()
            try:
                with unnoticed(self._called(), parameters):
                    self._try(evaluate, [p for p in parameters if p.requires_grad])
            except NoLossError:
                if evaluate.closure is self._observed:
                    raise
                return None
            known[code] = evaluate.goes_back, evaluate.adds
        evaluate.goes_back, evaluate.adds = known[code]
        return evaluate.goes_back

    def _try(self, evaluate: Evaluation, parameters: list[Tensor]) -> None:
        """Evaluate the loss as the method does, for nothing."""
        raise TypeError(f"{type(self).__name__} defines no _try")


def nonzero(gradients: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Return the (parameter, gradient) pairs whose gradient is another than 0."""
    return [(p, g) for p, g in gradients if bool(whole(g.any()))]


def _code(closure: Any) -> Any:
    """Return what a closure runs: its code, which all closures made in one place share."""
    while isinstance(closure, functools.partial):
        closure = closure.func
    own = getattr(closure, "__code__", None)
    return own if own is not None else getattr(type(closure).__call__, "__code__", type(closure))
