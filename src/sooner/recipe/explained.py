"""What a recipe comes to, in words: its parts in the order in which they are made."""

from __future__ import annotations

from sooner.foundation.surgery import Surgery
from sooner.part import SURGERY
from sooner.recipe._recipe import Recipe
from sooner.space import Choice, Knob


def explain(recipe: Recipe | str) -> str:
    """Return the resolved order of a recipe's parts, a line each: station, part, what it owns, needs and tunes."""
    made = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
    lines = []
    for s in made.slots:
        owns, needs = sorted(s.owns), sorted(s.needs)
        facts = [f"owns the {', '.join(owns)}"] if owns else []
        facts += [f"needs {', '.join(needs)}"] if needs else []
        facts += [f"tunes {k} in {_range(knob)}, default {s.default(k)!r}" for k, knob in s.space.items()]
        facts += ["changes the model first"] if s.station in SURGERY else []
        facts += (
            ["undone by export()"] if hasattr(s.factory, "export") and s.factory.export is not Surgery.export else []
        )
        facts += [] if s.horizon_free else ["plans for a fixed number of steps"]
        lines.append(f"{s.station:<14} {s}")
        lines += [f"{'':<14}   {'; '.join(facts)}"] if facts else []
    return "\n".join(lines)


def _range(knob: Knob) -> str:
    if isinstance(knob, Choice):
        return f"{{{', '.join(map(repr, knob.values))}}}"
    return f"[{knob.low:g}, {knob.high:g}]"
