"""Hyperball: around any optimizer, every hidden matrix keeps its norm, and every step turns it by the learning rate.

    d = displacement the optimizer made,   R = ||theta|| before the first step
    theta' = theta_before + lr * R * d / ||d||
    theta <- R * theta' / ||theta'||

Norms are over a whole matrix (of a stack of experts, over each). The learning rate is then the share of its own length
by which a matrix moves, whatever the optimizer, the size of the gradients and the age of the run; embeddings, the
output layer, gains and biases are stepped as without it. Weight decay has no place beside it: it would only turn the
displacement towards the weights, so set it to 0 for the matrices.

Use it when matrices are followed by normalisation, as in Transformers, and one rate is to serve several widths.

Leave it when the length of a weight matters to the loss, as where no normalisation follows.

It costs a copy of the matrices during the step and one number per matrix; three passes over them; nothing on the wire.

Wen et al., 2026, arXiv 2606.16899 ("Fantastic Pretraining Optimizers and Where to Find Them II").
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded, local, reshard, spread_of
from sooner.foundation.unwrap import unwrapped
from sooner.kinds import bare_name, roles
from sooner.objective import Objective
from sooner.part import Part


class Hyperball(Part):
    """A constraint on the hidden matrices of a model, around the step of its optimizers.

    In a loop of your own:

        with hyperball.around_step():
            optimizer.step()

    Norms are taken in float32 at least. A matrix that did not move stays as it is, to the bit. The norm of a matrix is
    that before the first step inside, or what `load_state_dict` brought.

    Args:
        model: whose hidden matrices (`sooner.kinds.roles`) are constrained.
        optimizer: the optimizer, or several. A matrix moves by the ``lr`` of its group, such as 0.02; optimizers whose
            ``lr`` is about 1 and multiplies a rate that they find, such as Prodigy, are not for it.

    Raises:
        SoonerError: the model has no hidden matrix; at the first step, one is zero or not finite, or is a stack that is
            sharded; at a later one, a matrix has changed its shape.
    """

    station: ClassVar[str] = "update"
    owns = frozenset({"length of the step"})
    order: ClassVar[int] = 65

    def __init__(self, model: nn.Module, optimizer: Optimizer | Sequence[Optimizer]) -> None:
        self.model = unwrapped(model)
        self.optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
        self.radii: dict[str, Tensor] = {}
        self._listed: list[Tensor] = []
        self._matrices: list[tuple[str, Tensor, bool]] = []
        self._look()
        if not self._matrices:
            raise SoonerError("hyperball finds no hidden weight matrix in the model; leave it out")

    def _look(self) -> None:
        """Find the matrices of the model as it is now: their names, and whether each is a stack of several."""
        named = {p: bare_name(name) for name, p in self.model.named_parameters()}
        if len(named) == len(self._listed) and all(map(operator.is_, named, self._listed)):
            return
        self._listed = list(named)
        self._matrices = [
            (named[p], p, role.stacked)
            for p, role in roles(self.model).items()
            if role.kind == "matrix" and p in named and p.numel()
        ]

    @contextlib.contextmanager
    def around_step(self, objective: Objective | None = None) -> Iterator[None]:
        """Let the optimizers step inside, then make of their displacements one of the right length.

        Args:
            objective: not looked at.

        Raises:
            SoonerError: see the class.
        """
        reshard(self.model)
        self._look()
        rates = {p: g["lr"] for o in self.optimizers for g in o.param_groups for p in g["params"]}
        moving = [one for one in self._matrices if one[1].requires_grad and one[1] in rates]
        with torch.no_grad():
            for name, p, stacked in moving:
                self._know(name, p, stacked)
            before = [local(p.detach()).clone() for _, p, _ in moving]
        yield
        with torch.no_grad():
            for (name, p, stacked), at in zip(moving, before, strict=True):
                self._turn(p, at, rates[p], self.radii[name], stacked)

    def _know(self, name: str, p: Tensor, stacked: bool) -> None:
        """Take the norm of a matrix that is new here."""
        shape = (*p.shape[:-2], 1, 1) if stacked else (1,) * p.ndim
        radius = self.radii.get(name)
        if radius is None:
            if stacked and is_sharded(p):
                raise SoonerError(f"hyperball: {name} is a sharded stack of matrices, whose norms it does not complete")
            radius = _norm(p, local(p.detach()), stacked)
            if not bool((torch.isfinite(radius) & (radius > 0)).all()):
                raise SoonerError(
                    f"hyperball: {name} is zero or not finite at the first step, so there is no norm to keep; give it "
                    "other initial weights, or leave hyperball out"
                )
        elif tuple(radius.shape) != shape:
            raise SoonerError(f"hyperball: {name} has norms of shape {tuple(radius.shape)}, not {shape}; begin anew")
        self.radii[name] = radius.to(p.device)

    def _turn(self, p: Tensor, at: Tensor, rate: Any, radius: Tensor, stacked: bool) -> None:
        """Move a matrix from where it was by a share of its length, and give it back its length."""
        mine = local(p.detach())
        start, reached = _wide(at), _wide(mine)
        way = reached - start
        length = _norm(p, way, stacked)
        turned = start + way * (rate * radius / length)
        turned *= radius / _norm(p, turned, stacked)
        mine.copy_(torch.where(length == 0, reached, turned))

    def state_dict(self) -> dict[str, Any]:
        """Return the norms by the names of the matrices."""
        return {"radii": {name: radius.clone() for name, radius in self.radii.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.radii = {name: radius.clone() for name, radius in state["radii"].items()}


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _norm(p: Tensor, piece: Tensor, stacked: bool) -> Tensor:
    """Return the norms of a parameter's matrices from the piece of it that this process has, to broadcast."""
    over = (-2, -1) if stacked else tuple(range(p.ndim))
    norm: Tensor = torch.linalg.vector_norm(_wide(piece), dim=over, keepdim=True)
    spread = spread_of(p)
    return norm if spread is None else spread.whole_sums(norm.square().view(1, 1), ()).sqrt().view(norm.shape)
