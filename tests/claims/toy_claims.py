"""A claim of seconds for the tests: with a race and a measurement."""

from in_process import InProcess as InProcess

from sooner.claims._claim import Claim, Criterion, Measurement, Race, Regime


def half(seed, arm):
    return {"count": (seed + 2) * (1 if arm == "new" else 2), "nothing": None}


CASES = tuple({"seed": seed, "arm": arm} for seed in range(6) for arm in ("new", "old"))


def toy(**changes):
    """A claim that holds, under a name that exists: tuned SGD beats a tiny learning rate, and half is half."""
    fields = {
        "part": "muon",
        "paper": "",
        "headline": "A good learning rate is better than a bad one.",
        "source": "these tests",
        "experiment": "A quadratic bowl.",
        "baseline": "SGD with a learning rate that is far too small.",
        "experiments": {
            "bowl": Race("sgd(lr=0.02); sgd(lr=log(0.05, 0.5))", "quadratic", steps=40, seeds=6, tune=1),
            "counts": Measurement(half, CASES, CASES[:4]),
        },
        "criteria": [
            Criterion("sooner", lambda f: f.steps_ratio("bowl", "sgd(lr=log"), at_most=0.9, gain=True, paper="0.5x"),
            Criterion("half", lambda f: f.paired_ratio("counts", "count", {"arm": "new"}, {"arm": "old"}), at_most=0.5),
        ],
        "trend": {"steps": lambda f: f.steps_ratio("bowl", "sgd(lr=log")},
        "minutes": 0.1,
        "regime": Regime("a bowl", "SGD", "constant", "none", "the paper is a bowl too"),
    }
    return Claim(**{**fields, **changes})
