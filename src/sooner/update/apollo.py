"""APOLLO: scale the rows of the raw gradient as Adam would, with moments kept of a random low-rank projection only.

    R = G P^T (tall, square; P [r, columns]) or P G (wide; P [r, rows]),   P ~ N(0, 1 / r), new every `interval` steps
    m <- b1 m + (1 - b1) R,   v <- b2 v + (1 - b2) R^2,   N = m / (sqrt(v) + eps)
    U = phi * G,   phi = ||N|| / (||R|| + 1e-8)  for every row (tall) or column (wide) of N and R
    U <- U / c,    c = max(||U|| / (||U_previous|| + 1e-8), 1.01) / 1.01,   U_previous being the limited one
    theta' = theta - lr * sqrt(1 - b2^t) / (1 - b1^t) * sqrt(scale) * U,   theta <- theta' - lr * weight_decay * theta'

The full gradient is scaled and nothing is projected back, so the update has full rank; the state is 2 r max(rows,
columns) + 1 numbers where Adam keeps 2 rows * columns. Only hidden weight matrices (convolution kernels as
``[out, in * kernel]``, stacked experts one by one) are stepped this way, everything else by AdamW inside the same
optimizer.

Use it when optimizer state is what does not fit, and matrices hold most of the weights.

Leave it when the model is small: embeddings keep Adam's state, so little is saved.

It costs state of `rank` rows per matrix (a quarter of Adam's at a rank of a quarter), two numbers per other weight;
one random projection per matrix and step; nothing on the wire.

Zhu et al., 2024, arXiv 2412.05270; the limit on the growth of the norm is that of Fira, Chen et al., 2024, 2410.01623.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor

from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, Grain, State, Transform, chain
from sooner.update._form import AS_STORED, Form, Split
from sooner.update._matrices import MatrixOptimizer, Select
from sooner.update._options import Options

GROWTH = 1.01
"""How much the norm of an update may grow from one step to the next."""


def projection(rank: int, shape: tuple[int, int], seed: int, period: int, device: torch.device) -> Tensor:
    """Return the random projection ``[rank, shorter side]`` of all weights of one shape, entries N(0, 1 / rank).

    It depends on nothing but the arguments, so a resumed run draws the same one, and it need not be kept. Weights of
    one shape share it: it is independent of every gradient, which is what the method needs, and projecting a stack of
    weights is then one product. It is drawn in float32 by a `torch.Generator` of the device; generators of CPUs and of
    GPUs differ, so a run that changes the kind of device continues with another projection of the same law.

    Args:
        rank: number of rows.
        shape: rows and columns of the weights.
        seed: the optimizer's.
        period: counts from 0; how many projections came before.
        device: of the weights.
    """
    words = np.random.SeedSequence((seed, period, *shape)).generate_state(1, np.uint64)
    generator = torch.Generator(device).manual_seed(int(words[0]))
    return torch.randn(rank, min(shape), generator=generator, device=device) / math.sqrt(rank)


@dataclass(frozen=True)
class ScaledGradient(Transform):
    """The gradient, scaled by what Adam does to its projection; see the equations of this module.

    A previous norm of 0 limits nothing: that is the first step, or a weight that had no gradient yet, as behind a layer
    that starts at zero (taken literally, such a weight would restart from updates of size 1e-8).
    """

    betas: tuple[float, float]
    eps: float
    rank: int | None
    scale: float
    scale_front: bool
    interval: int
    seed: int
    per_channel: bool
    form: Form = AS_STORED
    grain: ClassVar[Grain] = "tensor"
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq", "update_norm")

    def slot_shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the projected gradient for the moments, and of a number for the norm.

        A stack has these per matrix; where a weight is split, those of its pieces lie behind each other in a vector.
        """
        sizes = [self._kept(slot, *one) for one in self._sizes(shape)]
        if self.form.pieces:
            return (sum(count * math.prod(own) for count, own in sizes),)
        return (*shape[:-2], *sizes[0][1]) if self.form.stacked else sizes[0][1]

    def _sizes(self, shape: Sequence[int]) -> list[tuple[int, int, int]]:
        """Return how many matrices of which rows and columns a weight holds, a line per run of equal pieces."""
        count, _, columns = self.form.size(shape)
        return [(count * pieces, rows, columns) for _, pieces, rows in self.form.runs(shape)]

    def _kept(self, slot: str, count: int, rows: int, columns: int) -> tuple[int, tuple[int, ...]]:
        """Return of how many matrices which shape is kept under the slot."""
        if slot == "update_norm":
            return count, ()
        rank = self.rank_for(rows, columns)
        return count, (rows, rank) if rows >= columns else (rank, columns)

    def rank_for(self, rows: int, columns: int) -> int:
        """Return the rank of the projection: at most the shorter side; a quarter of it by default."""
        short = min(rows, columns)
        return max(1, short // 4) if self.rank is None else min(self.rank, short)

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Scale the matrices of a stack ``[n, *shape]`` of same-shaped gradients."""
        shape = tuple(u.shape[1:])
        matrices = self.form.matrices(u)
        if not self.form.pieces:
            one_by_one = {s: state[s].reshape(-1, *self._kept(s, *self._sizes(shape)[0])[1]) for s in self.slots}
            scaled, after = self._scaled(matrices, one_by_one, clock)
            return self.form.stored(scaled, u), {s: new.view_as(state[s]) for s, new in after.items()}
        return self._by_piece(u, matrices, state, clock)

    def _by_piece(self, u: Tensor, matrices: Tensor, state: State, clock: Clock) -> tuple[Tensor, State]:
        shape = tuple(u.shape[1:])
        done = torch.empty_like(matrices, memory_format=torch.contiguous_format)
        after: dict[str, list[Tensor]] = {slot: [] for slot in self.slots}
        into, start = self.form.cut(done, shape), dict.fromkeys(self.slots, 0)
        for some, out, size in zip(self.form.cut(matrices, shape), into, self._sizes(shape), strict=True):
            before = {}
            for slot in self.slots:
                count, kept = self._kept(slot, *size)
                first, start[slot] = start[slot], start[slot] + count * math.prod(kept)
                before[slot] = state[slot].reshape(len(u), -1)[:, first : start[slot]].reshape(-1, *kept)
            scaled, new = self._scaled(some.reshape(-1, *some.shape[2:]), before, clock)
            out.copy_(scaled.view(out.shape))
            for slot in self.slots:
                after[slot].append(new[slot].reshape(len(u), -1))
        return self.form.stored(done, u), {slot: torch.cat(new, 1).view_as(state[slot]) for slot, new in after.items()}

    def _scaled(self, gradient: Tensor, state: State, clock: Clock) -> tuple[Tensor, State]:
        """Scale matrices ``[m, rows, columns]``."""
        shape = gradient.shape[1], gradient.shape[2]
        tall = shape[0] >= shape[1]
        p = projection(self.rank_for(*shape), shape, self.seed, (clock.step - 1) // self.interval, gradient.device)
        p = p.to(gradient.dtype)
        low = gradient @ p.mT if tall else p @ gradient  # [m, rows, r] or [m, r, columns]
        beta1, beta2 = self.betas
        mean = beta1 * state["exp_avg"] + (1 - beta1) * low
        square = beta2 * state["exp_avg_sq"] + (1 - beta2) * low * low
        over = (-2, -1) if not self.per_channel else (-1,) if tall else (-2,)
        normalized = torch.linalg.vector_norm(mean / (square.sqrt() + self.eps), dim=over, keepdim=True)
        phi = normalized / (torch.linalg.vector_norm(low, dim=over, keepdim=True) + 1e-8)
        scaled = gradient * (phi * (math.sqrt(self.scale) if self.scale_front else 1.0))
        norm = torch.linalg.vector_norm(scaled, dim=(-2, -1))  # [m]
        excess = excess_growth(norm, state["update_norm"])
        correction = math.sqrt(1 - beta2**clock.step) / (1 - beta1**clock.step)
        factor = correction * (1.0 if self.scale_front else math.sqrt(self.scale)) / excess
        after = {"exp_avg": mean, "exp_avg_sq": square, "update_norm": norm / excess}
        return scaled.mul_(factor[:, None, None]), after


def excess_growth(norm: Tensor, previous: Tensor) -> Tensor:
    """Return by how much each norm ``[n]`` is too large, at least 1, if it may grow by 1 % over the previous one."""
    excess = (norm / (previous + 1e-8)).clamp_min(GROWTH) / GROWTH
    return torch.where(previous > 0, excess, 1.0)


@dataclass(frozen=True)
class DecayMoved(Transform):
    """Adds weight decay to a displacement, of the weights as they are after it: the authors' order."""

    weight_decay: float
    reads_theta: ClassVar[bool] = True

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """``u - learning_rate * weight_decay * (theta + u)``."""
        return u - clock.learning_rate * self.weight_decay * (u + theta), state  # type: ignore[operator]


class APOLLO(MatrixOptimizer):
    """APOLLO for hidden weight matrices and AdamW for the rest, with an explicit partition.

    Args:
        params: a model, named parameters, parameters or groups of them, as `sooner.update.muon.Muon` takes; a group
            with ``"apollo": False`` gets AdamW at its own ``lr``.
        lr: learning rate of the matrices, default 0.01: ten times what one would give Adam.
        rank: of the projection, default None: a quarter of a weight's shorter side. Never more than that side.
        scale: its square root multiplies the update, default 1.
        scale_front: multiply before the limit on the norm's growth, as the authors advise for short warm-ups, default
            False.
        interval: steps between two projections, default 200; the moments live on.
        betas: decay rates of the moments, default (0.9, 0.999), also AdamW's.
        eps: added to the root of the second moment, default 1e-6, also AdamW's.
        weight_decay: decoupled weight decay (multiplied by the group's learning rate), default 0.
        adamw_lr: learning rate of everything else, which keeps its ratio to `lr` under a schedule; default None means
            that of the matrices, as in the authors' runs.
        seed: of the projections, a whole number from 0, default 0.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices for APOLLO.
        split, heads: cut fused projections, so that each piece has a projection and a norm of its own; see Muon.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-3, 0.3)}
    per_channel: ClassVar[bool] = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.01,
        rank: int | None = None,
        scale: float = 1.0,
        scale_front: bool = False,
        interval: int = 200,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        adamw_lr: float | Tensor | None = None,
        seed: int = 0,
        select: Select | None = None,
        split: Split | None = None,
        heads: Split | None = None,
        **options: Unpack[Options],
    ) -> None:
        adamw = {"adamw_lr": adamw_lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        own = {"rank": rank, "scale": scale, "scale_front": scale_front, "interval": interval, "seed": seed}
        super().__init__(params, {"lr": lr, **adamw, **own}, select, split, heads, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        if group["rank"] is not None:
            check_range(cls.name(), "rank", group["rank"], 1, math.inf, whole=True)
        check_range(cls.name(), "scale", group["scale"], 0.0, math.inf)
        check_range(cls.name(), "interval", group["interval"], 1, math.inf, whole=True)
        check_range(cls.name(), "seed", group["seed"], 0, math.inf, whole=True)

    def matrix_rule(self, group: dict[str, Any], form: Form) -> Chain:
        """``scaled gradient | descend | decay``."""
        names = ("betas", "eps", "rank", "scale", "scale_front", "interval", "seed")
        scaled = ScaledGradient(**{name: group[name] for name in names}, per_channel=self.per_channel, form=form)
        return chain(scaled, Descend(), DecayMoved(group["weight_decay"]) if group["weight_decay"] else None)
