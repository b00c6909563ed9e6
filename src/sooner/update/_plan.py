"""Which parameters step together. A plan is kept from step to step and made anew when anything in it has changed.

Groups may be edited, parameters replaced, moved, cast or frozen, and state put aside or back, by anybody and at any
time: every step compares what is there with what the plan was made for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.execute import Cohort, Mark, MisfitError, SparseGradientError, Work, find_shared
from sooner.execute.cohort import Kept
from sooner.execute.packed import PackedCohort, bits_of
from sooner.execute.shards import local, spread_of
from sooner.execute.shared import show_shared, steps_of
from sooner.execute.snapshot import same, same_items
from sooner.transform import Chain, Clock


@dataclass(frozen=True)
class Share:
    """Parameters of a group that are stepped with the same settings.

    Attributes:
        params: the parameters.
        settings: the group's hyper-parameters, for these parameters.
        chain: what `rule` made of them.
    """

    params: list[Tensor]
    settings: dict[str, Any]
    chain: Chain

    def switches(self) -> tuple[Any, ...]:
        """Return what decides, besides the chain, how the parameters are stepped."""
        return tuple(map(self.settings.get, ("maximize", "stochastic_rounding", "master_weights", "state_bits")))

    def key(self) -> Hashable:
        """Return what shares have in common whose parameters may step together, be it with different rates."""
        rate = self.settings["lr"]
        own = (id(rate) if isinstance(rate, Tensor) else None, *self.switches())
        try:
            return hash(self.chain), self.chain, own
        except TypeError:  # a hyper-parameter that can't be hashed
            return id(self.settings), own

    def like(self, other: Share) -> bool:
        """Whether the keys are the same, at a glance at neighbours, of which most are."""
        rates = self.settings["lr"], other.settings["lr"]
        same = rates[0] is rates[1] or not any(isinstance(rate, Tensor) for rate in rates)
        return same and self.chain == other.chain and self.switches() == other.switches()


class _Sorted:
    """Shares by what they have in common.

    Attributes:
        classes: the number of each share's class.
        rates: the number of its learning rate among those of its class.
        first: of each class the first share.
        of_class: the learning rates of each class.
    """

    def __init__(self, shares: Sequence[Share]) -> None:
        self.classes: list[int] = []
        self.rates: list[int] = []
        self.first: list[Share] = []
        self.of_class: list[list[Any]] = []
        known: dict[Hashable, int] = {}
        numbers: list[dict[float, int]] = []
        before: Share | None = None
        number = 0
        for share in shares:
            if before is None or not share.like(before):
                number = known.setdefault(share.key(), len(known))
                if number == len(self.first):
                    self.first.append(share)
                    self.of_class.append([])
                    numbers.append({})
            before = share
            rate, own = share.settings["lr"], numbers[number]
            if isinstance(rate, Tensor):
                place = 0
                self.of_class[number] = [rate]
            elif (place := own.setdefault(rate, len(own))) == len(self.of_class[number]):
                self.of_class[number].append(rate)
            self.classes.append(number)
            self.rates.append(place)


class Plan:
    """The cohorts of an optimizer.

    Args:
        name: of the method, for messages.
        label: says in a few words which parameter a tensor is.

    Attributes:
        shared: the state that rules keep once for the whole model.
    """

    def __init__(self, name: str, label: Callable[[Tensor], str]) -> None:
        self._name, self._label = name, label
        self.shared: dict[str, Tensor] = {}
        self._listed: list[list[Tensor]] = []
        self._classes: list[int] = []
        self._rates: list[int] = []
        self._chains: dict[int, Chain] = {}
        self._switched: list[tuple[Any, ...]] = []
        self._cohorts: list[tuple[int, Cohort]] = []
        self._idle: list[Tensor] = []
        self._steady = True  # whether the last step went by the plan as it was
        self._keys: list[Tensor] = []
        self._dicts: list[dict[str, Tensor]] = []

    def work(self, shares: Sequence[Share], kept: Kept) -> list[Work]:
        """Return the work of one step, and count the step.

        Raises:
            SoonerError: a gradient or state that does not fit its parameter; nothing has moved then.
        """
        if not shares:  # all groups were removed
            return []
        by_kind = _Sorted(shares)
        try:
            steady = self._steady or self._same_gradients()
            self._steady = steady and self._holds(shares, by_kind, kept) and self._find_gradients()
            if not self._steady:
                self._build(shares, by_kind, kept, watched=steady)
                found = self._find_gradients()
                assert found
        except SparseGradientError as error:
            self._listed = []
            label = self._label(error.parameter)
            raise SoonerError(
                f"{self._name} takes no sparse gradients; build the embedding with sparse=False ({label} has one)"
            ) from error
        except MisfitError as error:
            self._listed = []
            raise SoonerError(
                f"{self._name}: {self._label(error.parameter)} of shape {tuple(error.parameter.shape)} {error.what}"
            ) from error
        return [
            self._stepped(cohort, by_kind.first[number].settings, self._chains[number], by_kind.of_class[number])
            for number, cohort in self._cohorts
        ]

    def _stepped(self, cohort: Cohort, settings: dict[str, Any], chain: Chain, rates: list[Any]) -> Work:
        """Count a step of a cohort and return its work."""
        cohort.advance()
        first = cohort.bands[0]
        return Work(
            cohort,
            chain,
            Clock(first.steps, rates[first.rate]),
            settings["maximize"],
            settings["stochastic_rounding"],
            rates=rates,
        )

    def _find_gradients(self) -> bool:
        """Look at the gradients of all cohorts; False where others have one than when the plan was made."""
        found = all(cohort.find_gradients() for _, cohort in self._cohorts)
        return found and all(p.grad is None for p in self._idle)

    def _same_gradients(self) -> bool:
        """Whether the same parameters have gradients; a glance that saves the whole comparison where they change."""
        stepping = all(p.grad is not None for _, cohort in self._cohorts for p in cohort.params)
        return stepping and all(p.grad is None for p in self._idle)

    def _holds(self, shares: Sequence[Share], by_kind: _Sorted, kept: Kept) -> bool:
        return (
            len(shares) == len(self._listed)
            and by_kind.classes == self._classes
            and by_kind.rates == self._rates
            and _switches(by_kind) == self._switched
            and all(same(share.params, before) for share, before in zip(shares, self._listed, strict=True))
            and same_items(kept, self._keys, self._dicts)
            and all(self._keeps(number, share.chain) for number, share in enumerate(by_kind.first))
            and all(cohort.fits() for _, cohort in self._cohorts)
        )

    def _keeps(self, number: int, chain: Chain) -> bool:
        """Whether a chain keeps the state for which the cohorts were made, be it with other hyper-parameters."""
        before, self._chains[number] = self._chains[number], chain
        return chain == before or all(cohort.keeps(chain) for of, cohort in self._cohorts if of == number)

    def _build(self, shares: Sequence[Share], by_kind: _Sorted, kept: Kept, *, watched: bool) -> None:
        together: dict[tuple[Any, ...], tuple[list[Tensor], list[Mark]]] = {}
        self._idle, self._listed = [], []  # what is refused on the way is looked at anew
        seen: set[int] = set()
        places: Counter[int] = Counter()
        for share, number, rate in zip(shares, by_kind.classes, by_kind.rates, strict=True):
            for p in share.params:
                if id(p) in seen:
                    raise SoonerError(f"{self._name}: {self._label(p)} is listed twice; list every parameter once")
                seen.add(id(p))
                if p.grad is None:
                    self._idle.append(p)
                else:
                    place = local(p.detach()).data_ptr()
                    earlier = places[place] if place else 0  # parameters that share memory step one after the other
                    places[place] += 1
                    bits = bits_of(p, share.settings.get("state_bits"))
                    key = (number, p.device, p.dtype, spread_of(p), earlier, bits)
                    params, marks = together.setdefault(key, ([], []))
                    params.append(p)
                    marks.append(Mark(steps_of(kept.get(p)), rate))
        self._chains = {number: share.chain for number, share in enumerate(by_kind.first)}
        self._switched = _switches(by_kind)
        find_shared(kept, self._chains.values(), self.shared)
        self._cohorts = []
        for (number, _device, dtype, _spread, _earlier, bits), (params, marks) in together.items():
            share = by_kind.first[number]
            if dtype == torch.float16 and share.settings["stochastic_rounding"]:
                raise SoonerError(
                    f"{self._name}: {self._label(params[0])} is float16, which stochastic_rounding does not serve; "
                    "pass master_weights=True instead, or use bfloat16"
                )
            master = bool(share.settings.get("master_weights"))
            if bits is None:
                cohort = Cohort(params, kept, share.chain, marks, self.shared, master=master)
            else:
                random = bool(share.settings["stochastic_rounding"])
                cohort = PackedCohort(
                    params, kept, share.chain, marks, self.shared, master=master, bits=bits, stochastic=random
                )
            if watched:
                cohort.watch()
            self._cohorts.append((number, cohort))
        show_shared(kept, self.shared)
        self._listed = [list(share.params) for share in shares]
        self._classes, self._rates = by_kind.classes, by_kind.rates
        self._keys, self._dicts = list(kept), list(kept.values())


def _switches(by_kind: _Sorted) -> list[tuple[Any, ...]]:
    return [share.switches() for share in by_kind.first]
