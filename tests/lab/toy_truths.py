"""A truth of seconds for the tests: shown on the bowl, and by counting said to be absent elsewhere."""

from sooner.lab._truth import Criterion, Measurement, Race, Setting, Truth


def half(seed, arm):
    return {"count": (seed + 2) * (1 if arm == "new" else 2)}


CASES = tuple({"seed": seed, "arm": arm} for seed in range(6) for arm in ("new", "old"))
RACE = Race("sgd(lr=0.02); sgd(lr=log(0.05, 0.5)); sgd(lr=0.001)", "quadratic", steps=40, seeds=6, tune=1)


def toy(limit=0.4, **changes):
    """A truth under a name that exists: a good rate is better than a bad one, and half is not as little as `limit`."""
    fields = {
        "name": "decay",
        "says": "A good learning rate is better than a bad one.",
        "source": "these tests",
        "expected": "a lot",
        "on": {
            "quadratic": Setting(
                {"bowl": RACE},
                [Criterion("sooner", lambda f: f.steps_ratio("bowl", "sgd(lr=log", against="sgd(lr=0.02)"), 0.9)],
            ),
            "separable": Setting(
                {"counts": Measurement(half, CASES, CASES[:4])},
                [
                    Criterion(
                        "half",
                        lambda f: f.paired_ratio("counts", "count", {"arm": "new"}, {"arm": "old"}),
                        at_most=limit,
                    )
                ],
                seconds=1,
                absent="half is no less than half",
            ),
        },
    }
    return Truth(**{**fields, **changes})
