"""Adaptive batch size: the batch grows when the noise of its mean gradient outgrows the gradient itself.

    g = mean of g_i,   V = sample variance of g_i summed over all parameters,   |G|^2 = |g|^2 - V / b
    norm test:            b' = V / (eta^2 |G|^2)
    inner-product test:   b' = max( Var(g_i . g) / (theta^2 |G|^4),  (V - Var(g_i . g) / |g|^2) / (nu^2 |G|^2) )
    next b = b' rounded up, at least b, at most twice b and b_max

Numerators and |G|^2 are averaged over steps separately, so that one lucky batch decides nothing. Gradients come per
sample or per micro-batch of m samples (then variances are those between micro-batches, times m). The learning rate and
the budget belong in samples (`AdAdaGrad.samples`), as steps get larger.

Use it when your own loop can change the batch, and few steps matter more than few samples.

Leave it when the batch is fixed, as in races, or layers mix samples, as batch normalization does.

It costs gradients per sample or per micro-batch at every check; two numbers of state; nothing on the wire.

Lau et al., 2024, arXiv 2402.11215, sections 3 and 4; the inner-product test is that of Bollapragada et al., 2018, arXiv
1710.11258, here with the dot product over all parameters. Averages, the subtracted bias and the bound of two are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError, nearest
from sooner.part import Part, check_range
from sooner.schedule._gradient_noise import Moments, per_sample_gradients
from sooner.space import Knob, Log

__all__ = ["AdAdaGrad", "per_sample_gradients"]

TESTS = ("norm", "inner product")
MEASURED = ("variance", "along", "across", "signal")
"""What is averaged over steps: V, Var(g_i . g), the variance across g, and |G|^2."""


class AdAdaGrad(Part):
    """Says how large the next batch should be. It never shrinks, and never more than doubles.

    Per step: train on `batch_size` samples; if `due`, call `observe` or `observe_micro_batches`; then `step`.

    Args:
        optimizer: not used (recipes pass it).
        batch_size: the first batch size, default 8; at least 2, as one sample has no variance.
        b_max: the largest, default 4096.
        test: "norm" (default) or "inner product", which allows smaller batches.
        eta: relative error of the mean gradient that the norm test allows, default 0.1 (the paper: 0.1 to 0.5).
        theta: relative error along the gradient that the inner-product test allows, default 0.9.
        nu: relative error across the gradient that the inner-product test allows, default 5.84 (80 degrees).
        average: decay rate of the averages over steps, in [0, 1), default 0.9; 0 decides by the last batch alone.
        interval: steps from test to test, default 1.

    Attributes:
        batch_size: the size of the next batch.
        samples: number of samples trained on so far.

    Raises:
        SoonerError: a value outside its range, or an unknown test.
    """

    station: ClassVar[str] = "schedule"
    needs = frozenset({"variable batch size"})
    owns = frozenset({"batch size"})
    space: ClassVar[Mapping[str, Knob]] = {"eta": Log(0.05, 1.0)}

    def __init__(
        self,
        optimizer: Optimizer | None = None,
        batch_size: int = 8,
        b_max: int = 4096,
        test: str = "norm",
        eta: float = 0.1,
        theta: float = 0.9,
        nu: float = 5.84,
        average: float = 0.9,
        interval: int = 1,
    ) -> None:
        check_range("adadagrad", "b_max", b_max, 2, math.inf, whole=True)
        check_range("adadagrad", "batch_size", batch_size, 2, b_max, whole=True)
        check_range("adadagrad", "interval", interval, 1, math.inf, whole=True)
        check_range("adadagrad", "average", average, 0.0, 1.0, open_high=True)
        for name, value in (("eta", eta), ("theta", theta), ("nu", nu)):
            check_range("adadagrad", name, value, 1e-6, 1e6)
        if test not in TESTS:
            raise SoonerError(f"adadagrad: there is no test {test!r}{nearest(test, TESTS)}; choose one of {TESTS}")
        self.batch_size, self.b_max, self.samples = batch_size, b_max, 0
        self._test, self._tolerances = test, (eta, theta, nu)
        self._average, self._interval = average, interval
        self._steps = 0
        self._means: dict[str, float] = {}
        self._observed: Moments | None = None

    @property
    def due(self) -> bool:
        """Whether this step's gradients are worth observing: false once the batch can't grow, and between tests."""
        return self.batch_size < self.b_max and self._steps % self._interval == 0

    def observe(self, per_sample_gradients: Mapping[str, Tensor]) -> None:
        """Take the gradients of the step's samples, ``{name: [n, *parameter's shape]}``. Waits for no device.

        May be called several times per step, with the samples of one micro-batch each (norm test only). Fewer than two
        samples per step say nothing about noise and are ignored.

        Raises:
            SoonerError: no gradients, different numbers of samples, or other parameters than before in this step.
        """
        self._take(list(per_sample_gradients.values()), 1)

    def observe_micro_batches(self, gradients: Sequence[Mapping[str, Tensor]], micro_batch: int) -> None:
        """Take the mean gradient of each of the step's micro-batches (or workers), all of `micro_batch` samples.

        Raises:
            SoonerError: the micro-batches do not have the same parameters, or `micro_batch` is no whole number.
        """
        check_range("adadagrad", "micro_batch", micro_batch, 1, math.inf, whole=True)
        names = gradients[0].keys() if gradients else ()
        if any(one.keys() != names for one in gradients):
            raise SoonerError("adadagrad: the micro-batches' gradients have different names; give the same parameters")
        self._take([torch.stack([one[name] for one in gradients]) for name in names], micro_batch)

    @torch.no_grad()
    def _take(self, gradients: list[Tensor], size: int) -> None:
        counts = sorted({len(g) for g in gradients})
        if len(counts) != 1:
            raise SoonerError(
                f"adadagrad: the gradients are of {counts or 'no'} samples; give [n, ...] of the same n for every "
                "parameter"
            )
        if counts[0] == 0:
            return
        found, before = Moments.of(gradients, size), self._observed
        if before is not None:
            if self._test != "norm":
                raise SoonerError(
                    "adadagrad: the inner-product test needs all of a step's gradients in one call of observe; "
                    "give them together or choose test='norm'"
                )
            if before.size != size or [m.shape for m in before.means] != [m.shape for m in found.means]:
                raise SoonerError("adadagrad: a step's observations differ in parameters or samples; give like ones")
            found = before.merged(found)
        self._observed = found

    def step(self) -> None:
        """Count the step just taken and, if it was observed, decide the next batch size (this waits for the device)."""
        self._steps += 1
        self.samples += self.batch_size
        observed, self._observed = self._observed, None
        if observed is None or observed.count < 2:
            return
        found = dict(zip(MEASURED, observed.measured().tolist(), strict=True))
        if not all(math.isfinite(value) for value in found.values()):
            return  # an overflow says nothing about noise
        for name, value in found.items():
            before = self._means.get(name, value)
            self._means[name] = self._average * before + (1 - self._average) * value
        wanted = min(self._wanted(), 2 * self.batch_size, self.b_max)
        self.batch_size = max(self.batch_size, math.ceil(wanted))

    def _wanted(self) -> float:
        """Return the batch size that the test asks for; infinite where the averages show no gradient in the noise."""
        variance, along, across, signal = (self._means[name] for name in MEASURED)
        eta, theta, nu = self._tolerances
        if self._test == "norm":
            return _ratio(variance, eta * eta * signal)
        return max(_ratio(along, theta * theta * signal * max(signal, 0.0)), _ratio(across, nu * nu * signal))

    def micro_batches(self, most: int, workers: int = 1) -> tuple[int, int]:
        """Return (samples per micro-batch, micro-batches per step and worker) that realise at least `batch_size`.

        Args:
            most: largest micro-batch that fits the device.
            workers: number of data-parallel workers.
        """
        check_range("adadagrad", "most", most, 1, math.inf, whole=True)
        check_range("adadagrad", "workers", workers, 1, math.inf, whole=True)
        share = -(-self.batch_size // workers)
        accumulate = -(-share // most)
        return -(-share // accumulate), accumulate

    def state_dict(self) -> dict[str, Any]:
        """Return the batch size, the counts and the averages, as plain numbers; call it after `step`."""
        return {
            "batch_size": self.batch_size,
            "samples": self.samples,
            "steps": self._steps,
            "means": dict(self._means),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            SoonerError: the saved batch is larger than `b_max`.
        """
        check_range("adadagrad", "the saved batch_size", state["batch_size"], 2, self.b_max, whole=True)
        self.batch_size, self.samples, self._steps = state["batch_size"], state["samples"], state["steps"]
        self._means, self._observed = dict(state["means"]), None


def _ratio(noise: float, allowed: float) -> float:
    """Return ``noise / allowed``, 0 without noise and infinite where nothing is allowed."""
    if noise <= 0:
        return 0.0
    return noise / allowed if allowed > 0 else math.inf
