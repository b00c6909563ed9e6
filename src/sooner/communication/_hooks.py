"""When communication is called: around the steps of optimizers, and to hear of backward passes in between."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle


class Hooks:
    """Calls `before` in front of the step of every optimizer, and `after` behind that of the last.

    Args:
        optimizers: those whose steps are heard of.
        before: called with an optimizer's number, the optimizer, and the arguments of its step; before everybody else
            who looks at the gradients, clipping say.
        after: called with what the last optimizer's hook gets; None for nobody.
        parameters: those whose gradients are listened for, none where backward passes do not matter.

    Attributes:
        added: whether a backward pass has added to the gradients since this was set to False.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        before: Callable[..., None],
        after: Callable[..., None] | None,
        parameters: Iterable[Tensor],
    ) -> None:
        self.added = False
        self._optimizers = optimizers
        self._handles: list[RemovableHandle] = []
        self._ears: list[RemovableHandle] = []
        for number, one in enumerate(optimizers):
            handle = one.register_step_pre_hook(functools.partial(before, number))
            hooks: Any = one._optimizer_step_pre_hooks  # an OrderedDict
            hooks.move_to_end(handle.id, last=False)
            self._handles.append(handle)
        if after is not None:
            self._handles.append(optimizers[-1].register_step_post_hook(after))
        self.listen(parameters)

    def listen(self, parameters: Iterable[Tensor]) -> None:
        """Hear of backward passes from now on, from the first and the last of these parameters in every optimizer."""
        for handle in self._ears:
            handle.remove()
        self._ears.clear()
        ours = set(map(id, parameters))
        for one in self._optimizers:
            held = [p for g in one.param_groups for p in g["params"] if id(p) in ours and p.requires_grad]
            for p in {id(p): p for p in (*held[:1], *held[-1:])}.values():
                self._ears.append(p.register_post_accumulate_grad_hook(self._note))

    def _note(self, _: Tensor) -> None:
        self.added = True

    def remove(self) -> None:
        """Hear of nothing any more."""
        for handle in (*self._handles, *self._ears):
            handle.remove()
