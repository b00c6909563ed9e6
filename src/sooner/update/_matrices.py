"""What methods for hidden weight matrices share: which weights these are, and AdamW for all others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Unpack

from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.part import check_range
from sooner.transform import Chain, Descend, chain, decay
from sooner.update._optimizer import ChainOptimizer, Options, check_parameters
from sooner.update.adamw import AdamMoments, check_adam

Select = Callable[[str, Tensor], bool]


def hidden_matrices(model: nn.Module) -> set[Tensor]:
    """Return a model's hidden weight matrices: two or more dimensions, neither embedding nor output layer.

    The output layer is the last module that holds such a weight in its own right; a weight shared with an embedding is
    an embedding.
    """
    holders = [(m, p) for m in model.modules() for p in m.parameters(recurse=False) if _is_matrix(p)]
    excluded: set[Tensor] = {p for m, p in holders if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    if holders:
        excluded.add(holders[-1][1])
    return {p for _, p in holders if p not in excluded}


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns of a weight as a matrix; convolution kernels are ``[out, in * kernel]``."""
    return shape[0], math.prod(shape[1:])


class MatrixOptimizer(ChainOptimizer):
    """Base of the methods that step hidden weight matrices their own way and everything else with AdamW.

    A group says under the method's name which of the two it gets, such as ``"muon": False``; by default every weight of
    two or more dimensions is a matrix. A part says in `matrix_rule` what happens to matrices.

    Args:
        params: a model (its matrices are `hidden_matrices`, or what `select` chooses), parameters or groups.
        defaults: hyper-parameters of every group; ``lr``, ``adamw_lr``, ``betas``, ``eps`` and ``weight_decay`` are
            among them.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices.
        **options: see `sooner.update._optimizer.Options`.

    Attributes:
        adamw_share: learning rate of everything else, as a share of that of the matrices, where ``adamw_lr`` is None.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    adamw_share: ClassVar[float] = 1.0

    def __init__(
        self, params: Any, defaults: dict[str, Any], select: Select | None, **options: Unpack[Options]
    ) -> None:
        name = self.name()
        if select is not None and not isinstance(params, nn.Module):
            raise SoonerError(
                f'{name}: select= chooses from a model; give groups with "{name}": False instead, or the model'
            )
        groups = self._of_model(params, select) if isinstance(params, nn.Module) else params
        super().__init__(groups, {**defaults, name: True}, **options)
        if not any(group[name] and group["params"] for group in self.param_groups):
            listed = [p for group in self.param_groups for p in group["params"]]
            raise SoonerError(_no_matrix(name, [(f"number {i}", p) for i, p in enumerate(listed)]))

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_adam(cls.name(), group)
        if group["adamw_lr"] is not None:
            check_range(cls.name(), "adamw_lr", group["adamw_lr"], 0.0, math.inf)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; one that holds both matrices and other parameters becomes two.

        Raises:
            SoonerError: the group's parameters or hyper-parameters do not suit the method.
        """
        name = self.name()
        check_parameters(name, [param_group])
        group = {**self.defaults, **param_group}
        self.check(group)
        matrices = [e for e in group["params"] if group[name] and _is_matrix(e[1] if isinstance(e, tuple) else e)]
        chosen = {id(e) for e in matrices}
        others = [e for e in group["params"] if id(e) not in chosen]
        if matrices or not others:
            super().add_param_group({**param_group, "params": matrices, name: True})
        if others:
            rate = self.adamw_share * group["lr"] if group["adamw_lr"] is None else group["adamw_lr"]
            if "lr" in param_group and not group[name]:
                rate = param_group["lr"]  # the lr of a group with matrices is meant for these
            super().add_param_group({**param_group, "params": others, "lr": rate, name: False})

    def rule(self, group: dict[str, Any]) -> Chain:
        """Matrices: `matrix_rule`; the rest: AdamW's chain."""
        if group[self.name()]:
            return self.matrix_rule(group)
        return chain(AdamMoments(group["betas"], group["eps"]), decay(group["weight_decay"]), Descend())

    def matrix_rule(self, group: dict[str, Any]) -> Chain:
        """Return the chain of a group of matrices."""
        raise TypeError(f"{type(self).__name__} defines no matrix_rule")

    def _of_model(self, model: nn.Module, select: Select | None) -> list[dict[str, Any]]:
        """Divide a model's parameters into matrices and the rest."""
        name = self.name()
        named = list(model.named_parameters())
        hidden = hidden_matrices(model)
        chosen = {n for n, p in named if (select(n, p) if select else p in hidden)}
        unfit = [n for n, p in named if n in chosen and not _is_matrix(p)]
        if unfit:
            raise SoonerError(
                f"{name}: parameter {unfit[0]} has fewer than two dimensions; select only weight matrices"
            )
        if not chosen:
            raise SoonerError(_no_matrix(name, named))
        matrices = [p for n, p in named if n in chosen]
        others = [p for n, p in named if n not in chosen]
        return [{"params": matrices}, {"params": others, name: False}] if others else [{"params": matrices}]


def _is_matrix(p: Tensor) -> bool:
    return p.ndim >= 2 and p.numel() > 0


def _no_matrix(name: str, named: Sequence[tuple[str, Tensor]]) -> str:
    shapes = ", ".join(f"{n} {tuple(p.shape)}" for n, p in named[:4]) + (", …" if len(named) > 4 else "")
    return (
        f"{name} finds no hidden weight matrix among the parameters ({shapes or 'there are none'}); "
        "use adamw or sgd here, or pass the model with select= to choose matrices yourself"
    )
