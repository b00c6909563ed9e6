"""Training of wide networks as kernel regression: what it predicts at every time, and how fast each mode is learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.table import FloatArray


def relu_kernel(first: FloatArray, second: FloatArray, *, depth: int = 3, bias: float = 0.0) -> FloatArray:
    """Return the (n, m) tangent kernel of an infinitely wide ReLU network in the NTK parametrisation.

    Jacot et al., 2018, arXiv 1806.07572, theorem 1, with the arc-cosine kernels of Cho and Saul, 2009, and weights of
    variance 2 / fan-in, so that the diagonal of the covariance stays as it is from layer to layer.

    Args:
        first: (n, d) inputs.
        second: (m, d) inputs.
        depth: layers of weights, 1 for a linear model.
        bias: variance of the biases.

    Raises:
        SoonerError: widths that differ, or no layers.
    """
    if depth < 1:
        raise SoonerError(f"the depth is {depth}; a network has one layer or more")
    if first.shape[1] != second.shape[1]:
        raise SoonerError(f"the inputs have {first.shape[1]} and {second.shape[1]} features; give both the same")
    width = first.shape[1]
    covariance = first @ second.T / width + bias
    left, right = ((one**2).sum(axis=1) / width + bias for one in (first, second))
    tangent: FloatArray = covariance.copy()
    for _ in range(depth - 1):
        scale = np.sqrt(np.maximum(left[:, None] * right[None], 1e-300))
        angle = np.arccos(np.clip(covariance / scale, -1.0, 1.0))
        covariance = scale * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi + bias
        tangent = covariance + tangent * (np.pi - angle) / np.pi
        left, right = left + bias, right + bias
    return tangent


@dataclass(frozen=True)
class KernelTraining:
    """Gradient flow on half the mean squared error in a fixed kernel, from an untrained function.

    Args:
        rates: (n,) eigenvalues of the kernel over n, per unit of time; a step of gradient descent is lr of it.
        modes: (n, n) eigenvectors in columns.
        targets: (n, k) what is to be learned, less the function before training.
    """

    rates: FloatArray
    modes: FloatArray
    targets: FloatArray

    @classmethod
    def of(cls, kernel: FloatArray, targets: FloatArray, before: FloatArray | None = None) -> KernelTraining:
        """Return the training on a (n, n) kernel of the inputs.

        Raises:
            SoonerError: the kernel is not square, not symmetric, or of another size than the targets.
        """
        targets = targets if targets.ndim == 2 else targets[:, None]
        if kernel.shape != (len(targets), len(targets)):
            raise SoonerError(f"the kernel is {kernel.shape} for {len(targets)} targets; give one row per target")
        if not np.allclose(kernel, kernel.T, rtol=1e-6, atol=1e-9 * np.abs(kernel).max()):
            raise SoonerError("the kernel is not symmetric; give that of the inputs with themselves")
        values, modes = np.linalg.eigh(kernel)
        start = 0.0 if before is None else before.reshape(targets.shape)
        return cls(np.maximum(values, 0.0) / len(targets), modes, targets - start)

    def loss(self, time: FloatArray) -> FloatArray:
        """Return (t,) half mean squared errors on the training inputs at times (t,)."""
        power = ((self.modes.T @ self.targets) ** 2).sum(axis=1)
        left = np.exp(-2.0 * np.outer(np.asarray(time, dtype=np.float64), self.rates))
        made: FloatArray = left @ power / (2 * len(self.targets))
        return made

    def predict(self, cross: FloatArray, time: float = np.inf) -> FloatArray:
        """Return (m, k) changes of the function at m other inputs after a time, infinite by default.

        Args:
            cross: (m, n) kernel of those inputs with the training inputs.
            time: in units of 1 / learning rate.
        """
        floor = 1e-12 * self.rates.max()
        safe = np.where(self.rates > floor, self.rates, 1.0)
        learned = np.where(self.rates > floor, 1.0, 0.0) if np.isinf(time) else -np.expm1(-time * self.rates)
        slow = learned / safe if np.isinf(time) else np.where(self.rates > floor, learned / safe, time)
        weights = self.modes @ (slow[:, None] * (self.modes.T @ self.targets)) / len(self.targets)
        made: FloatArray = cross @ weights
        return made

    def time_to(self, share: float) -> float:
        """Return the time until the training loss has fallen to a share of its start; infinite where it never does.

        Raises:
            SoonerError: the share is not between 0 and 1.
        """
        if not 0 < share < 1:
            raise SoonerError(f"the share is {share:g}; give one between 0 and 1")
        goal = share * float(self.loss(np.zeros(1))[0])
        positive = self.rates[self.rates > 1e-12 * self.rates.max()]
        low, high = 0.0, 60.0 / float(positive.min())
        if self.loss(np.array([high]))[0] > goal:
            return float(np.inf)
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if self.loss(np.array([middle]))[0] > goal else (low, middle)
        return high
