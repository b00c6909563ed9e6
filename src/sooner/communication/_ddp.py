"""Codecs as a communication hook of DistributedDataParallel, so that averages overlap with the backward pass."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from sooner.communication._codec import Buffers, Codec, Moment, nan_unless_finite
from sooner.communication._half import Half
from sooner.communication._memory import Memory, NoMemory
from sooner.communication._packing import gathered, packed, unpacked
from sooner.communication._wire import Payload, Traffic
from sooner.communication.dense import Dense
from sooner.error import SoonerError
from sooner.foundation.layout import Layout


class DDPBuckets:
    """Averages the buckets of a DDP model through a codec, each in one collective that is launched from its hook.

    The first step is dense: DDP rebuilds its buckets after it, and what a memory keeps belongs to a bucket. Half
    precision goes without its scale here, which would have to wait for the bucket's last mean.

    Args:
        model: the DDP model; it takes one hook in its life.
        codec: what goes over the wire, in one message; None for the numbers as they are.
        memory: what to do about what is lost.

    Raises:
        SoonerError: the codec needs several messages or whole matrices.
    """

    def __init__(
        self, model: DistributedDataParallel, codec: Codec | None = None, memory: Memory | None = None
    ) -> None:
        self.codec, self.memory = codec or Dense(), memory or NoMemory()
        self.group = model.process_group
        self.traffic = Traffic()
        self.steps = 0
        self._before = 0  # steps of the run that this one goes on from
        self.state: dict[int, Buffers] = {}
        if self.codec.needs_matrices or (type(self.codec).send is not Codec.send and not isinstance(self.codec, Half)):
            raise SoonerError(
                f"{type(self.codec).__name__} needs whole matrices or several messages, which a DDP hook can't give it "
                "(the order of messages would differ between ranks); attach it with sooner.communication.Communication"
            )
        if self.memory.opens_dense or self.memory.shared:
            raise SoonerError(
                f"{type(self.memory).__name__} keeps what all workers share, which buckets of DDP can't; use ef, or "
                "attach it with sooner.communication.Communication"
            )

        # DDP looks the argument up by its name, and takes no annotation that is a text
        model.register_comm_hook(self, lambda state, bucket: state._average(bucket))

    def _average(self, bucket: GradBucket) -> Future[Tensor]:
        buffer = bucket.buffer()
        dense = self.steps == 0
        if bucket.is_last():
            self.steps += 1
        workers = dist.get_world_size(self.group)
        if dense:
            self.traffic.count(buffer.nbytes, 2 * (workers - 1) / workers)
            averaged: Future[Tensor] = self._reduced((buffer,), workers).then(lambda done: done.value()[0])
            return averaged
        number = self._before + self.steps + (not bucket.is_last())
        moment = Moment(number, Layout({"bucket": (len(buffer),)}), workers)
        state = self.state.setdefault(bucket.index(), {s: torch.zeros_like(buffer) for s in self.memory.slots})
        if any(len(kept) != len(buffer) for kept in state.values()):
            raise SoonerError(
                f"bucket {bucket.index()} has {len(buffer)} numbers now and had another size before; keep the "
                "parameters that are trained the same from step to step"
            )
        after = dict(state)
        v = self.memory.outgoing(buffer, after, moment)
        if not self.codec.passes_nan:
            v = v + nan_unless_finite(v)
        payload = self.codec.encode(v, moment)
        content = sum(part.nbytes for part in payload)

        # What follows runs in a thread of the group's own, which would wait for itself if it were the last to let go of
        # the group, as on a busy machine it may be when training has ended. So none of it holds `self` and the group.
        codec, memory = self.codec, self.memory

        def finish(mean: Tensor) -> Tensor:
            own = codec.decode(payload, moment).to(buffer.dtype)
            memory.sent(buffer, v, own, after, moment)
            finite = torch.isfinite(mean.sum())
            for name, old in state.items():
                state[name] = torch.where(finite, after[name], old)
            return buffer.copy_(memory.incoming(mean, after, 1.0))

        if self.codec.reducible:
            self.traffic.count(content, 2 * (workers - 1) / workers)
            reduced: Future[Tensor] = self._reduced(payload, workers).then(
                lambda done: finish(codec.decode((done.value()[0],), moment))
            )
            return reduced
        self.traffic.count(content, workers - 1)
        everyone, work = gathered(packed(payload), self.group, background=True)
        finished: Future[Tensor] = work.get_future().then(
            lambda _: finish(codec.decode_mean(unpacked(everyone, payload), moment))
        )
        return finished

    def _reduced(self, payload: Payload, workers: int) -> Future[Any]:
        (part,) = payload
        future: Future[Any] = dist.all_reduce(part.div(workers), group=self.group, async_op=True).get_future()
        return future

    def state_dict(self) -> dict[str, Any]:
        """Return what this rank must keep."""
        return {"steps": self._before + self.steps, "state": self.state, "traffic": self.traffic.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned on the same rank.

        Buckets are laid out anew in the first step after this, which is dense again; memories go on behind it.
        """
        self.state = {
            index: {name: kept.clone() for name, kept in one.items()} for index, one in state["state"].items()
        }
        self._before, self.steps = state["steps"], 0
        self.traffic.load_state_dict(state["traffic"])
