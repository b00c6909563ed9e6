"""The step of an optimizer, taken by its parameters one by one, each as soon as its gradient is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from torch import Tensor

from sooner.error import SoonerError
from sooner.execute import run
from sooner.transform import Reduction
from sooner.update._plan import Plan, Share


class OneByOne:
    """Steps single parameters as `ChainOptimizer.step` does all of them.

    Args:
        name: of the method, for messages.
        label: says in a few words which parameter a tensor is.
        state: per parameter what is kept, ``optimizer.state``.
    """

    def __init__(
        self, name: str, label: Callable[[Tensor], str], state: MutableMapping[Tensor, dict[str, Any]]
    ) -> None:
        self._name, self._label, self._state = name, label, state
        self._plans: dict[Tensor, Plan] = {}
        self._shares: dict[Tensor, Share] = {}

    def begin(self, shares: Iterable[Share]) -> None:
        """Take over what every parameter is stepped with, at the beginning of a step.

        Raises:
            SoonerError: a rule needs the whole model.
        """
        self._shares = {}
        for share in shares:
            for rule in share.chain.rules:
                if isinstance(rule, Reduction) and rule.over == "model":
                    raise SoonerError(
                        f"{self._name}: {type(rule).__name__} takes a sum or a number of the whole model, whose "
                        "gradients gradient_release never has together; leave one of the two out"
                    )
            self._shares.update((p, Share([p], share.settings, share.chain)) for p in share.params)
        self._plans = {p: plan for p, plan in self._plans.items() if p in self._shares}

    def step(self, p: Tensor) -> None:
        """Take the step of one parameter, whose gradient is there.

        Raises:
            SoonerError: a gradient or state that does not fit the parameter; nothing has moved then.
        """
        plan = self._plans.setdefault(p, Plan(self._name, self._label))
        run(plan.work([self._shares[p]], {p: self._state[p]}))
