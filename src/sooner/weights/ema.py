"""Exponential moving average of the weights: evaluate a smoothed copy, train on as if it were not there.

    a_t = a_(t-1) + w_t * (theta_t - a_(t-1)),   w_t = (1 - decay) / (1 - decay^t),   t = 1, 2, …

This is the average that starts from zero, divided by 1 - decay^t, so that the initial weights have no part in it. The
newest weights count most; about 1 / (1 - decay) steps count at all. The average moves with less noise than the weights
and lags behind them, which pays where the learning rate is high, and little where it decays to zero.

Use it when learning rates are constant, or training may end at any time.

Leave it when rates decay to zero, where little noise is left to average.

It costs one number of state per weight (float32 for half precision); no pass; nothing on the wire.

Averaging of iterates is due to Polyak and Juditsky, 1992, SIAM Journal on Control and Optimization 30(4), there with
equal weights; the exponential one is studied by Morales-Brotons et al., 2024, arXiv 2411.18704. The correction is that
of Adam (Kingma and Ba, 2014, arXiv 1412.6980, section 3).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded, local, spread_of
from sooner.part import Part, check_range
from sooner.space import Choice, Knob

__all__ = ["EMA"]

STATISTICS = ("running_mean", "running_var")
"""Buffers that belong to the weights before them, as batch normalisation names them."""


class EMA(Part):
    """Keeps the average; `view` lends it to the model.

    Averaged are the parameters that require gradients when this is made (tied ones once) and, in the same way, the
    running statistics of batch normalisation, which else would describe other weights. They fit the averaged weights
    closely, not exactly: `torch.optim.swa_utils.update_bn` inside `view` measures them anew, and the training weights
    get their own back. All other buffers stay as they are in training. Numbers of less than 32 bits are averaged in
    float32. Of sharded parameters each process averages its own pieces.

    In a loop of your own call `after_step` after every step of the optimizer.

    Args:
        model: the model, on its device and in its precision.
        decay: weight of the past in [0, 1), default 0.99; 0 is the last weights.

    Raises:
        SoonerError: a decay outside its range, or a model without trained parameters.
    """

    station: ClassVar[str] = "weights"
    owns = frozenset({"evaluation weights"})
    space: ClassVar[Mapping[str, Knob]] = {"decay": Choice(0.9, 0.97, 0.99, 0.997, 0.999)}

    def __init__(self, model: nn.Module, decay: float = 0.99) -> None:
        check_range("ema", "decay", decay, 0.0, 1.0, open_high=True)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trained:
            raise SoonerError("ema: no parameter of the model requires gradients, so there is nothing to average")
        self.decay = decay
        self.steps = 0
        self._whole: dict[str, Tensor] = {**trained, **_statistics(model)}
        self._weights = [local(tensor.detach()) for tensor in self._whole.values()]  # share the memory of the model
        self._averages: list[Tensor] = []
        sharded = any(map(is_sharded, trained.values()))
        self._reshards: list[Any] = [m.reshard for m in model.modules() if sharded and hasattr(m, "reshard")]
        self._lent = False

    @classmethod
    def name(cls) -> str:
        """The part's name."""
        return "ema"

    @torch.no_grad()
    def after_step(self) -> None:
        """Take the model's weights into the average.

        Raises:
            SoonerError: called inside `view`, where the model holds the average itself.
        """
        if self._lent:
            raise SoonerError("ema: a step was taken inside view(), on the averaged weights; leave the view to train")
        self.steps += 1
        if not self._averages:
            self._averages = _wide(self._weights)
            return
        share = (1 - self.decay) / (1 - self.decay**self.steps)
        torch._foreach_lerp_(self._averages, _wide(self._weights, self._averages), share)

    @contextlib.contextmanager
    def view(self) -> Iterator[None]:
        """Inside, the model holds the average (before the first step its weights); what is done to it there is undone.

        Takes memory for one more copy of the weights meanwhile.
        """
        kept, before = [w.clone() for w in self._weights], self._lent
        try:
            self._lent = True
            self._put(self._averages or kept)
            yield
        finally:
            self._put(kept)
            self._lent = before

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(self._weights, values)
        for reshard in self._reshards:  # FSDP2 may still hold whole weights, gathered for the last forward pass
            reshard()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps averaged and the averages by the names of the parameters and buffers.

        Those of sharded parameters are sharded likewise.
        """
        averages = {}
        for (name, tensor), average in zip(self._whole.items(), self._averages, strict=False):
            spread = spread_of(tensor)
            averages[name] = average if spread is None else spread.shown(average, tensor)
        return {"steps": self.steps, "averages": averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            SoonerError: it is the state of another model.
        """
        steps, averages = state["steps"], state["averages"]
        ours = self._whole if steps else {}
        odd = [name for name in {**averages, **ours} if _shape(averages, name) != _shape(ours, name)]
        if odd:
            raise SoonerError(
                f"ema: the state is of another model, which differs in {', '.join(odd[:4])}; load its own"
            )
        self.steps = steps
        self._averages = [local(averages[name]).to(tensor.device, copy=True) for name, tensor in ours.items()]


def _shape(tensors: Mapping[str, Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    """Return the running statistics of normalisations, each once."""
    return {n: b for n, b in model.named_buffers() if n.rpartition(".")[2] in STATISTICS and b.is_floating_point()}


def _wide(tensors: list[Tensor], like: list[Tensor] | None = None) -> list[Tensor]:
    """Return tensors in at least float32: copies of their own, or where `like` has their dtype the tensors themselves.

    Args:
        tensors: the tensors.
        like: the averages, whose dtype is wanted; None for copies.
    """
    if like is not None and all(t.dtype == other.dtype for t, other in zip(tensors, like, strict=True)):
        return tensors
    copies = [torch.empty_like(t, dtype=torch.float32 if t.dtype.itemsize < 4 else t.dtype) for t in tensors]
    torch._foreach_copy_(copies, tensors)
    return copies
