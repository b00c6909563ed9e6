"""Muon: orthogonalise the momentum of every weight matrix, so that all directions of the matrix learn at the same pace.

    b <- momentum * b + (1 - momentum) * g,   d = (1 - momentum) * g + momentum * b  (Nesterov; else b)
    O = NewtonSchulz(d) ~ U V^T of d = U S V^T  (or exactly)
    theta <- theta - lr * ( scale * O + weight_decay * theta ),   scale = sqrt(max(1, rows / columns))

Only hidden weight matrices (convolution kernels count as matrices ``[out, in * kernel]``, stacked experts
``[..., rows, columns]`` as that many matrices) are stepped this way; everything else, such as embeddings, the output
layer, gains, biases, tokens and depthwise kernels, is stepped by AdamW inside the same optimizer.

Use it when hidden weight matrices hold most of the model, as in Transformers.

Leave it when the model has no matrices of some size, or they are sharded and can't be gathered.

It costs one number of state per matrix weight, two per other weight; five small matrix products per matrix and step;
nothing on the wire.

Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/ (coefficients and scaling of the authors' code).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

from torch import Tensor

from sooner.error import SoonerError
from sooner.part import check_choice, check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, Grain, State, Transform, chain, decay
from sooner.update._form import AS_STORED, Form, Split
from sooner.update._matrices import MatrixOptimizer, Select, hidden_matrices
from sooner.update._options import Options
from sooner.update._orthogonal import COEFFICIENTS, check_iteration, iteration_dtype, newton_schulz, polar_factor

__all__ = ["Muon", "hidden_matrices", "newton_schulz", "polar_factor"]

ORTHOGONALIZATIONS = ("newton-schulz", "polar")
ADJUSTMENTS = ("original", "match_rms_adamw")


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
    """Replaces every matrix by its polar factor, scaled so that those of any shape move alike."""

    iterations: int
    orthogonalization: str = "newton-schulz"
    precision: str = "float32"
    adjust: str = "original"
    form: Form = AS_STORED
    grain: ClassVar[Grain] = "tensor"

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Orthogonalise the matrices of a stack ``[n, *shape]`` of same-shaped weights."""
        return self.form.each(u, self._factors), state

    def _factors(self, matrices: Tensor) -> Tensor:  # [m, rows, columns]
        rows, columns = matrices.shape[1:]
        if self.orthogonalization == "polar":
            factors = polar_factor(matrices)
        else:
            factors = newton_schulz(matrices, self.iterations, dtype=iteration_dtype(self.precision, matrices.device))
        original = self.adjust == "original"
        return factors.mul_(math.sqrt(max(1.0, rows / columns)) if original else 0.2 * math.sqrt(max(rows, columns)))


