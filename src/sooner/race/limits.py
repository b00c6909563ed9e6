"""The numbers of a race: which version of the rules it goes by, and what is too little or too much to be one."""

from __future__ import annotations

from collections.abc import Sequence

from sooner.error import SoonerError

RULES = "2"
"""Version of docs/race-rules.md; results compare only within one version."""

ALPHA = 0.05
TARGET_SEEDS = 10
DEFAULT_SEEDS = 8
LEAST_SEEDS = 6
MOST_SEEDS = 1_000
LEAST_UNTIL = 8
MOST_UNTIL = 200
"""Looking after every seed is tested up to so many."""
LEAST_STEPS = 10
LEAST_EVALUATIONS = 4
"""With fewer, no two successive evaluations lie in the first half of a run, where the loose target is set."""


def check_counts(jobs: int, tune: int, series: int, workers: int, world: int) -> None:
    """Refuse counts that nobody can mean.

    Raises:
        SoonerError: names the first.
    """
    for name, count, least, most in (
        ("jobs", jobs, 1, 1_000),
        ("tune", tune, 0, 10_000),
        ("series", series, 0, 1_000_000),
        ("workers", workers, 1, 10_000),
        ("world", world, 1, 64),
    ):
        if not least <= count <= most:
            raise SoonerError(f"{name} is {count}; choose a number from {least} to {most:,}")
    if world > 1 and workers > 1:
        raise SoonerError(f"world {world} are processes, and workers {workers} are simulated in one; give one of them")


def check_budget(steps: int) -> None:
    """Refuse a budget in which nothing can be seen, or that never ends.

    Raises:
        SoonerError: names it.
    """
    if steps < LEAST_STEPS:
        raise SoonerError(f"a budget of {steps} steps is too short to race over; give --steps {LEAST_STEPS} or more")
    if steps > 10**9:
        raise SoonerError(f"a budget of {steps} steps is more than any race ends in; give --steps 1000000000 or fewer")


def looks_of(looks: Sequence[int], until: int | None) -> Sequence[int]:
    """Return the numbers of seeds after which a race is judged: the declared ones, or every one from the sixth on.

    Raises:
        SoonerError: they can't decide, or both are given.
    """
    if until is None:
        check_looks(looks)
        return looks
    if list(looks) != [DEFAULT_SEEDS]:
        raise SoonerError(f"until {until} judges after every seed, so looks {list(looks)} have no meaning; give one")
    check_until(until)
    return range(LEAST_SEEDS, until + 1)


def check_looks(looks: Sequence[int]) -> None:
    """Refuse numbers of racing seeds that can't decide.

    Raises:
        SoonerError: says which.
    """
    if list(looks) != sorted(set(looks)) or not looks:
        raise SoonerError(f"looks {list(looks)} must be different numbers of seeds in ascending order, such as 8,16")
    if looks[0] < LEAST_SEEDS:
        raise SoonerError(
            f"racing seeds: {looks[0]} can't tell luck from merit; the exact test needs {LEAST_SEEDS} or more, 8 is "
            "the default"
        )
    if looks[-1] > MOST_SEEDS:
        raise SoonerError(f"racing seeds: {looks[-1]} are too many; give {MOST_SEEDS} or fewer, 8 is the default")


def check_until(until: int) -> None:
    """Refuse a last seed that is too early to decide anything, or later than the rules were tested for.

    Raises:
        SoonerError: names it.
    """
    if not LEAST_UNTIL <= until <= MOST_UNTIL:
        raise SoonerError(
            f"--until {until}: a race that is judged after every seed needs room to decide; choose a number from "
            f"{LEAST_UNTIL} to {MOST_UNTIL}, such as 64"
        )


def check_different(recipes: Sequence[str]) -> None:
    """Refuse no recipes, and the same one twice.

    Raises:
        SoonerError: says so.
    """
    if not recipes:
        raise SoonerError("a race needs at least one recipe; the first is the baseline")
    for text in recipes:
        if recipes.count(text) > 1:
            raise SoonerError(f"recipe {text!r} is listed twice; the A/A arm already races the baseline against itself")


def regime_of(asked: str, fixed: Sequence[str]) -> str:
    """Return "anytime" or "budgeted"; `fixed` are the recipes that decay towards a fixed end.

    Raises:
        SoonerError: the regime is unknown, or does not suit one of them.
    """
    if asked not in ("auto", "anytime", "budgeted"):
        raise SoonerError(f"regime {asked!r} is unknown; choose auto, anytime or budgeted")
    if asked == "anytime" and fixed:
        raise SoonerError(
            f"{fixed[0]!r} decays towards a fixed end, so its first crossing measures the schedule; race it with "
            "--regime budgeted"
        )
    return ("budgeted" if fixed else "anytime") if asked == "auto" else asked
