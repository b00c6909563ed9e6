"""What the set-ups that several claims share are like, for the regime that every claim states, and their controls."""

from __future__ import annotations

from sooner.claims._claim import Criterion, Known, Regime

CONSTANT = "constant, from the first step on"

ON_TEXT = (Known("extra_steps", "charlm"), Known("rate_matters", "charlm"))
ON_DIGITS = (Known("extra_steps", "digits"), Known("rate_matters", "digits"))
"""Positive controls of races on a bundled workload: an oracle of known size, and the setting that matters most."""


EXTRA = "sooner.lab._extra_steps.ExtraSteps"


def oracle(recipe: str) -> str:
    """Return the recipe that takes an uncounted step after every third one: it arrives in 0.75x of the steps."""
    return f"{recipe} + {EXTRA}(every=3)"


def oracle_shows(race: str, recipe: str, *, against: str | None = None) -> Criterion:
    """Return the positive control that the oracle of a recipe is seen to arrive sooner than the recipe itself."""
    return Criterion(
        f"the race sees a known effect: {recipe} with a third more steps, which are not counted, takes at most 0.85x",
        lambda f: f.steps_ratio(race, oracle(recipe), against=against),
        at_most=0.85,
        gain=True,
        positive=True,
        paper="0.75x, by construction",
    )


def text_regime(paper: str, why: str, *, optimizer: str = "AdamW", schedule: str = CONSTANT) -> Regime:
    """Return the regime of a race on `charlm`."""
    return Regime(paper, optimizer, schedule, "batches of 8 windows of text that hardly repeats", why)


def images_regime(
    paper: str,
    why: str,
    *,
    optimizer: str = "SGD with momentum",
    schedule: str = CONSTANT,
    noise: str = "batches of 64 or fewer out of 1,347 images, seen many times",
) -> Regime:
    """Return the regime of training on images, scikit-learn's digits where nothing else is said."""
    return Regime(paper, optimizer, schedule, noise, why)


def workers_regime(paper: str, why: str, *, optimizer: str = "AdamW", schedule: str = CONSTANT) -> Regime:
    """Return the regime of the races of simulated workers on text."""
    return Regime(paper, optimizer, schedule, "batches of 32 windows per worker, of the same text for all", why)


def clients_regime(paper: str, why: str, *, noise: str = "") -> Regime:
    """Return the regime of clients that have different data."""
    more = f", {noise}" if noise else ""
    return Regime(
        paper, "plain SGD on the clients", CONSTANT, f"batches of 16 images; classes divided unevenly{more}", why
    )


def quadratics_regime(
    paper: str, why: str, *, noise: str = "0.3 in every number of a gradient", schedule: str = "constant, tuned"
) -> Regime:
    """Return the regime of descent on quadratic losses."""
    return Regime(paper, "gradient descent", schedule, noise, why, start="zero")


def averaging_shows(race: str, local: str, silent: str, at_most: float = 0.95) -> Criterion:
    """Return the positive control that workers which average end lower than those that never do."""
    return Criterion(
        f"averages are worth something here: local SGD ends at most {at_most:g}x as high as workers that never average",
        lambda f: f.final_ratio(race, local, against=silent),
        at_most=at_most,
        gain=True,
        positive=True,
    )
