"""Muon: orthogonalise the momentum of every weight matrix, so that all directions of the matrix learn at the same pace.

    b <- momentum * b + (1 - momentum) * g,   d = (1 - momentum) * g + momentum * b  (Nesterov; else b)
    O = NewtonSchulz(d) ~ U V^T of d = U S V^T,   theta <- theta - lr * ( sqrt(max(1, rows / columns)) * O + weight_decay * theta )

Only hidden weight matrices (convolution kernels count as matrices ``[out, in * kernel]``) are stepped this way; everything else, such as
embeddings, the output layer, gains and biases, is stepped by AdamW inside the same optimizer.

Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/ (coefficients and scaling of the authors' code).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.part import check_range
from sooner.space import Log
from sooner.transform import Chain, Clock, Decay, Descend, State, Transform, chain
from sooner.update._optimizer import ChainOptimizer
from sooner.update.adamw import AdamMoments, check_adam

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic of the authors: steep at zero, so that small singular values rise fast, at the price of ending in [0.7, 1.2]."""


@dataclass(frozen=True)
class AveragedMomentum(Transform):
    """Momentum as an exponential average, with Nesterov's look-ahead, as the authors write it."""

    momentum: float
    nesterov: bool
    slots: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the averaged direction and the new buffer."""
        buffer = self.momentum * state["momentum_buffer"] + (1 - self.momentum) * u
        ahead = (1 - self.momentum) * u + self.momentum * buffer if self.nesterov else buffer
        return ahead, {"momentum_buffer": buffer}


@dataclass(frozen=True)
class Orthogonalize(Transform):
    """Replaces every matrix by its approximate polar factor, scaled so that tall matrices move as much as square ones."""

    iterations: int
    grain: ClassVar = "tensor"

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Orthogonalise a stack ``[n, rows, *rest]`` of same-shaped weights."""
        matrices = u.flatten(2)  # [n, rows, columns]
        rows, columns = matrices.shape[1:]
        return (math.sqrt(max(1.0, rows / columns)) * newton_schulz(matrices, self.iterations)).view_as(u), state


def newton_schulz(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Push the singular values of every matrix towards 1 by a quintic Newton-Schulz iteration, in the dtype given.

    Args:
        matrices: stack ``[n, rows, columns]``, floating point.
        iterations: number of iterations, default 5; singular values then lie in about [0.7, 1.2].

    Returns:
        A stack of the same shape.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def hidden_matrices(model: nn.Module) -> set[Tensor]:
    """Return the weights of a model that Muon should step: two or more dimensions, neither embedding nor output layer.

    The output layer is the last module that holds such a weight in its own right; a weight shared with an embedding is an embedding.
    """
    holders = [(m, p) for m in model.modules() for p in m.parameters(recurse=False) if p.ndim >= 2 and p.numel() > 0]
    excluded = {p for m, p in holders if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    if holders:
        excluded.add(holders[-1][1])
    return {p for _, p in holders if p not in excluded}


class Muon(ChainOptimizer):
    """Muon for hidden weight matrices and AdamW for the rest, with an explicit partition.

    Args:
        params: a model (the partition is `hidden_matrices`); or parameters or groups, where every weight of two or more dimensions goes to
            Muon unless its group says ``"muon": False``. Pass ``select`` to decide yourself.
        lr: learning rate of the matrices, default 0.02.
        momentum: in [0, 1), default 0.95.
        nesterov: look ahead by one momentum step, default True.
        weight_decay: decoupled weight decay (multiplied by the group's learning rate), default 0.
        iterations: Newton-Schulz iterations, default 5.
        adamw_lr: learning rate of everything else; default None means ``lr / 10``.
        betas: AdamW's moment decay rates, default (0.9, 0.95).
        eps: AdamW's eps, default 1e-10.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices for Muon.
        maximize: ascend instead of descend.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    space = {"lr": Log(3e-3, 0.3)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        iterations: int = 5,
        adamw_lr: float | Tensor | None = None,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-10,
        select: Callable[[str, Tensor], bool] | None = None,
        *,
        maximize: bool = False,
    ) -> None:
        check_range("muon", "lr", lr, 0.0, math.inf)
        check_range("muon", "momentum", momentum, 0.0, 1.0, open_high=True)
        check_range("muon", "iterations", iterations, 1, 100)
        check_adam("muon", betas, eps, weight_decay)
        self._adamw_lr = lr / 10 if adamw_lr is None else adamw_lr
        check_range("muon", "adamw_lr", self._adamw_lr, 0.0, math.inf)
        self._select = select
        shared = {"betas": betas, "eps": eps, "weight_decay": weight_decay}
        defaults = {"momentum": momentum, "nesterov": nesterov, "iterations": iterations, "muon": True, **shared}
        super().__init__(params, {"lr": lr, **defaults}, maximize=maximize)

    def groups(self, params: Any) -> list[dict[str, Any]]:
        """Split into groups of matrices and groups of everything else.

        Raises:
            SoonerError: nothing is left for Muon.
        """
        if isinstance(params, nn.Module):
            named = list(params.named_parameters())
            hidden = hidden_matrices(params)
            chosen = {p for n, p in named if (self._select(n, p) if self._select else p in hidden)}
            split = [{"params": [p for _, p in named]}]
        else:
            split = super().groups(params)
            named = []
            chosen = set()
            for group in split:
                entries = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
                group["params"] = [e[1] if isinstance(e, tuple) else e for e in entries]
                named += [(f"number {i}", p) for i, p in enumerate(group["params"])]
                chosen |= {p for p in group["params"] if getattr(p, "ndim", 0) >= 2 and group.get("muon", True)}
        flat = [n for n, p in named if p in chosen and p.ndim < 2]
        if flat:
            raise SoonerError(f"muon: parameter {flat[0]} has fewer than two dimensions; select only weight matrices")
        if not chosen:
            shapes = ", ".join(f"{n} {tuple(getattr(p, 'shape', ()))}" for n, p in named[:4])
            raise SoonerError(
                f"muon finds no hidden weight matrix in this model ({shapes}{', …' if len(named) > 4 else ''}); "
                "use adamw or sgd here, or pass select= to choose matrices yourself"
            )
        parts = []
        for group in split:
            rest = {k: v for k, v in group.items() if k not in ("params", "muon")}
            matrices = [p for p in group["params"] if p in chosen]
            others = [p for p in group["params"] if p not in chosen]
            parts += [{**rest, "params": matrices, "muon": True}] if matrices else []
            parts += [{"lr": self._adamw_lr, **rest, "params": others, "muon": False}] if others else []
        return parts

    def rule(self, group: dict[str, Any]) -> Chain:
        """Matrices: ``momentum | orthogonalize | decay | descend``; the rest: AdamW's chain."""
        if group["muon"]:
            first = [AveragedMomentum(group["momentum"], group["nesterov"]), Orthogonalize(group["iterations"])]
        else:
            first = [AdamMoments(group["betas"], group["eps"])]
        return chain(*first, Decay(group["weight_decay"]), Descend())
