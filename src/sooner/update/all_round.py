"""All-round: one setting for whatever comes, Muon on hidden matrices and AdamW on the rest, on one scale of rates.

    matrices: b <- momentum * b + (1 - momentum) * g,  O ~ polar factor of (1 - momentum) * g + momentum * b
              theta <- theta - lr * ( 0.2 sqrt(max(rows, columns)) * O + weight_decay * theta )
    rest:     AdamW at the same rate; gains, biases, tokens and single numbers do not decay

Updates of matrices have the size of AdamW's, so one learning rate says how far everything moves. A model without hidden
matrices (a table, a linear model) is stepped by AdamW alone instead of being refused.

Use it when nothing is known of the model yet, or one program has to train many; the recipe `recommended` is it with
clipping, a short warm-up and an average that needs no end of training.

Leave it when training goes on from pretrained weights, for which its rate is far too large; when a method fits the
model for a reason; or when there is time to tune: `sooner find` looks for something better.

It costs one number of state per matrix weight, two per other weight; five small matrix products per matrix and step;
nothing on the wire.

Its pieces: Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/; the scale and decay: Liu et al., 2025,
arXiv 2502.16982. Its numbers were chosen on bundled workloads by `benchmarks/one_configuration.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from sooner.space import Knob, Log
from sooner.transform import Chain, Descend, chain, decay
from sooner.update._form import Form, Split
from sooner.update._matrices import MatrixOptimizer, Select
from sooner.update._options import Options
from sooner.update.muon import AveragedMomentum, Orthogonalize

__all__ = ["AllRound"]

MOMENTUM = 0.95
ITERATIONS = 5


class AllRound(MatrixOptimizer):
    """Muon for hidden matrices at AdamW's scale, AdamW for the rest, and no weight decay where it does harm.

    Args:
        params: a model, named parameters, parameters or groups of them, as `sooner.update.Muon` takes; a group with
            ``"all_round": False`` gets AdamW at its own ``lr``.
        lr: learning rate of the matrices, on AdamW's scale, default 0.01.
        weight_decay: decoupled weight decay (multiplied by the group's learning rate), default 0.
        adamw_lr: learning rate of everything else, which keeps its ratio to `lr` under a schedule; default None means
            that of the matrices.
        betas: AdamW's moment decay rates, default (0.9, 0.95).
        eps: AdamW's eps, default 1e-10.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices for Muon.
        split, heads: cut fused projections, so that each piece is orthogonalised alone; see `sooner.update.Muon`.
        **options: see `sooner.update._options.Options`; ``decay`` is "matrices" here.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-3, 1e-1)}
    needs_matrices: ClassVar[bool] = False

    def __init__(
        self,
        params: Any,
        lr: float | Any = 1e-2,
        weight_decay: float = 0.0,
        adamw_lr: float | Any | None = None,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-10,
        select: Select | None = None,
        split: Split | None = None,
        heads: Split | None = None,
        **options: Unpack[Options],
    ) -> None:
        adamw = {"adamw_lr": adamw_lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        options.setdefault("decay", "matrices")
        super().__init__(params, {"lr": lr, **adamw, "momentum": MOMENTUM}, select, split, heads, **options)

    def matrix_rule(self, group: dict[str, Any], form: Form) -> Chain:
        """``momentum | orthogonalize | decay | descend``."""
        momentum = AveragedMomentum(group["momentum"], nesterov=True)
        orthogonalize = Orthogonalize(ITERATIONS, adjust="match_rms_adamw", form=form)
        return chain(momentum, orthogonalize, decay(group["weight_decay"]), Descend())