class Muon(MatrixOptimizer):
    """Muon for hidden weight matrices and AdamW for the rest, with an explicit partition.

    Args:
        params: a model, whose modules say what each parameter is (`sooner.kinds.roles`); or named parameters, whose
            names do; or parameters or groups of them, with `model` where there is one: shapes alone can't tell
            embeddings and the output layer, and a warning says so. A group with ``"muon": False`` gets AdamW at its own
            ``lr``. `explain` lists who gets what and why.
        lr: learning rate of the matrices, default 0.02.
        momentum: in [0, 1), default 0.95.
        nesterov: look ahead by one momentum step, default True.
        weight_decay: decoupled weight decay (multiplied by the group's learning rate), default 0.
        iterations: Newton-Schulz iterations, default 5.
        adamw_lr: learning rate of everything else, which keeps its ratio to `lr` under a schedule; default None means
            a quarter of the learning rate of the matrices.
        betas: AdamW's moment decay rates, default (0.9, 0.95).
        eps: AdamW's eps, default 1e-10.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices for Muon.
        orthogonalization: "newton-schulz" (default), or "polar" for the exact factor through an eigendecomposition,
            which was measured to take 1.3 to 2 times as long as float32 iterations on a CPU.
        precision: of the iteration. "float32" (default) is that of the state (float64 for float64 parameters): a run
            then repeats on another machine up to rounding. "bfloat16", as in the authors' code, changes a step by about
            1 % and took 0.45 to 0.8 of the time on a CPU that has it. "auto" is bfloat16 on such hardware and
            float32 elsewhere, so results depend on the machine.
        adjust: how much matrices of different shapes move: "original" (default) is sqrt(max(1, rows / columns)),
            "match_rms_adamw" is 0.2 sqrt(max(rows, columns)), with which AdamW's learning rates and weight decays carry
            over (Liu et al., 2025, arXiv 2502.16982). They are torch.optim.Muon's.
        split: cuts fused projections, so that each piece is orthogonalised alone: ``{"qkv": 3}`` cuts the outputs of
            every matrix with "qkv" in its name into three, ``{"*.attn.qkv.weight": (4096, 1024, 1024)}`` into these
            sizes; a plain number or tuple is for all matrices of the group.
        heads: cuts every piece once more, per attention head: ``{"qkv": 12}``, or ``{"qkv": (32, 8, 8)}`` for pieces
            with different numbers of heads.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-3, 0.3)}
    adamw_share: ClassVar[float] = 0.25

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
        select: Select | None = None,
        orthogonalization: Literal["newton-schulz", "polar"] = "newton-schulz",
        precision: Literal["float32", "bfloat16", "auto"] = "float32",
        adjust: Literal["original", "match_rms_adamw"] = "original",
        split: Split | None = None,
        heads: Split | None = None,
        **options: Unpack[Options],
    ) -> None:
        adamw = {"adamw_lr": adamw_lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        own = {"momentum": momentum, "nesterov": nesterov, "iterations": iterations}
        how = {"orthogonalization": orthogonalization, "precision": precision, "adjust": adjust}
        super().__init__(params, {"lr": lr, **adamw, **own, **how}, select, split, heads, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range("muon", "momentum", group["momentum"], 0.0, 1.0, open_high=True)
        check_iteration("muon", group)
        check_choice("muon", "orthogonalization", group["orthogonalization"], ORTHOGONALIZATIONS)
        check_choice("muon", "adjust", group["adjust"], ADJUSTMENTS)

    def matrix_rule(self, group: dict[str, Any], form: Form) -> Chain:
        """``momentum | orthogonalize | decay | descend``."""
        momentum = AveragedMomentum(group["momentum"], group["nesterov"])
        how = {name: group[name] for name in ("iterations", "orthogonalization", "precision", "adjust")}
        orthogonalize = Orthogonalize(**how, form=form)
        return chain(momentum, orthogonalize, decay(group["weight_decay"]), Descend())

    def state_dict(self) -> dict[str, Any]:
        """Return the state; where `torch.optim.Muon` is the same method, it can load it."""
        content = super().state_dict()
        for group in content["param_groups"]:
            if group["muon"] and group["orthogonalization"] == "newton-schulz":
                adjust = group["adjust"]
                group.update(ns_steps=group["iterations"], ns_coefficients=COEFFICIENTS, adjust_lr_fn=adjust)
        return content

    def adapted(self, state_dict: Any) -> Any:
        """Return a state, also that of `torch.optim.Muon`, as one of ours.

        Raises:
            SoonerError: torch's Muon ran with other coefficients.
        """
        return super().adapted(_translated(state_dict))


def _translated(state_dict: Any) -> Any:
    """Return a saved state with torch's names of Muon's hyper-parameters replaced by ours; what is none as it is."""
    if not isinstance(state_dict, dict) or not isinstance(state_dict.get("param_groups"), list):
        return state_dict
    groups = [dict(group) for group in state_dict["param_groups"]]
    for group in groups:
        steps = group.pop("ns_steps", None)
        coefficients = tuple(group.pop("ns_coefficients", COEFFICIENTS))
        if coefficients != COEFFICIENTS:
            raise SoonerError(
                f"muon: the state was saved with ns_coefficients={coefficients}, which sooner's Muon does not have; "
                f"only ns_coefficients={COEFFICIENTS} goes on"
            )
        if "adjust_lr_fn" in group:
            group["adjust"] = group.pop("adjust_lr_fn") or "original"
        if steps is not None:
            group["iterations"] = steps
            if "muon" not in group:
                group.pop("eps", None)  # torch's is that of the iteration, ours AdamW's
    return {**state_dict, "param_groups": groups}
