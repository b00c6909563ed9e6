"""From what an ablation found to an answer: what every part is worth, which pairs matter, and what may go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sooner.ablation import Effect, Found, Study
from sooner.ablation.study import LOSS, STEPS
from sooner.report.forecast.answer import Answer, Cell, Grid

Race = tuple[float, dict[str, Any], Found]
"""Size of the model, result of the race of all arms, and what it says."""


def answer(study: Study, races: Sequence[Race], confirmed: dict[str, Any] | None, worth: float) -> Answer:
    """Return the answer of `sooner ablate`.

    Args:
        study: stack and design.
        races: by size, at least one.
        confirmed: result of the race of what is left against the whole stack, None where there was none.
        worth: what a part has to save to stay, as a share.
    """
    names = [factor.name for factor in study.stack.factors]
    grids = [grid for race in races for grid in _grids(study, names, race, len(races) > 1)]
    if len(races) > 1:
        grids += _change(names, races)
    whole = study.stack.recipe
    return Answer(
        f"Which parts of {whole} carry its gain on {races[0][1]['task']['name']}?",
        headline(study, races, confirmed, worth),
        grids,
        [],
        _warnings(study, races),
        _notes(study, races, worth),
        {
            "stack": str(whole),
            "parts": names,
            "instead": str(study.stack.plain),
            "arms": [str(arm) for arm in study.arms],
            "pairs told apart": study.design.pairs,
            "worth": worth,
            "races": [_data(study, names, race) for race in races],
            "confirmation": None if confirmed is None else _confirmed(confirmed),
        },
    )


def headline(study: Study, races: Sequence[Race], confirmed: dict[str, Any] | None, worth: float) -> str:
    """Return one sentence: what carries the gain, and what may be thrown away."""
    names = [factor.name for factor in study.stack.factors]
    size, _, found = races[-1]
    at = f" at size {size:g}" if len(races) > 1 else ""
    if found.effects is None:
        return f"nothing can be said of single parts{at}: {found.why}"
    made = found.effects
    carry = [
        _worth_of(names, e, found) for e in sorted(made.left_out, key=lambda e: -e.value) if e.sure and e.value > 0
    ]
    harm = [names[e.parts[0]] for e in made.left_out if e.sure and e.value < 0]
    gain = found.whole is not None and found.whole.sure and found.whole.value < 0
    told = [_of_whole(study, found, at)]
    if carry:
        told.append(f"{'it is carried by' if gain else 'in it, what counts is'} {_joined(carry)}")
    else:
        told.append("no single part is sure to carry anything")
    if harm:
        told.append(f"{_joined(harm)} {'costs' if len(harm) == 1 else 'cost'} more than nothing")
    if len(made.kept) == len(names):
        told.append(f"none is sure to be worth less than {worth:.0%}, so none may go yet")
    else:
        gone = [name for i, name in enumerate(names) if i not in made.kept]
        told.append(f"throw away {_joined(gone)}, which leaves {study.kept(made.kept)}")
        if confirmed is not None:
            told.append(_confirmation(confirmed))
    return "; ".join(told)


def _of_whole(study: Study, found: Found, at: str) -> str:
    assert found.whole is not None
    middle, _, interval = _shown(found.whole).partition(" ")
    than = f"{middle}x {interval} {_measured(found)} of {study.stack.all_out}"
    if found.whole.sure and found.whole.value < 0:
        return f"the stack needs {than}{at}"
    return (
        f"the stack {'is worse than nothing' if found.whole.sure else 'has no gain that is sure'}{at}: it needs {than}"
    )


def _measured(found: Found) -> str:
    return "the steps" if found.measure == STEPS else "the final value"


def _worth_of(names: Sequence[str], effect: Effect, found: Found) -> str:
    return f"{names[effect.parts[0]]} (without it {math.exp(effect.value):.2f}x {_measured(found)})"


def _joined(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _confirmation(result: dict[str, Any]) -> str:
    row = next(r for r in result["contenders"] if not r["baseline"])
    ratio = row["targets"].get(result["primary_target"])
    if ratio is None or ratio["ratio"] is None or ratio["low"] is None or ratio["high"] is None:
        return f"on fresh seeds what is left {row['sentence']}"
    low, high = ratio["low"], ratio["high"]
    told = f"on fresh seeds it needs {ratio['ratio']:.2f}x [{low:.2f}, {high:.2f}] the whole stack's steps"
    return f"{told}, {row['time_ratio']:.2f}x its time" if row["time_ratio"] is not None else told


def _shown(effect: Effect) -> str:
    ends = [math.exp(v) for v in (effect.value, effect.low, effect.high)]
    middle, low, high = ends
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _grids(study: Study, names: Sequence[str], race: Race, several: bool) -> list[Grid]:
    size, result, found = race
    made = found.effects
    if made is None:
        return []
    at = f" at size {size:g} ({result['task']['parameters']:,} parameters)" if several else ""
    of = f"steps to the {found.target} target" if found.measure == STEPS else f"final {result['task']['metric']}"
    if found.measure == LOSS and result["task"]["higher_is_better"]:
        of += " (inverted)"
    rows: list[list[Cell]] = []
    for i in sorted(range(len(names)), key=lambda i: -made.left_out[i].value):
        with_it, without = made.parts[i], made.left_out[i]
        rows.append([names[i], _shown(with_it), _p(with_it), _shown(without), _p(without), word(i, found)])
    heads = ("part", "with it, over the others", "p", "without it, in the whole stack", "p", "verdict")
    grids = [Grid(f"What each part does to {of}{at}, as a ratio with its 95 % interval", heads, rows)]
    pairs = [pair for pair in made.pairs if pair.sure]
    if pairs:
        told: list[list[Cell]] = [
            [
                " and ".join(names[i] for i in pair.parts),
                _shown(pair),
                _p(pair),
                "help each other" if pair.value < 0 else "do in part the same",
            ]
            for pair in sorted(pairs, key=lambda p: p.p)
        ]
        grids.append(Grid(f"Pairs that are more or less than their sum{at}", ("pair", "ratio", "p", "they"), told))
    return grids


def word(part: int, found: Found) -> str:
    """Return the verdict on a part: carries, costs, may go, or not told apart."""
    made = found.effects
    assert made is not None
    without = made.left_out[part]
    if part not in made.kept:
        return "costs" if without.sure and without.value < 0 else "may go"
    if without.sure:
        return "carries" if without.value > 0 else "costs"
    return "not told apart"


def _p(effect: Effect) -> str:
    return f"{effect.p:.2g}"


def _change(names: Sequence[str], races: Sequence[Race]) -> list[Grid]:
    """Return how the effects change from the smallest size to the largest, whose runs are other ones."""
    (small, _, first), (large, _, last) = races[0], races[-1]
    if first.effects is None or last.effects is None or first.measure != last.measure:
        return []
    rows: list[list[Cell]] = []
    for i, name in enumerate(names):
        one, two = first.effects.left_out[i], last.effects.left_out[i]
        middle = two.value - one.value
        margin = math.hypot((one.high - one.low) / 2, (two.high - two.low) / 2)
        ends = [math.exp(v) for v in (middle, middle - margin, middle + margin)]
        trend = "grows" if middle > margin else "shrinks" if middle < -margin else "can't be told from these sizes"
        rows.append([name, f"{ends[0]:.2f} [{ends[1]:.2f}, {ends[2]:.2f}]", trend])
    title = f"What a part is worth at size {large:g}, over size {small:g}"
    return [Grid(title, ("part", "ratio of ratios", "its worth"), rows)]


def _warnings(study: Study, races: Sequence[Race]) -> list[str]:
    told = []
    for size, _, found in races:
        at = f"at size {size:g}: " if len(races) > 1 else ""
        if found.effects is None:
            told.append(f"{at}{found.why}")
        elif found.measure == LOSS:
            told.append(f"{at}{found.why}, so final values are compared, which say little of how much sooner")
        elif found.why:
            told.append(f"{at}{found.why}, so the loose target is compared")
        if found.effects is not None and found.effects.scatter is None:
            told.append(
                f"{at}{len(study.design.levels)} arms are too few to see the luck of tuning, so intervals count that "
                "of seeds only; give more --tune, or ablate more parts at once"
            )
    return list(dict.fromkeys(told))


def _notes(study: Study, races: Sequence[Race], worth: float) -> list[str]:
    arms = len(study.design.levels)
    told = [
        f"{arms} stacks raced, each with its own tuning; every effect compares one half of them with the other, so it "
        f"is as sure as {arms // 4} comparisons of the stack with one part left out",
        f"a part may go where leaving it out is surely worth less than {worth:.0%} (--worth)",
    ]
    if not study.design.pairs:
        told.append("pairs were not told apart: what is said of the whole stack takes parts as independent")
    if study.stack.rule is not None and any(
        f.slots == (study.stack.rule,) and not f.option for f in study.stack.factors
    ):
        rule = study.stack.recipe.slots[study.stack.rule].name
        told.append(f"without {rule} the rule is {study.stack.plain}")
    return told


def _data(study: Study, names: Sequence[str], race: Race) -> dict[str, Any]:
    size, result, found = race
    made: dict[str, Any] = {
        "size": size,
        "parameters": result["task"]["parameters"],
        "steps": result["task"]["steps"],
        "measure": found.measure,
        "target": found.target,
        "why": found.why,
    }
    if found.effects is not None:
        of = found.effects
        made["effects"] = {
            kind: [{**asdict(e), "parts": [names[i] for i in e.parts]} for e in values]
            for kind, values in (("with", of.parts), ("pairs", of.pairs), ("without", of.left_out))
        }
        made["verdicts"] = {name: word(i, found) for i, name in enumerate(names)}
        made["whole"] = None if found.whole is None else asdict(found.whole)
        made["kept"] = str(study.kept(of.kept))
    return made


def _confirmed(result: dict[str, Any]) -> dict[str, Any]:
    row = next(r for r in result["contenders"] if not r["baseline"])
    return {key: row[key] for key in ("recipe", "tuned_recipe", "verdict", "sentence", "targets", "time_ratio")}
