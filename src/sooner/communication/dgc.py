"""Deep gradient compression: top-k of every matrix, of momentum summed up where it arises, with error feedback.

    u_i <- m u_i + g_i,   r_i <- r_i + u_i,   send r_i at the k largest of every matrix,   r_i = u_i = 0 there
    g = (1 / n) sum_i (what i sent);   vectors:  b <- m b + (1 / n) sum_i g_i,   g = b

Use it when the network is very slow and the optimizer is SGD with momentum: give its momentum to this part.

Leave it when many workers take part (what everyone receives grows with them), or when the optimizer is Adam.

It costs 8 bytes per number sent on the wire, to every other worker, vectors as they are; two numbers of state per
weight; no pass.

Lin et al., 2017, arXiv 1712.01887, algorithms 1 and 4 and section 3.3; the warm-up is the paper's list (25 %, 6.3 %,
1.6 %, 0.4 % in four equal stages), which the authors' code reaches only where it is given. Weight decay stays with the
optimizer, whose momentum is 0: divide the decay of momentum SGD by (1 - m) to keep its strength.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.optim import Optimizer

from sooner.communication._codec import Buffers, Codec, Moment, Sent
from sooner.communication._memory import Memory
from sooner.communication._sparse import check_ratio, in_every_parameter, mean_of, picked, spread
from sooner.communication._wire import Wire
from sooner.error import SoonerError
from sooner.foundation.layout import Layout
from sooner.part import check_flags, check_range
from sooner.space import Choice, Knob

_STAGES = 4
"""Of the warm-up; each sends a quarter of the one before."""


@dataclass(frozen=True)
class DGC(Codec, Memory):
    """Codec and memory in one.

    Args:
        ratio: share of every matrix that is sent, in (0, 1], default 0.001; at least one number.
        momentum: of the training, in [0, 1), default 0.9.
        nesterov: whether it is Nesterov's.
        clip: scale a worker's gradient down to this norm over the square root of the number of workers; None for never.
        masking: forget the momentum of what was sent.
        warm_up: steps during which more is sent than `ratio`.

    Raises:
        SoonerError: a value out of range.
    """

    owns: ClassVar[frozenset[str]] = frozenset({"codec", "memory"})
    space: ClassVar[Mapping[str, Knob]] = {"ratio": Choice(0.001, 0.003, 0.01)}
    slots: ClassVar[tuple[str, ...]] = ("velocity", "residual")
    needs_matrices: ClassVar[bool] = True
    ratio: float = 0.001
    momentum: float = 0.9
    nesterov: bool = False
    clip: float | None = None
    masking: bool = True
    warm_up: int = 0

    def __post_init__(self) -> None:
        check_ratio("dgc", self.ratio)
        check_range("dgc", "momentum", self.momentum, 0.0, 1.0, open_high=True)
        check_range("dgc", "clip", 1 if self.clip is None else self.clip, 1e-300, math.inf)
        check_range("dgc", "warm_up", self.warm_up, 0, math.inf, whole=True)
        check_flags("dgc", nesterov=self.nesterov, masking=self.masking)

    @property
    def bytes_per_number(self) -> float:
        """Value and place of the share that is sent."""
        return 8 * self.ratio

    def ratio_at(self, step: int) -> float:
        """Return the share of every matrix that exchange number `step` (from 1) sends."""
        if step > self.warm_up:
            return self.ratio
        return max(0.25 ** (1 + _STAGES * (step - 1) // self.warm_up), self.ratio)

    def check(self, optimizers: Sequence[Optimizer]) -> None:
        """Refuse optimizers with a momentum of their own, which would be applied twice."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                if found := group.get("momentum") or group.get("betas", (0,))[0]:
                    raise SoonerError(
                        f"dgc has the momentum already, and {type(optimizer).__name__} with momentum {found:g} would "
                        "apply it once more; set that to 0, or use top_k + ef"
                    )

    def buffers(self, layout: Layout, like: Tensor) -> Buffers:
        """Return the momentum of the vectors."""
        return {"momentum": like.new_zeros(_vectors(layout))}

    def outgoing(self, g: Tensor, state: Buffers, moment: Moment) -> Tensor:
        """Return the vectors' gradients and the matrices' residuals."""
        if self.clip is not None:
            g = g * (self.clip / math.sqrt(moment.workers) / g.norm(dim=-1, keepdim=True)).clamp(max=1)
        count = _vectors(moment.layout)
        if self.nesterov:
            velocity = (state["velocity"] + g).mul_(self.momentum)
            residual = (state["residual"] + velocity).add_(g)
        else:
            velocity = state["velocity"].mul(self.momentum).add_(g)
            residual = state["residual"] + velocity
        velocity[..., :count] = 0
        residual[..., :count] = g[..., :count]
        state["velocity"] = velocity
        return residual

    def send(self, v: Tensor, wire: Wire, state: Buffers, moment: Moment) -> Sent:
        """Average the vectors, give them their momentum, and gather the largest numbers of the matrices."""
        count = _vectors(moment.layout)
        blocks = [block for block in moment.layout.blocks if len(block.shape) > 1]
        payload = picked(v, in_every_parameter(v, blocks, self.ratio_at(moment.step)))
        own, mean = spread(payload, v.shape[-1]), mean_of(wire.gather(payload), v.shape[-1])
        if count:
            own[..., :count] = v[..., :count]
            (vectors,) = wire.mean((v[..., :count].contiguous(),))
            state["momentum"] = self.momentum * state["momentum"] + vectors
            mean[:count] = state["momentum"]
            if self.nesterov:
                mean[:count] = vectors + self.momentum * state["momentum"]
        return Sent(own, mean)

    def sent(self, g: Tensor, v: Tensor, own: Tensor, state: Buffers, moment: Moment) -> None:
        """Forget what was sent."""
        state["residual"] = v - own
        if self.masking:
            state["velocity"].masked_fill_(own != 0, 0)  # made by `outgoing` in this exchange


def _vectors(layout: Layout) -> int:
    """Return how many numbers, all at the front, belong to parameters of fewer than two dimensions."""
    return sum(block.size for block in layout.blocks if len(block.shape) < 2)
