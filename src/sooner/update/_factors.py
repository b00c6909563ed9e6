"""Orthogonalised matrices as they come, for methods that scale them by what they remember."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.transform import Clock, Grain, State, Transform
from sooner.update._form import AS_STORED, Form
from sooner.update._orthogonal import iteration_dtype, newton_schulz


@dataclass(frozen=True)
class Factors(Transform):
    """Replaces every matrix by what Newton-Schulz makes of it, close to its polar factor; nothing is scaled."""

    iterations: int
    precision: str
    form: Form = AS_STORED
    grain: ClassVar[Grain] = "tensor"

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Orthogonalise the matrices of a stack ``[n, *shape]`` of same-shaped weights."""

        def factors(matrices: Tensor) -> Tensor:
            return newton_schulz(matrices, self.iterations, dtype=iteration_dtype(self.precision, matrices.device))

        return self.form.each(u, factors), state
