"""The norm of all gradients of a step, for logging: of the averaged and unscaled gradients, before any clipping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded, whole
from sooner.foundation.hooks import LOOKS, Attachment, hooks_of


@torch.no_grad()
def global_norm(gradients: Iterable[Tensor], order: float = 2.0) -> Tensor | None:
    """Return the norm of all entries of all tensors together, 0-d, on the first one's device, without waiting for it.

    Halves are added up in float32, where their squares fit. Of sharded gradients the norm of the whole ones is
    returned; all processes that hold pieces ask for it together.

    Args:
        gradients: dense, sparse or sharded.
        order: of the norm: 1, 2 or ``math.inf``.

    Returns:
        The norm, in float32 or the gradients' own wider dtype; None if there are no gradients.
    """
    norms: list[Tensor] = []
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for g in gradients:
        wide = torch.float32 if g.dtype.itemsize < 4 else g.dtype
        if is_sharded(g):
            norms.append(whole(torch.linalg.vector_norm(g, order, dtype=wide)))
            continue
        values = g if g.layout == torch.strided else g.coalesce().values()
        kinds.setdefault((values.device, wide), []).append(values)
    for (_, wide), some in kinds.items():
        norms += torch._foreach_norm(some, order, wide)
    if not norms:
        return None
    exact = max((n.dtype for n in norms), key=lambda dtype: dtype.itemsize)
    total: Tensor = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device, exact) for n in norms]), order)
    return total


def present(optimizers: Iterable[Optimizer]) -> list[Tensor]:
    """Return the gradients that the optimizers would step with now, each once."""
    held = dict.fromkeys(p for one in optimizers for group in one.param_groups for p in group["params"])
    return [p.grad for p in held if p.grad is not None]


class Watch(Attachment):
    """Sees the norm of the gradients of every step of one optimizer. Subclasses define `see`."""

    turn: ClassVar[int] = LOOKS
    order = 2.0

    def __init__(self) -> None:
        self._coming: Tensor | None = None

    def see(self, norm: Tensor, taken: bool) -> None:
        """Take the norm of a step, 0-d; `taken` says whether the step moved anything."""
        raise TypeError(f"{type(self).__name__} defines no see")

    def now(self, optimizer: Optimizer) -> Tensor | None:
        """Return the norm of the gradients that are in ``.grad`` now; None where there are none."""
        return global_norm(present([optimizer]), self.order)

    def before(self, optimizer: Optimizer, evaluation: int) -> None:
        """Measure; with a closure, what its first evaluation has found."""
        if evaluation in (0, 1):
            self._coming = self.now(optimizer)

    def after(self, optimizer: Optimizer, taken: bool) -> None:
        """Measure now where a closure, if there was one, has left ``.grad`` alone."""
        norm, self._coming = self._coming if self._coming is not None else self.now(optimizer), None
        if norm is not None:
            self.see(norm, taken)


class _Keeper(Watch):
    """Notes the norm of every step of one optimizer, from the first time on that somebody asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm: Tensor | None = None
        self.stepped = False

    def see(self, norm: Tensor, taken: bool) -> None:
        """Note it, also of a step that was left out for it."""
        self.norm, self.stepped = norm, True


def gradient_norm(optimizers: Sequence[Optimizer]) -> Tensor:
    """Return the global L2 norm of the gradients of the last step of these optimizers together, 0-d.

    See `sooner.update._optimizer.ChainOptimizer.gradient_norm` for when it is there.

    Raises:
        SoonerError: the gradients are gone, and nobody had asked for their norm before that step.
    """
    norms = []
    for one in optimizers:
        hooks = hooks_of(one)
        keeper = next((a for a in hooks.attachments if isinstance(a, _Keeper)), None)
        if keeper is None:
            keeper = _Keeper()
            hooks.add(keeper)
        if not keeper.stepped:
            now = keeper.now(one)
            keeper.norm = keeper.norm if now is None else now
        norms += [] if keeper.norm is None else [keeper.norm]
    together = global_norm(norms)
    if together is None:
        raise SoonerError(
            "gradient_norm: the gradients of the last step are gone; read it once before zero_grad(), and every step "
            "from then on keeps it"
        )
    return together
