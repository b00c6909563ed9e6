"""Surgery: what parts of the stations model, adapter and precision do to a model before anything is made for it.

part = sooner.precision.FourBit(model)            # at once, on a model of one's own
part = sooner.precision.FourBit(); model = part.prepare(model)   # the same, as a recipe does it

Surgery comes before optimizers, wrappers (DistributedDataParallel, `torch.compile`) and saved states: these all look at
the model's parameters, and surgery may add, replace or freeze some.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded
from sooner.foundation.model_names import unwrapped
from sooner.part import Part


class Surgery(Part):
    """A part that changes the model itself. Subclasses override `prepare`, and the others where there is need.

    Parts that swap the class of modules keep parameters, their names, deep copies and pickling as they were. Whatever
    is drawn at random comes from PyTorch's global generator of the CPU, so that it is the same on every device.

    `copy.deepcopy((model, part))` and pickling keep the two together; a deep copy of the part alone goes on with the
    same model.
    """

    _model: nn.Module | None = None
    _copies: dict[int, Any] | None = None

    @property
    def model(self) -> nn.Module:
        """The model that was changed.

        Raises:
            SoonerError: none was yet.
        """
        if self._copies is not None:  # a deep copy: by now the model was copied with it, or was not
            self._model, self._copies = self._copies.get(id(self._model), self._model), None
        if self._model is None:
            raise SoonerError(f"{self.name()} has no model yet; call prepare(model) first")
        return self._model

    def __deepcopy__(self, memo: dict[int, Any]) -> Surgery:
        made = copy.copy(self)
        made._copies = memo
        memo[id(self)] = made
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None if self._model is None else self.model, "_copies": None}

    def prepare(self, model: nn.Module) -> nn.Module:
        """Change the model and return it, or what takes its place.

        Raises:
            SoonerError: the model has nothing that the part could change, or can't be changed any more.
        """
        raise TypeError(f"{type(self).__name__} defines no prepare")

    def follow(self, model: nn.Module) -> None:
        """Take hold of a model to which all this was done already, such as a copy of the one that was prepared."""
        self._model, self._copies = model, None

    def export(self, model: nn.Module) -> nn.Module:
        """Return the model without what others would not understand, computing the same; by default as it is."""
        return model


def refuse_sharded(part: str, model: nn.Module) -> None:
    """Refuse a model whose weights are in pieces on several processes, or not in memory at all.

    Raises:
        SoonerError: they are.
    """
    for name, p in model.named_parameters():
        if p.is_meta:
            raise SoonerError(f"{part}: {name} is on the meta device; load or initialise the model first")
        if is_sharded(p):
            raise SoonerError(f"{part}: {name} is sharded; change the model first, and call fully_shard after that")


def refuse_wrapped(part: str, model: nn.Module) -> None:
    """Refuse a model in a wrapper that has looked at its parameters, where these are about to change.

    Raises:
        SoonerError: it is wrapped.
    """
    if unwrapped(model) is not model:
        raise SoonerError(
            f"{part}: the model is inside {type(model).__name__}, which knows the old parameters; change the model "
            "first, and wrap it after that"
        )


def hold_off_shortcuts(model: nn.Module) -> None:
    """Let encoder layers of PyTorch call their own linear layers, also in evaluation, where a shortcut would not."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            # read only where PyTorch decides on the shortcut
            module.activation_relu_or_gelu = 0


def swap(module: nn.Module, kind: type[Any]) -> None:
    """Give a module another class, a subclass of its own, and nothing else: parameters, names and hooks stay."""
    if type(module) not in kind.__mro__:
        raise TypeError(f"{kind.__name__} is no kind of {type(module).__name__}")
    module.__class__ = kind
