"""Muon: orthogonalise the momentum of every weight matrix, so that all directions of the matrix learn at the same pace.

    b <- momentum * b + (1 - momentum) * g,   d = (1 - momentum) * g + momentum * b  (Nesterov; else b)
    O = NewtonSchulz(d) ~ U V^T of d = U S V^T
    theta <- theta - lr * ( sqrt(max(1, rows / columns)) * O + weight_decay * theta )

Only hidden weight matrices (convolution kernels count as matrices ``[out, in * kernel]``) are stepped this way;
everything else, such as embeddings, the output layer, gains and biases, is stepped by AdamW inside the same optimizer.

Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/ (coefficients and scaling of the authors' code).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, Grain, State, Transform, chain, decay
from sooner.update._optimizer import ChainOptimizer, Options, check_parameters
from sooner.update.adamw import AdamMoments, check_adam

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""The authors' quintic: steep at zero, so small singular values rise fast, at the price of ending in [0.7, 1.2]."""


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
    """Replaces every matrix by its approximate polar factor, scaled so that tall ones move as much as square ones."""

    iterations: int
    grain: ClassVar[Grain] = "tensor"

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
    x: Tensor = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def hidden_matrices(model: nn.Module) -> set[Tensor]:
    """Return the weights of a model that Muon should step: two or more dimensions, neither embedding nor output layer.

    The output layer is the last module that holds such a weight in its own right; a weight shared with an embedding is
    an embedding.
    """
    holders = [(m, p) for m in model.modules() for p in m.parameters(recurse=False) if _is_matrix(p)]
    excluded: set[Tensor] = {p for m, p in holders if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    if holders:
        excluded.add(holders[-1][1])
    return {p for _, p in holders if p not in excluded}


def _is_matrix(p: Tensor) -> bool:
    return p.ndim >= 2 and p.numel() > 0


class Muon(ChainOptimizer):
    """Muon for hidden weight matrices and AdamW for the rest, with an explicit partition.

    Args:
        params: a model (the partition is `hidden_matrices`); or parameters or groups, where every weight of two or more
            dimensions goes to Muon unless its group says ``"muon": False``.
        lr: learning rate of the matrices, default 0.02.
        momentum: in [0, 1), default 0.95.
        nesterov: look ahead by one momentum step, default True.
        weight_decay: decoupled weight decay (multiplied by the group's learning rate), default 0.
        iterations: Newton-Schulz iterations, default 5.
        adamw_lr: learning rate of everything else; default None means a quarter of the learning rate of the matrices.
        betas: AdamW's moment decay rates, default (0.9, 0.95).
        eps: AdamW's eps, default 1e-10.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices for Muon.
        **options: see `sooner.update._optimizer.Options`.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-3, 0.3)}

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
        **options: Unpack[Options],
    ) -> None:
        if select is not None and not isinstance(params, nn.Module):
            raise SoonerError(
                'muon: select= chooses from a model; give groups with "muon": False instead, or the model'
            )
        groups = _of_model(params, select) if isinstance(params, nn.Module) else params
        rates = {"lr": lr, "adamw_lr": adamw_lr}
        shared = {"betas": betas, "eps": eps, "weight_decay": weight_decay}
        defaults = {"momentum": momentum, "nesterov": nesterov, "iterations": iterations, "muon": True, **shared}
        super().__init__(groups, {**rates, **defaults}, **options)
        if not any(group["muon"] and group["params"] for group in self.param_groups):
            unnamed = [(f"number {i}", p) for i, p in enumerate(p for g in self.param_groups for p in g["params"])]
            raise SoonerError(_no_matrix(unnamed))

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range("muon", "momentum", group["momentum"], 0.0, 1.0, open_high=True)
        check_range("muon", "iterations", group["iterations"], 1, 100, whole=True)
        check_adam("muon", group)
        if group["adamw_lr"] is not None:
            check_range("muon", "adamw_lr", group["adamw_lr"], 0.0, math.inf)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; one that holds both matrices and other parameters becomes two.

        Raises:
            SoonerError: the group's parameters or hyper-parameters do not suit the method.
        """
        check_parameters("muon", [param_group])
        group = {**self.defaults, **param_group}
        self.check(group)
        matrices = [e for e in group["params"] if group["muon"] and _is_matrix(e[1] if isinstance(e, tuple) else e)]
        chosen = {id(e) for e in matrices}
        others = [e for e in group["params"] if id(e) not in chosen]
        if matrices or not others:
            super().add_param_group({**param_group, "params": matrices, "muon": True})
        if others:
            rate = group["lr"] / 4 if group["adamw_lr"] is None else group["adamw_lr"]
            if "lr" in param_group and not group["muon"]:
                rate = param_group["lr"]  # the lr of a group with matrices is meant for these
            super().add_param_group({**param_group, "params": others, "lr": rate, "muon": False})

    def rule(self, group: dict[str, Any]) -> Chain:
        """Matrices: ``momentum | orthogonalize | decay | descend``; the rest: AdamW's chain."""
        ending = decay(group["weight_decay"]), Descend()
        if group["muon"]:
            momentum = AveragedMomentum(group["momentum"], group["nesterov"])
            return chain(momentum, Orthogonalize(group["iterations"]), *ending)
        return chain(AdamMoments(group["betas"], group["eps"]), *ending)


def _of_model(model: nn.Module, select: Callable[[str, Tensor], bool] | None) -> list[dict[str, Any]]:
    """Divide a model's parameters into matrices for Muon and the rest."""
    named = list(model.named_parameters())
    hidden = hidden_matrices(model)
    chosen = {n for n, p in named if (select(n, p) if select else p in hidden)}
    unfit = [n for n, p in named if n in chosen and not _is_matrix(p)]
    if unfit:
        raise SoonerError(f"muon: parameter {unfit[0]} has fewer than two dimensions; select only weight matrices")
    if not chosen:
        raise SoonerError(_no_matrix(named))
    matrices = [p for n, p in named if n in chosen]
    others = [p for n, p in named if n not in chosen]
    return [{"params": matrices}, {"params": others, "muon": False}] if others else [{"params": matrices}]


def _no_matrix(named: Sequence[tuple[str, Tensor]]) -> str:
    shapes = ", ".join(f"{n} {tuple(p.shape)}" for n, p in named[:4]) + (", …" if len(named) > 4 else "")
    return (
        f"muon finds no hidden weight matrix among the parameters ({shapes or 'there are none'}); "
        "use adamw or sgd here, or pass the model with select= to choose matrices yourself"
    )
