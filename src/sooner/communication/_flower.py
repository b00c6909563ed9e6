"""Rounds on Flower: its server and its network, with outer parts, codecs and memories of sooner.

The client trains as it likes and answers with `flower_answer`; the server runs `FlowerStrategy`. Flower is an optional
extra (``pip install 'sooner[flower]'``).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from sooner.communication._codec import Buffers, Codec, Moment, nan_unless_finite
from sooner.communication._memory import Memory, NoMemory
from sooner.communication._outer import Outer, Window
from sooner.communication.dense import Dense
from sooner.error import SoonerError
from sooner.foundation.layout import Layout

try:
    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import FedAvg
except ModuleNotFoundError:
    raise SoonerError("Flower is not installed; pip install 'sooner[flower]' brings it") from None

_KEPT = "sooner memory"
"""Where a client keeps its memory, in the state that Flower keeps for it between rounds."""


def flower_answer(
    start: Mapping[str, Tensor],
    trained: Mapping[str, Tensor],
    kept: RecordDict,
    server_round: int,
    codec: Codec | None = None,
    memory: Memory | None = None,
) -> ArrayRecord:
    """Return a client's answer to a round: what it moved by, through its memory and the codec.

    Args:
        start: the weights that the server sent, ``arrays.to_torch_state_dict()``.
        trained: the weights after training, such as ``model.state_dict()``.
        kept: ``context.state`` of the client; its memory is kept there.
        server_round: number of the round, ``config["server-round"]``.
        codec: the same as the server's.
        memory: of this client, such as `EF`. It stays as it was where the training left numbers that are not finite;
            the server leaves such an answer out.

    Raises:
        SoonerError: the codec or the memory needs more than one message.
    """
    codec, memory = codec or Dense(), memory or NoMemory()
    _check(codec, memory)
    layout = _layout(start)
    moment = Moment(server_round, layout, 1)
    moved = layout.flatten(_floats(start)) - layout.flatten({n: trained[n].detach().cpu() for n in layout.shapes})
    state = _restored(kept, memory, layout)
    v = memory.outgoing(moved, state, moment)
    v = v + nan_unless_finite(v)  # so that the server sees it, whatever the codec chooses to send or cuts off
    payload = codec.encode(v, moment)
    memory.sent(moved, v, codec.decode(payload, moment), state, moment)
    if state and v.isfinite().all():
        kept[_KEPT] = ArrayRecord(torch_state_dict=dict(state))
    return ArrayRecord(torch_state_dict={str(i): _plain(part) for i, part in enumerate(payload)})


class FlowerStrategy(FedAvg):  # type: ignore[misc]  # Flower brings no types of its classes
    """Flower's choice of clients with a rule of sooner for what the server does with their answers.

    Args:
        outer: what the server does, such as `LocalSGD` (FedAvg) or `DiLoCo`.
        codec: the same as the clients'.
        options: those of `flwr.serverapp.strategy.FedAvg`, such as `fraction_train`.

    Raises:
        SoonerError: the outer part connects pairs of workers, and there is only a server; or the codec needs more than
            one message.
    """

    def __init__(self, outer: Outer, codec: Codec | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.outer, self.codec = outer, codec or Dense()
        _check(self.codec, NoMemory())
        if outer.own_slots:
            raise SoonerError(
                f"{type(outer).__name__} keeps weights with every worker and connects pairs; a server has none: use an "
                "outer part with one set of weights, such as local_sgd or diloco"
            )
        self.state: Buffers = {}
        self._start: dict[str, Tensor] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Remember the weights that the clients start from, and do what Flower does."""
        self._start = dict(arrays.to_torch_state_dict())
        chosen: Iterable[Message] = super().configure_train(server_round, arrays, config, grid)
        return chosen

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Decode the answers, average the finite ones by ``num-examples`` and take the outer step.

        Without any there is no step: (None, None), and the weights stay.
        """
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        if not valid:
            return None, None
        layout = _layout(self._start)
        moment = Moment(server_round, layout, 1)
        contents, mean, total = [], torch.zeros(layout.size), 0.0
        for message in valid:
            moved = self._decoded(message.content, moment)
            if moved.isfinite().all():
                weight = _examples(message.content, self.weighted_by_key)
                mean += weight * moved
                total += weight
                contents.append(message.content)
        if len(contents) < len(valid):
            warnings.warn(
                f"round {server_round}: {len(valid) - len(contents)} of {len(valid)} clients answered with numbers "
                "that are not finite and were left out; lower their learning rate",
                stacklevel=2,
            )
        if not total:
            return None, None
        mean /= total
        slow = layout.flatten(_floats(self._start))
        if not self.state:
            self.state = {name: torch.zeros_like(slow) for name in self.outer.slots}
        window = Window(slow, slow - mean, self.state, _Received(layout, mean), server_round, server_round)  # type: ignore[arg-type]
        weights = layout.views(self.outer.step(window))
        made = {name: weights[name].to(old.dtype) if name in weights else old for name, old in self._start.items()}
        return ArrayRecord(torch_state_dict=made), self.train_metrics_aggr_fn(contents, self.weighted_by_key)

    def _decoded(self, content: RecordDict, moment: Moment) -> Tensor:
        (record,) = content.array_records.values()
        parts = record.to_torch_state_dict()
        like = self.codec.encode(torch.zeros(moment.layout.size), moment)
        payload = tuple(parts[name] for name in sorted(parts, key=int))
        shapes, expected = [tuple(p.shape) for p in payload], [tuple(p.shape) for p in like]
        if shapes != expected:
            raise SoonerError(
                f"a client's answer has parts of the shapes {shapes}, {type(self.codec).__name__} makes {expected}; "
                "give clients and server the same codec and the same model"
            )
        return self.codec.decode(tuple(_typed(p, q) for p, q in zip(payload, like, strict=True)), moment)


class _Received:
    """Stands in for the exchange of a window: the answers are here already."""

    def __init__(self, layout: Layout, mean: Tensor) -> None:
        self.layout, self.mean = layout, mean

    def __call__(self, g: Tensor, active: Tensor | None = None) -> Tensor:
        return self.mean


def _check(codec: Codec, memory: Memory) -> None:
    if codec.needs_matrices or memory.shared:
        name = type(codec if codec.needs_matrices else memory).__name__
        raise SoonerError(
            f"{name} needs what all workers have received, and a client of Flower hears of the server alone; use a "
            "codec such as top_k or int8, with the memory ef or none"
        )


def _floats(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: w.detach().cpu().float() for name, w in weights.items() if w.is_floating_point()}


def _layout(weights: Mapping[str, Tensor]) -> Layout:
    return Layout.of(_floats(weights))


def _restored(kept: RecordDict, memory: Memory, layout: Layout) -> Buffers:
    if _KEPT in kept:
        return dict(kept[_KEPT].to_torch_state_dict())
    return {slot: torch.zeros(layout.size) for slot in memory.slots}


def _examples(content: RecordDict, key: str) -> float:
    (metrics,) = content.metric_records.values()
    return float(metrics[key])


def _plain(part: Tensor) -> Tensor:
    """Return the part in a type that NumPy has, because Flower sends arrays of NumPy."""
    return part.view(torch.int16) if part.dtype == torch.bfloat16 else part


def _typed(part: Tensor, like: Tensor) -> Tensor:
    return part.view(like.dtype) if part.dtype != like.dtype else part
