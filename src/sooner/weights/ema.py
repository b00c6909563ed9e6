"""Exponential moving average of the weights: evaluate a smoothed copy, train on as if it were not there.

    a_t = a_(t-1) + w_t * (theta_t - a_(t-1)),   w_t = (1 - decay) / (1 - decay^t),   t = 1, 2, …

This is the average that starts from zero, divided by 1 - decay^t, so that the initial weights have no part in it. The
newest weights count most; about 1 / (1 - decay) steps count at all. The average moves with less noise than the weights
and lags behind them, which pays where the learning rate is high, and little where it decays to zero.

Use it when learning rates are constant, or training may end at any time.

Leave it when rates decay to zero, where little noise is left to average.

It costs one number of state per weight (float32 for half precision), on another device if asked; no pass; nothing on
the wire.

Averaging of iterates is due to Polyak and Juditsky, 1992, SIAM Journal on Control and Optimization 30(4), there with
equal weights; the exponential one is studied by Morales-Brotons et al., 2024, arXiv 2411.18704. The correction is that
of Adam (Kingma and Ba, 2014, arXiv 1412.6980, section 3).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.execute.shards import local, spread_of
from sooner.foundation import snapshots
from sooner.foundation.model_names import matched, prefix_note, unwrapped
from sooner.part import Part, check_range
from sooner.space import Choice, Knob
from sooner.weights._averages import Average, Group, followed, respread, wide
from sooner.weights._followed import Seen, places

__all__ = ["EMA"]

log = logging.getLogger(__name__)


class EMA(Part):
    """Keeps the average; `view` lends it to the model.

    Averaged are the parameters that require gradients (tied ones once) and, in the same way, the running statistics of
    batch normalisation, which else would describe other weights. They fit the averaged weights closely, not exactly:
    `torch.optim.swa_utils.update_bn` inside `view` measures them anew, and the training weights get their own back. All
    other buffers stay as they are in training. Numbers of less than 32 bits are averaged in float32. Of sharded
    parameters each process averages its own pieces.

    In a loop of your own call `after_step` after every step of the optimizer.

    The model may be changed meanwhile, for its tensors are looked up anew:

    - It may be moved, cast, sharded by `fully_shard`, wrapped by DistributedDataParallel or `torch.compile`, and get
      its weights assigned. An average goes with its parameter wherever that stands in the model; a parameter that takes
      the place of another of the same shape takes over its average, and weights untied each go on from the common one.
    - A weight that is unfrozen or added is taken in from then on, with an average that starts at that step. A weight
      frozen later goes on being averaged, and its average runs into the weight that it rests at. The average of a
      removed weight is dropped.
    - A weight of another shape is refused, for no average is right; `load_state_dict` says how to go on.
    - `copy.deepcopy((model, ema))` and pickling keep the two together; a deep copy of this alone goes on with the same
      model.

    Args:
        model: the model; wrappers of it are looked through.
        decay: weight of the past in [0, 1), default 0.99; 0 is the last weights.
        device: where the averages are kept, such as ``"cpu"``; None for where the weights are. Then every step brings a
            copy of the weights there, and waits for it.

    Raises:
        SoonerError: a decay outside its range, a device without memory, or a model without trained parameters.
    """

    station: ClassVar[str] = "weights"
    owns = frozenset({"evaluation weights"})
    space: ClassVar[Mapping[str, Knob]] = {"decay": Choice(0.9, 0.97, 0.99, 0.997, 0.999)}

    def __init__(self, model: nn.Module, decay: float = 0.99, device: torch.device | str | None = None) -> None:
        check_range("ema", "decay", decay, 0.0, 1.0, open_high=True)
        self.decay = decay
        self._begin(model, device)

    def share(self, age: int) -> float:
        """Return how much of an average that has taken `age` steps, this one included, the newest weights are."""
        return (1 - self.decay) / (1 - self.decay**age)

    def _begin(self, model: nn.Module, device: torch.device | str | None) -> None:
        if not any(p.requires_grad for p in model.parameters()):
            raise SoonerError("ema: no parameter of the model requires gradients, so there is nothing to average")
        self.device = _device(device)
        self.steps = 0
        self._model = unwrapped(model)
        self._copied: dict[int, Any] | None = None
        self._averages: list[Average] = []
        self._names: set[str] = set()
        self._fresh: list[Average] = []
        self._groups: list[Group] = []
        self._refusal = ""
        self._seen: Seen | None = None
        self._lent = 0
        self._look()
        self._seen = None
        for one in self._averages:  # what is replaced before the first step is not kept in memory until then
            one.tensor, one.holders = None, []

    @property
    def model(self) -> nn.Module:
        """The model that is averaged, without wrappers."""
        if self._copied is not None:  # a deep copy: by now the model was copied with it, or was not
            self._model = self._copied.get(id(self._model), self._model)
            for one in self._averages:
                one.tensor = self._copied.get(id(one.tensor), one.tensor)
                one.holders = [(self._copied.get(id(module), module), key) for module, key in one.holders]
            self._copied = None
        return self._model

    @torch.inference_mode(False)
    @torch.no_grad()
    def after_step(self) -> None:
        """Take the model's weights into the average.

        Raises:
            SoonerError: called inside `view`, where the model holds the average itself; or a weight has another shape
                than its average, or no numbers.
        """
        if self._lent:
            raise SoonerError("ema: a step was taken inside view(), on the averaged weights; leave the view to train")
        if self._seen is None or not self._seen.still():
            self._look()
        self._check()
        self.steps += 1
        for group in self._groups:
            share = self.share(self.steps - group.start)
            now = group.tensors if group.plain else self._brought(group.tensors)
            torch._foreach_lerp_(group.values, now, share)
        if self._fresh:
            tensors = [one.tensor for one in self._fresh if one.tensor is not None]
            for one, value in zip(self._fresh, self._brought(tensors, copy=True), strict=True):
                one.value, one.start = value, self.steps - 1
            self._arrange()

    @contextlib.contextmanager
    def view(self) -> Iterator[None]:
        """Inside, the model holds the average (before the first step its weights); what is done to it there is undone.

        Frozen weights that were never averaged stay as they are. The model may be moved and cast inside, too; the
        training weights come back where and what it is then. Takes memory for one more copy of the weights meanwhile.

        Raises:
            SoonerError: a weight has another shape than its average, or no numbers.
        """
        self._look()
        self._check()
        with snapshots.shown(self.model):
            self._keep()
            try:
                self._put()
                yield
            except BaseException:
                with contextlib.suppress(SoonerError):
                    self._take_back()
                raise
            self._take_back()

    @torch.inference_mode(False)
    @torch.no_grad()
    def _keep(self) -> None:
        kept = [(one, local(one.tensor).clone()) for one in self._averages if one.taken and one.tensor is not None]
        for one, weight in kept:
            one.lent.append((weight, one.spread))
        self._lent += 1

    @torch.inference_mode(False)
    @torch.no_grad()
    def _put(self) -> None:
        for group in self._groups:
            torch._foreach_copy_([local(tensor) for tensor in group.tensors], group.values)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _take_back(self) -> None:
        """Put the training weights back, wherever the model still has a place for them.

        Raises:
            SoonerError: it has none for some of them.
        """
        self._lent -= 1
        self._look()
        for one in self._averages:
            if one.lent:  # else it came into the model inside the view
                weight, spread = one.lent.pop()
                if one.tensor is not None:
                    local(one.tensor).copy_(respread(weight, spread, one.tensor))
        self._check()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps averaged and the averages by the names of the parameters and buffers.

        Names are without the parts that wrappers put into them, devices are not told, and averages of sharded
        parameters are sharded likewise. ``own_steps`` is there where weights were taken in after the first step.
        """
        with contextlib.suppress(SoonerError):
            self._look()  # whatever is refused, what was averaged until now can be saved
        known = [one for one in self._averages if one.value is not None]
        late = {one.names[0]: self.steps - one.start for one in known if one.start}
        averages = {one.names[0]: one.shown() for one in known}
        return {"steps": self.steps, "averages": averages, **({"own_steps": late} if late else {})}

    @torch.inference_mode(False)
    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> list[str]:
        """Go on from what `state_dict` returned, on a model that is wrapped or not, and sharded or not.

        Args:
            state: the state.
            strict: refuse a state without exactly the weights averaged here. Otherwise what fits is kept, what the
                model has no place for is left out, and weights without an average start theirs at the next step. So
                ``ema.load_state_dict(ema.state_dict(), strict=False)`` goes on after a layer was resized.

        Returns:
            The names of the weights that start anew.

        Raises:
            SoonerError: it is no state of this class, or, if strict, that of another model; or called inside `view`.
        """
        if self._lent:
            raise SoonerError(
                "ema: a state was loaded inside view(), which shows the old average; leave the view first"
            )
        steps, averages, own = _parts(state)
        self._look()
        tracked = {id(one.tensor) for one in self._averages if one.taken}
        found = places(self.model, "ema")
        ours = {name: place for place in found for name in place.names}
        hits: dict[int, str] = {}
        for name, theirs in matched(averages, ours).items():
            if averages[theirs].shape == ours[name].tensor.shape:
                hits.setdefault(id(ours[name]), theirs)
        new = [p for p in found if id(p) not in hits and (p.moves or id(p.tensor) in tracked)]
        left = [name for name in averages if name not in hits.values()]
        odd = [*dict.fromkeys([*left, *(place.names[0] for place in new if steps)])]
        if odd and strict:
            raise SoonerError(
                f"ema: the state is of another model, which differs in {', '.join(odd[:4])}; load its own, or what "
                f"fits with strict=False{prefix_note(averages, ours)}"
            )
        if left:
            log.warning("ema: the model has no place for the averages of %s; they are left out", ", ".join(left))
        self.steps = steps
        self._averages = [Average(place.names, taken=True) for place in new]
        for place in found:
            if (hit := hits.get(id(place))) is not None:
                value = respread(averages[hit].detach(), spread_of(averages[hit]), place.tensor)
                start = steps - own.get(hit, steps)
                one = Average(place.names, place.tensor, place.holders, True, value.clone(), start)
                self._averages.append(replace(one, shape=place.tensor.shape, spread=spread_of(place.tensor)))
        self._look()
        return [place.names[0] for place in new if steps]

    def __deepcopy__(self, memo: dict[int, Any]) -> EMA:
        """Return a copy that averages the copy of the model, if that is made in the same call, else the model."""
        made = object.__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(self.__getstate__(), _copied=memo)
        for one in made._averages:
            one.value = None if one.value is None else one.value.clone()
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: all but what is looked up anew.

        Raises:
            SoonerError: called inside `view`, where the model holds the average.
        """
        if self._lent:
            raise SoonerError("ema: a copy inside view() would train on from the average; leave the view to copy it")
        with contextlib.suppress(SoonerError):
            self._look()  # names as they are now
        averages = [replace(one) for one in self._averages]
        return {**self.__dict__, "_averages": averages, "_groups": [], "_fresh": [], "_seen": None, "_copied": None}

    def _check(self) -> None:
        if self._refusal:
            raise SoonerError(f"ema: {self._refusal}")

    @torch.inference_mode(False)
    @torch.no_grad()
    def _look(self) -> None:
        """Find every averaged tensor in the model anew, and bring its average to where and what the tensor is now.

        Raises:
            SoonerError: the model is in pieces that can't be followed.
        """
        self._seen = None
        found = places(self.model, "ema")
        names = {name for place in found for name in place.names}
        before, (after, self._refusal) = self._averages, followed(self._averages, found, names == self._names)
        if self._refusal:
            return
        self._names, kept = names, set(map(id, after))
        gone = [one for one in before if one.value is not None and id(one) not in kept]
        if lost := [one.names[0] for one in gone if not names.intersection(one.names)]:
            log.warning("ema: the model has no %s any more; what was averaged of it is dropped", ", ".join(lost))
        self._averages = after
        refusals = [self._fit(one) for one in after]
        self._arrange()
        if any(refusals):
            self._refusal = next(filter(None, refusals))
            return
        there = [(one.tensor, one.taken) for one in after if one.tensor is not None]
        self._seen = Seen(self.model, [t for t, taken in there if taken], [t for t, taken in there if not taken])

    def _fit(self, one: Average) -> str:
        """Bring an average to where and what its tensor is now; return why it can't be used, if it can't."""
        tensor = one.tensor
        assert tensor is not None
        if tensor.is_meta and one.taken:
            return (
                f"{one.names[0]} is on the meta device and has no numbers; give it some, as to_empty() or "
                "load_state_dict(assign=True) do"
            )
        if (one.value is not None or one.lent) and tensor.shape != one.shape:
            one.tensor = None
            return (
                f"{one.names[0]} has the shape {list(tensor.shape)} now and its average {list(one.shape)}; "
                "ema.load_state_dict(ema.state_dict(), strict=False) starts it anew"
            )
        if one.value is not None:
            one.value = respread(one.value, one.spread, tensor).to(self.device or tensor.device, wide(tensor.dtype))
        one.shape, one.spread = tensor.shape, spread_of(tensor)
        return ""

    def _arrange(self) -> None:
        """Divide the averages by the step at which they start."""
        by_start: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for one in self._averages:
            if one.value is not None and one.tensor is not None:
                by_start.setdefault(one.start, []).append((one.tensor, one.value))
        self._groups = [Group(start, *map(list, zip(*pairs, strict=True))) for start, pairs in by_start.items()]
        self._fresh = [one for one in self._averages if one.taken and one.value is None]

    def _brought(self, tensors: list[Tensor], copy: bool = False) -> list[Tensor]:
        """Return this process's pieces of the model's tensors, where and as wide as their averages are.

        Args:
            tensors: the tensors.
            copy: whether the pieces are to have memory of their own.
        """
        pieces = [local(tensor) for tensor in tensors]
        if self.device is not None:
            # from CUDA to the CPU all copies are under way together; what holds them is not read before they are there
            streams = {p.device for p in pieces if p.is_cuda} if self.device.type == "cpu" else set()
            pieces = [p.to(self.device, non_blocking=p.device in streams) for p in pieces]
            for device in streams:
                torch.cuda.current_stream(device).synchronize()
        return [p.to(wide(p.dtype), copy=copy) for p in pieces]


def _device(device: torch.device | str | None) -> torch.device | None:
    """Return the device, a number and all.

    Raises:
        SoonerError: there is no such device, or nothing can be kept on it.
    """
    if device is None:
        return None
    try:
        found = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise SoonerError(
            f"ema: device={str(device)!r} can't be used ({reason}); choose another, such as 'cpu'"
        ) from None
    if found.type == "meta":
        raise SoonerError("ema: device='meta' has no memory for averages; choose another, such as 'cpu'")
    return found


def _parts(state: Mapping[str, Any]) -> tuple[int, Mapping[str, Tensor], Mapping[str, int]]:
    """Return the number of steps, the averages, and the steps of those that came later.

    Raises:
        SoonerError: it is not what `EMA.state_dict` returns.
    """
    try:
        steps, averages, own = int(state["steps"]), dict(state["averages"]), dict(state.get("own_steps", {}))
        good = all(isinstance(a, Tensor) for a in averages.values()) and all(0 < n <= steps for n in own.values())
    except (KeyError, TypeError, ValueError, AttributeError):
        good = False
    if not good or steps < 0 or (averages and not steps):
        raise SoonerError(
            "ema: this is no state of an EMA, which has 'steps' and 'averages'; load what state_dict() gave"
        )
    return steps, averages, own
