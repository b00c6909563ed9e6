"""The flow-matching objective, and the place where a part says at which times it is trained.

Everywhere in this station t = 0 is data and t = 1 is noise: x_t = (1 - t) * x0 + t * noise, and the velocity that a
network learns is v = noise - x0 (Lipman et al., 2022, arXiv 2210.02747; Liu et al., 2022, arXiv 2209.03003).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.foundation.place import Place
from sooner.part import Part

_TIMES: Place[Times] = Place("training times")


class Times(Part):
    """A law of training times, as a map from uniform numbers: subclasses say which with `__call__`.

    A map, and not a sampler, because then whoever draws the uniform numbers keeps them: runs with different laws see
    the same images, noise and (in their order) the same times.
    """

    station: ClassVar[str] = "diffusion"
    needs = frozenset({"flow times"})
    owns = frozenset({"training times"})

    def __call__(self, uniform: Tensor) -> Tensor:
        """Return the times that take the place of uniform numbers in [0, 1], of the same shape, type and device."""
        raise TypeError(f"{type(self).__name__} defines no times")

    def draw(
        self,
        shape: int | tuple[int, ...],
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Return random times, for loops that have no uniform numbers of their own.

        Args:
            shape: how many, or the shape.
            generator: where the randomness comes from; None for PyTorch's own.
            device: where the times are; default that of the generator, or the CPU.
            dtype: their type, floating point.
        """
        where = device if device is not None or generator is None else generator.device
        return self(torch.rand(shape, generator=generator, device=where, dtype=dtype))

    @contextlib.contextmanager
    def around_loss(self) -> Iterator[None]:
        """Inside, `training_times` gives the times of this law.

        Raises:
            SoonerError: at the end, if nothing has asked for times.
        """
        unasked = (
            f"{self.name()}: this loss never asks for its training times, so there is nothing to choose; let it call "
            f"sooner.diffusion.training_times(uniform), or draw times with sooner.diffusion.{type(self).__name__}()"
        )
        with _TIMES.filled(self, unasked):
            yield


def training_times(uniform: Tensor) -> Tensor:
    """Return the times at which to train: the uniform numbers, or what the part around the loss makes of them.

    A loss that calls this lets a recipe choose its times. Outside of training (in evaluations) no part is around it.

    Args:
        uniform: numbers in [0, 1], any shape.
    """
    chosen = _TIMES.ask()
    return uniform if chosen is None else chosen(uniform)


def squared(difference: Tensor) -> Tensor:
    """Return the mean square of each example's entries, ``[N, …] -> [N]``: the usual loss of flow matching."""
    return difference.flatten(1).square().mean(1)


def pseudo_huber(difference: Tensor, c: float | None = None) -> Tensor:
    """Return ``(sqrt(|d|^2 + c^2) - c) / D`` of each example, ``[N, …] -> [N]`` with D numbers in each.

    Quadratic for small differences, linear for large ones, so that the few hardest examples don't rule the gradient.

    Args:
        difference: predicted less wanted.
        c: where it turns from one into the other; default 0.00054 * D, as Lee et al., 2024, arXiv 2405.20320.
    """
    flat = difference.flatten(1)
    corner = 0.00054 * flat.shape[1] if c is None else c
    return ((flat.square().sum(1) + corner**2).sqrt() - corner) / flat.shape[1]


def flow_loss(
    model: Callable[..., Tensor],
    x0: Tensor,
    noise: Tensor,
    times: Tensor,
    *conditions: Any,
    distance: Callable[[Tensor], Tensor] = squared,
    weight: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the flow-matching loss of a batch, a mean, 0-d.

    Args:
        model: ``model(x_t, t, *conditions) -> velocity`` with x_t ``[N, …]`` and t ``[N]``.
        x0: data, ``[N, …]``.
        noise: what each example goes to at t = 1, of the same shape; in a reflow the noise that the example came from.
        times: ``[N]`` in [0, 1], such as ``training_times(uniform)``.
        conditions: anything else that the model takes, such as labels.
        distance: ``[N, …] -> [N]`` of predicted less true velocity; default `squared`.
        weight: optional factor ``[N] -> [N]`` made of the times.

    Raises:
        SoonerError: shapes do not belong together; broadcasting would train on something else without a word.
    """
    if x0.shape != noise.shape or times.shape != x0.shape[:1]:
        raise SoonerError(
            f"flow_loss: x0 of shape {tuple(x0.shape)}, noise of {tuple(noise.shape)} and times of "
            f"{tuple(times.shape)} do not belong together; give noise like x0 and one time per example"
        )
    t = times.view(-1, *[1] * (x0.ndim - 1))
    velocity = model((1 - t) * x0 + t * noise, times, *conditions)
    if velocity.shape != x0.shape:
        raise SoonerError(
            f"flow_loss: the model returned shape {tuple(velocity.shape)} for data of {tuple(x0.shape)}; return a "
            "velocity like the data"
        )
    found = distance(velocity - (noise - x0))
    if found.shape != times.shape:
        raise SoonerError(
            f"flow_loss: distance returned shape {tuple(found.shape)}; return one number for each of the "
            f"{times.shape[0]} examples"
        )
    return (found if weight is None else weight(times) * found).mean()


@torch.no_grad()
def integrate(model: Callable[..., Tensor], noise: Tensor, steps: int, *conditions: Any, order: int = 2) -> Tensor:
    """Return what noise flows to from t = 1 to t = 0, in equal steps of Euler (order 1) or Heun (order 2).

    Args:
        model: ``model(x, t, *conditions) -> velocity``.
        noise: ``[N, …]``.
        steps: how many; each calls the model `order` times, but the last of Heun's ends with a step of Euler's.
        conditions: what the model takes besides.
        order: 1 or 2.

    Raises:
        SoonerError: another order, or no step.
    """
    if order not in (1, 2) or steps < 1:
        raise SoonerError(f"integrate: steps={steps!r}, order={order!r}; take at least one step, of order 1 or 2")
    x = noise
    grid = torch.linspace(1, 0, steps + 1, dtype=torch.float64).tolist()
    for now, then in itertools.pairwise(grid):
        slope = model(x, x.new_full(x.shape[:1], now), *conditions)
        ahead = x + (then - now) * slope
        if order == 2 and then > 0:  # at t = 0 a network was trained on hardly any noise
            slope = (slope + model(ahead, x.new_full(x.shape[:1], then), *conditions)) / 2
            ahead = x + (then - now) * slope
        x = ahead
    return x
