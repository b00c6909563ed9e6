"""Many models at once: workers, clients or seeds as the leading dimension of one flat tensor of weights.

lanes = Lanes(model, workers=64, loss=loss)                 # loss(model, batch) -> 0-d tensor, or (sum, count)
losses, gradients = lanes(lanes.weights, batches)           # [n], [n, d]: one batched program, see torch.func
stacked = Stacked(lanes.weights)                            # for one optimizer whose rule works element by element
models = lanes.replicas()                                   # for any other: one optimizer per model
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

from sooner.error import SoonerError
from sooner.foundation.layout import Layout
from sooner.objective import Found, exact, mean, measured

ELEMENTWISE = frozenset(
    ("Adadelta", "Adagrad", "Adam", "Adamax", "AdamW", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")
)
"""Optimizers of torch that treat every number on its own."""


class Lanes:
    """Losses and gradients of many copies of one model, each on a batch of its own.

    Buffers, and parameters that need no gradient, are shared by all copies.

    Args:
        model: gives the architecture and the first weights of all copies; it is not changed.
        workers: number of copies.
        loss: ``loss(model, batch) -> 0-d tensor``, a mean, or ``(sum, count)``; losses and gradients are means.
        batched: run all copies in one program (True) or one after the other (False); None chooses what is usually
            faster, and falls back on the second, with a warning that says why, where the first can't be done. Batches
            of different shapes run in one program per shape.

    Attributes:
        layout: where every parameter lies in a row of weights.
        start: the model's weights, ``[d]``.
        around: contexts in which the loss is evaluated.
        counts: what the losses of the last call have counted, ``[m]``; None where the loss is a mean.

    Raises:
        SoonerError: no worker, nothing to train, batch normalization, or parameters of several dtypes or devices.
    """

    def __init__(
        self,
        model: nn.Module,
        workers: int,
        loss: Callable[[nn.Module, Any], Found],
        *,
        batched: bool | None = None,
    ) -> None:
        if workers < 1:
            raise SoonerError(f"{workers} workers can't train anything; choose at least 1")
        _check(model)
        self.model, self.workers = model, workers
        self.batched = False if batched is None and _slower_at_once(model) else batched
        self.around: Sequence[Callable[[], contextlib.AbstractContextManager[Any]]] = ()
        named = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        self.layout = Layout.of(named)
        self.start = self.layout.flatten(named)
        self.counts: Tensor | None = None
        self._with_loss = _WithLoss(model, loss)

    @functools.cached_property
    def weights(self) -> Tensor:
        """The weights of all copies, ``[n, d]``, changed in place by whoever trains them."""
        return self.start.repeat(self.workers, 1)

    def __call__(self, weights: Tensor, batches: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Return losses ``[m]`` and gradients ``[m, d]`` at weights ``[m, d]``, or ``[d]`` for the same everywhere."""
        return self._each(weights, batches, True)

    def losses(self, weights: Tensor, batches: Sequence[Any]) -> Tensor:
        """Return the losses ``[m]`` alone."""
        return self._each(weights, batches, False)[0]

    def example_losses(self, weights: Tensor, examples: Any) -> Tensor:
        """Return the loss ``[N]`` of every example of a batch as a batch of its own, at weights ``[d]``."""
        leaves, structure = pytree.tree_flatten(examples)
        count = next(len(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        alone = [
            pytree.tree_unflatten([leaf[i : i + 1] if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure)
            for i in range(count)
        ]
        before, self.batched = self.batched, None if self.batched is False else self.batched
        try:
            return self.losses(weights, alone)  # the weights are the same for all, which is fast in one program
        finally:
            self.batched = before

    def _each(self, weights: Tensor, batches: Sequence[Any], gradients: bool) -> tuple[Tensor, Tensor]:
        losses, made, counts = self._counted(weights.detach(), batches, gradients)
        self.counts = counts if self._with_loss.counts else None
        return losses, made

    def _counted(self, weights: Tensor, batches: Sequence[Any], gradients: bool) -> tuple[Tensor, Tensor, Tensor]:
        if self.batched is False:
            return self._one_by_one(weights, batches, gradients)
        random = torch.get_rng_state()
        try:
            return self._at_once(weights, batches, gradients)
        except Exception as error:
            why = f"the loss can't be evaluated for all workers at once ({str(error).splitlines()[0]})"
            if self.batched:
                raise SoonerError(f"{why}; pass batched=False to run them one after the other") from error
        torch.set_rng_state(random)
        found = self._one_by_one(weights, batches, gradients)  # where the loss itself is at fault, this raises
        self.batched = False
        warnings.warn(
            f"{why}, so they run one after the other; to make it faster, avoid .item(), branches on values and "
            "writing into buffers",
            stacklevel=3,
        )
        return found

    def _at_once(self, weights: Tensor, batches: Sequence[Any], gradients: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Run one batched program per shape of batch: one in all where the batches are alike."""
        taken = [_leaves(batch) for batch in batches]
        groups: dict[Any, list[int]] = {}
        for number, (_, _, kind) in enumerate(taken):
            groups.setdefault(kind, []).append(number)
        if len(groups) == 1:
            return self._alike(weights, [tensors for tensors, _, _ in taken], taken[0][1], gradients)
        losses, counts = weights.new_empty(len(batches)), weights.new_empty(len(batches), dtype=exact(weights))
        made = weights.new_empty(len(batches), self.layout.size if gradients else 0)
        for numbers in groups.values():
            own = weights if weights.ndim == 1 else weights[numbers]
            losses[numbers], made[numbers], counts[numbers] = self._alike(
                own, [taken[i][0] for i in numbers], taken[numbers[0]][1], gradients
            )
        return losses, made, counts

    def _alike(
        self, weights: Tensor, tensors: list[list[Tensor]], rebuild: Callable[[Sequence[Tensor]], Any], gradients: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        def value(parameters: dict[str, Tensor], leaves: list[Tensor]) -> tuple[Tensor, Tensor]:
            return self._value(parameters, rebuild(leaves))

        per_lane = torch.func.grad_and_value(value, has_aux=True) if gradients else value
        lanes = torch.arange(len(tensors), device=weights.device)  # so that there is a lane where nothing else differs
        stacked = [torch.stack(together) for together in zip(*tensors, strict=True)]
        program = torch.func.vmap(
            lambda _, parameters, leaves: per_lane(parameters, leaves),
            in_dims=(0, None if weights.ndim == 1 else 0, 0),
            randomness="different",
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")  # still faster than a loop
            found: Any = program(lanes, self.layout.views(weights), stacked)
        losses, counts = (one.detach() for one in (found[1] if gradients else found))
        if not gradients:
            return losses, weights.new_empty(len(tensors), 0), counts
        return losses, self.layout.flatten(found[0]), counts

    def _one_by_one(self, weights: Tensor, batches: Sequence[Any], gradients: bool) -> tuple[Tensor, Tensor, Tensor]:
        losses, counts = weights.new_empty(len(batches)), weights.new_empty(len(batches), dtype=exact(weights))
        made = weights.new_zeros(len(batches), self.layout.size if gradients else 0)
        for number, batch in enumerate(batches):
            row = weights if weights.ndim == 1 else weights[number]
            parameters = {name: v.detach().requires_grad_(gradients) for name, v in self.layout.views(row).items()}
            with torch.set_grad_enabled(gradients):
                loss, counts[number] = self._value(parameters, batch)
            losses[number] = loss.detach()
            if gradients:
                slopes = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
                places = self.layout.views(made[number])
                for name, slope in zip(parameters, slopes, strict=True):
                    if slope is not None:
                        places[name].copy_(slope)
        return losses, made, counts

    def _value(self, parameters: dict[str, Tensor], batch: Any) -> tuple[Tensor, Tensor]:
        with contextlib.ExitStack() as stack:
            for enter in self.around:
                stack.enter_context(enter())
            made: tuple[Tensor, Tensor] = torch.func.functional_call(
                self._with_loss, {f"model.{name}": p for name, p in parameters.items()}, (batch,)
            )
            return made

    def copy(self) -> nn.Module:
        """Return a copy of the model, in training or evaluation mode as it is."""
        return deepcopy(self.model)

    def replicas(self) -> list[nn.Module]:
        """Return a model per worker whose parameters are its row of `weights`: an optimizer over it moves that row."""
        made = []
        for row in self.weights:
            replica = self.copy()
            trained = dict(replica.named_parameters())
            for name, place in self.layout.views(row).items():
                trained[name].data = place
            made.append(replica)
        return made

    def write(self, weights: Tensor, model: nn.Module) -> None:
        """Copy weights ``[d]`` into a model of the same architecture."""
        trained = dict(model.named_parameters())
        places = self.layout.views(weights)
        torch._foreach_copy_([trained[name].detach() for name in places], list(places.values()))


class Stacked(nn.Module):
    """All lanes as one parameter ``weights`` ``[n, d]``, for one optimizer that treats every number on its own."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)


def elementwise(optimizer: Optimizer) -> bool:
    """Whether the optimizer can move all lanes as one parameter: nothing it does looks beyond one number.

    Optimizers of torch are known by name, those of sooner say it themselves (`Transform.grain`), others are not.
    """
    rule = getattr(optimizer, "full_rule", None)
    if rule is None:
        return type(optimizer).__module__.startswith("torch.optim") and type(optimizer).__name__ in ELEMENTWISE
    rules = [one for settings in _settings(optimizer) for one in rule(settings).rules]
    # where steps that are not finite are left out, one lane must not stop the others
    return all(one.grain == "element" for one in rules) and getattr(optimizer, "non_finite", "pass") == "pass"


def remembers(optimizer: Optimizer) -> bool:
    """Whether the optimizer keeps anything from step to step, as far as can be told."""
    rule = getattr(optimizer, "full_rule", None)
    if rule is None:
        plain = type(optimizer) is torch.optim.SGD and not any(g["momentum"] for g in optimizer.param_groups)
        return not plain
    return any(rule(settings).slots for settings in _settings(optimizer))


def _settings(optimizer: Any) -> list[Any]:
    """Return the settings with which an optimizer of sooner steps its parameters."""
    return [settings for group in optimizer.param_groups for _, settings in optimizer.shares(group)]


class _WithLoss(nn.Module):
    """A model whose output is its mean loss and what that counts, as `torch.func.functional_call` wants it."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Any], Found]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.counts = False

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        total, count = measured(self.loss(self.model, batch))
        self.counts = count is not None
        number = torch.as_tensor(1.0 if count is None else count, device=total.device).to(exact(total))
        return mean(total, count), number


def _leaves(batch: Any) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], Any], Any]:
    """Return the tensors of a batch, how to put others in their place, and what must agree to stack batches."""
    leaves, structure = pytree.tree_flatten(batch)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    tensors = [leaves[i] for i in places]
    kinds: list[Any] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            kinds.append((leaf.shape, leaf.dtype, leaf.device))
        else:
            kinds.append((type(leaf), leaf if isinstance(leaf, int | float | str | bool | None) else id(leaf)))

    def rebuild(others: Sequence[Tensor]) -> Any:
        whole = list(leaves)
        for place, tensor in zip(places, others, strict=True):
            whole[place] = tensor
        return pytree.tree_unflatten(whole, structure)

    return tensors, rebuild, (structure, tuple(kinds))


def _slower_at_once(model: nn.Module) -> bool:
    """Whether a loop over workers is faster, as measured on one thread of a CPU.

    Batched convolutions with weights of their own took 1.5 times as long as a loop (16 workers, 14,458 parameters),
    embeddings of 4,096 symbols 2.5 times; 64 perceptrons of 13,130 parameters with batches of 8 a fifth.
    """
    on_cpu = all(p.device.type == "cpu" for p in model.parameters())
    return on_cpu and any(isinstance(module, _ConvNd | nn.Embedding) for module in model.modules())


def _check(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise SoonerError(
                f"{name or 'the model'} is a {type(module).__name__}, whose running averages can't be shared by "
                "several workers; use torch.nn.GroupNorm in its place"
            )
    trained = [p for p in model.parameters() if p.requires_grad]
    kinds = {(str(p.dtype), str(p.device)) for p in trained}
    if len(kinds) > 1:
        shown = ", ".join(sorted(" on ".join(kind) for kind in kinds))
        raise SoonerError(f"the parameters are of several kinds ({shown}); give all one dtype and one device")
