"""Who proposes the settings of tuning trials: the quasi-random sequence, or one of Optuna's samplers.

Every contender gets equally many trials in equally many rounds, whoever proposes. A proposal follows from what a
contender's earlier trials gave and from nothing else, so a race that is resumed proposes the same again.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sooner.error import SoonerError, nearest
from sooner.race import tuning
from sooner.race.tuning import Score
from sooner.space import Choice, Knob, Settings, Value

DEFAULT = "halton"
_SAMPLERS = {"tpe": "TPESampler", "gp": "GPSampler"}
NAMES = (DEFAULT, "optuna", *(f"optuna:{name}" for name in _SAMPLERS))


class Tuner(Protocol):
    """Proposes settings."""

    def rounds(self, count: int) -> list[int]:
        """Return how many of `count` trials of a contender are proposed at once, round by round."""

    def propose(
        self,
        space: Mapping[str, Knob],
        default: Mapping[str, Value],
        tried: Sequence[Settings],
        scores: Sequence[Score],
        count: int,
        number: int,
    ) -> list[Settings]:
        """Return the next settings of one contender; fewer where nothing is tuned.

        Args:
            space: the knobs.
            default: settings of its first trial.
            tried: settings of its trials so far.
            scores: what they gave, lower is better.
            count: how many to return.
            number: of the round, from 0.
        """

    def identity(self) -> dict[str, str]:
        """Return what decides the proposals, as the identity of a race says it; empty for the default."""


class Halton:
    """The points of one quasi-random sequence: the same for every contender, all known beforehand."""

    def rounds(self, count: int) -> list[int]:
        """Return one round of all."""
        return [count]

    def propose(
        self,
        space: Mapping[str, Knob],
        default: Mapping[str, Value],
        tried: Sequence[Settings],
        scores: Sequence[Score],
        count: int,
        number: int,
    ) -> list[Settings]:
        """Return the next points: see `tuning.trials`."""
        return tuning.trials(space, default, count, start=len(tried))

    def identity(self) -> dict[str, str]:
        """Return nothing, so that older races stay what they are."""
        return {}


class Optuna:
    """A sampler of Optuna, which learns from the trials of a contender where to try next.

    The first half of a contender's trials, default included, are those of `Halton`; they give it something to learn
    from. From then on it proposes one at a time. It sees every knob as the unit interval, where a logarithmic one is
    spread evenly, and a trial that diverged as equal to the worst one that did not. Trials are never pruned, as
    contenders would then get unequal budgets.

    Args:
        sampler: "tpe" (Bergstra et al., 2011) or "gp", a Gaussian process.
        seed: of the sampler.

    Raises:
        SoonerError: Optuna is not installed.
    """

    def __init__(self, sampler: str, seed: int) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise SoonerError("optuna is not installed: pip install 'sooner[optuna]', or tune without --tuner optuna")
        self._sampler, self._seed = sampler, seed
        self._optuna: Any = importlib.import_module("optuna")

    def rounds(self, count: int) -> list[int]:
        """Return half of the trials as one round, and each of the others as a round of its own."""
        first = math.ceil(count / 2)
        return [first, *[1] * (count - first)]

    def propose(
        self,
        space: Mapping[str, Knob],
        default: Mapping[str, Value],
        tried: Sequence[Settings],
        scores: Sequence[Score],
        count: int,
        number: int,
    ) -> list[Settings]:
        """Return points of the sequence in the first round, then the one that the sampler proposes."""
        seen = self._seen(space, tried, scores) if space and number else []
        if not seen:  # nothing to tune, or to learn from
            return tuning.trials(space, default, count, start=len(tried))
        found = self._ask({name: self._axis(knob) for name, knob in space.items()}, seen, self._seed + len(tried))
        return [{**default, **{name: _value(knob, found[name]) for name, knob in space.items()}}]

    def identity(self) -> dict[str, str]:
        """Return the sampler and the version of Optuna."""
        return {"tuner": f"optuna:{self._sampler}", "optuna": importlib.metadata.version("optuna")}

    def _ask(self, axes: dict[str, Any], seen: Sequence[tuple[dict[str, float], float]], seed: int) -> dict[str, float]:
        """Return a new point from a study that has seen these; each has a seed of its own, as it is made anew."""
        optuna = self._optuna
        options: dict[str, Any] = {"multivariate": True} if self._sampler == "tpe" else {}
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that an option is experimental, and the like
                sampler = getattr(optuna.samplers, _SAMPLERS[self._sampler])(n_startup_trials=1, seed=seed, **options)
                study = optuna.create_study(sampler=sampler)
                for at, value in seen:
                    study.add_trial(optuna.trial.create_trial(params=at, distributions=axes, value=value))
                found: dict[str, float] = study.ask(axes).params
        finally:
            optuna.logging.set_verbosity(level)
        return found

    def _axis(self, knob: Knob) -> Any:
        if isinstance(knob, Choice):
            return self._optuna.distributions.CategoricalDistribution(range(len(knob.values)))
        return self._optuna.distributions.FloatDistribution(0.0, 1.0)

    def _seen(
        self, space: Mapping[str, Knob], tried: Sequence[Settings], scores: Sequence[Score]
    ) -> list[tuple[dict[str, float], float]]:
        """Return the trials within the ranges with their values; none if all diverged."""
        finite = [score[0] for score in scores if score is not None and math.isfinite(score[0])]
        if not finite:
            return []
        seen = []
        for settings, score in zip(tried, scores, strict=True):
            at = {name: _place(knob, settings[name]) for name, knob in space.items()}
            if None not in at.values():
                value = score[0] if score is not None and math.isfinite(score[0]) else max(finite)
                seen.append(({name: place for name, place in at.items() if place is not None}, value))
        return seen


def tuner(name: str, seed: int) -> Tuner:
    """Return a tuner by its name.

    Args:
        name: one of `NAMES`; "optuna" is "optuna:tpe".
        seed: of what it draws.

    Raises:
        SoonerError: an unknown name, or Optuna is not installed.
    """
    if name not in NAMES:
        raise SoonerError(f"tuner {name!r} is unknown{nearest(name, NAMES)}; choose {', '.join(NAMES)}")
    if name == DEFAULT:
        return Halton()
    return Optuna(name.partition(":")[2] or "tpe", seed)


def _place(knob: Knob, value: Value) -> float | None:
    """Return where a value lies on its axis, None where it lies outside."""
    try:
        if isinstance(knob, Choice):
            return math.floor(knob.unit(value) * len(knob.values))
        place = knob.unit(value)
    except SoonerError:  # such as 0 on a logarithmic range
        return None
    return min(max(place, 0.0), 1.0) if -1e-9 <= place <= 1 + 1e-9 else None


def _value(knob: Knob, place: float) -> Value:
    return knob.values[int(place)] if isinstance(knob, Choice) else knob.at(float(place))
