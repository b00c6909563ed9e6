"""What of a stack may be left out: its parts, its rule in favour of the plain one, and options that are switched on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sooner.error import SoonerError, nearest
from sooner.recipe import Recipe, Slot, slot
from sooner.recipe.slots import names_rule, switches
from sooner.recipe.text import parse, split, written

PLAIN = "adamw"
"""The rule that stands in where the stack's own is left out."""


@dataclass(frozen=True)
class Factor:
    """Something that is in or out.

    Args:
        name: for tables.
        slots: positions of the parts in the stack.
        option: an argument of the rule that is switched on, None for whole parts.
    """

    name: str
    slots: tuple[int, ...]
    option: str | None = None


@dataclass(frozen=True)
class Stack:
    """A stack, and what of it may be left out.

    Args:
        recipe: the whole of it.
        plain: stands in for its rule.
        factors: two or more.
        rule: position of the rule among the recipe's parts, None where it stays or there are several.
    """

    recipe: Recipe
    plain: Slot
    factors: tuple[Factor, ...]
    rule: int | None

    def arm(self, levels: Sequence[int]) -> Recipe:
        """Return the stack with the factors whose level is below 0 left out.

        Raises:
            SoonerError: what is left makes no recipe; names what was left out.
        """
        out = [factor for factor, level in zip(self.factors, levels, strict=True) if level < 0]
        gone = {position for factor in out if factor.option is None for position in factor.slots}
        kept = []
        for position, one in enumerate(self.recipe.slots):
            if position == self.rule:
                own = self.plain if position in gone else one
                kept.append(self._with_options(own, {f.option for f in out}))
            elif position not in gone:
                kept.append(one)
        try:
            return Recipe(str(Recipe(*kept)))  # as workers read it
        except SoonerError as error:
            raise SoonerError(
                f"without {' and '.join(f.name for f in out)} the stack makes no recipe: {error}; parts that can't do "
                'without each other are left out as one with --together "ONE + OTHER", or stay with --keep'
            ) from error

    def _with_options(self, rule: Slot, out: set[str | None]) -> Slot:
        """Return a rule with those options of the stack's rule switched on that are in, and the others left alone."""
        options = [f.option for f in self.factors if f.option is not None]
        own = {name: value for name, value in rule.settings.items() if name not in options}
        return replace(rule, settings={**own, **{name: True for name in options if name not in out}})

    @property
    def all_out(self) -> Recipe:
        """The stack without any of them."""
        return self.arm([-1] * len(self.factors))


def read(text: str, *, plain: str = PLAIN, keep: str = "", together: Sequence[str] = ()) -> Stack:
    """Return what of a stack may be left out.

    Args:
        text: the stack; an option of its rule that is switched on may stand as a word, such as ``muon + cautious``.
        plain: the rule that stands in for the stack's own.
        keep: names that stay in, joined by +.
        together: names joined by + that go in and out as one.

    Raises:
        SoonerError: no such stack, an unknown name, or nothing that could be left out.
    """
    recipe, options = _recipe(text)
    stand_in = slot_of(plain)
    kept = _listed(keep)
    movers = [i for i, one in enumerate(recipe.slots) if one.moves]
    rule = movers[0] if len(movers) == 1 else None
    factors = [] if rule is None or recipe.slots[rule].name == stand_in.name else [_factor(recipe, rule)]
    if rule is not None:
        switched = [*options, *(name for name in _switches(recipe.slots[rule]) if name not in options)]
        for name in switched:
            if factors and recipe.slots[rule].name not in kept and name not in switches(stand_in.factory):
                raise SoonerError(
                    f"{name} is an option of {recipe.slots[rule].name} that {stand_in.name} does not have; let another "
                    f"rule stand in, with --instead, or leave {recipe.slots[rule].name} in with --keep"
                )
            factors.append(Factor(name, (rule,), name))
    factors += [_factor(recipe, i) for i, one in enumerate(recipe.slots) if not one.moves]
    names = [factor.name for factor in factors]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SoonerError(f"{twice} is in the stack more than once, so nobody could tell which of them is left out")
    fixed = _known(kept, names, "--keep")
    joined = [_known(_listed(group), names, "--together") for group in together]
    return Stack(recipe, stand_in, tuple(_grouped([f for f in factors if f.name not in fixed], joined)), rule)


def slot_of(text: str) -> Slot:
    """Return the one rule that a text names.

    Raises:
        SoonerError: it names none, or several, or no rule.
    """
    calls = parse(text)
    if len(calls) != 1 or not slot(calls[0].name).moves:
        raise SoonerError(f"--instead {text!r} must be one update rule, such as {PLAIN}")
    return Recipe(text).slots[0]


def _recipe(text: str) -> tuple[Recipe, list[str]]:
    """Return the recipe, with options of its rule that stand as words switched on, and these."""
    if len(split(text)) != 1:
        raise SoonerError(f"{text!r} is not one stack; recipes are compared by `sooner race`")
    calls = parse(text)
    rules = [call for call in calls if names_rule(call.name)]
    options = []
    if len(rules) == 1:
        taken = switches(slot(rules[0].name).factory)
        options = [c.name for c in calls if c is not rules[0] and not c.settings and c.name in taken]
    if not options:
        return Recipe(text), []
    pieces = []
    for call in calls:
        if call.name in options:
            continue
        more = dict.fromkeys(options, True) if call is rules[0] else {}
        ranges = {k: v for k, v in call.settings.items() if not _plain(v)}
        fixed = {k: v for k, v in call.settings.items() if _plain(v)}
        pieces.append(written(call.name, {**fixed, **more}, ranges))
    return Recipe(" + ".join(pieces)), options


def _plain(value: object) -> bool:
    return not hasattr(value, "describe")


def _switches(rule: Slot) -> list[str]:
    """Return the options of a rule that are off by themselves and switched on here."""
    flags = switches(rule.factory)
    return [name for name, value in rule.settings.items() if value is True and name in flags]


def _factor(recipe: Recipe, position: int) -> Factor:
    return Factor(recipe.slots[position].name, (position,))


def _listed(text: str) -> list[str]:
    return [word for word in (piece.strip() for piece in text.replace(",", "+").split("+")) if word]


def _known(wanted: list[str], known: Sequence[str], option: str) -> list[str]:
    for name in wanted:
        if name not in known:
            raise SoonerError(f"{option} {name!r}{nearest(name, known)}: the stack has {', '.join(known) or 'nothing'}")
    return wanted


def _grouped(factors: Sequence[Factor], joined: Sequence[Sequence[str]]) -> list[Factor]:
    """Return the factors, those of each group as one, where its first one stood."""
    found: list[Factor] = []
    seen: dict[str, int] = {}
    for factor in factors:
        group = next((names for names in joined if factor.name in names), None)
        if group is None:
            found.append(factor)
            continue
        if factor.option is not None:
            raise SoonerError(
                f"--together {' + '.join(group)}: {factor.name} is an option of the rule, and stands alone"
            )
        key = "+".join(group)
        if key in seen:
            first = found[seen[key]]
            found[seen[key]] = Factor(f"{first.name} + {factor.name}", (*first.slots, *factor.slots))
        else:
            seen[key] = len(found)
            found.append(factor)
    return found
