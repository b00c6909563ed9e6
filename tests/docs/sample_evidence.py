"""Synthetic evidence for the tests of the site: no experiment was run, every number is invented."""

import math
import sys
from pathlib import Path

from sooner.claims import _evidence
from sooner.claims._claim import Measured, Outcome
from sooner.claims._findings import shortened

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from sample_result import SAMPLES

FLOOR = (0.93, 1.08)
MARKUP = "a criterion with *signs*, `code`, |bars|, <b>tags</b> & $x_1$"
MISSED = [
    Outcome(MARKUP, Measured(1.2, 1.1, 1.4, 0.01, FLOOR, "x"), False, "", False, "0.5x", experiments=("race",)),
    Outcome("never there", Measured(math.inf, 1.5, math.inf, 0.2, FLOOR, "x"), False, "", False, ""),
    Outcome("AdamW at half the rate does as well", Measured(0.97, 0.9, 1.05, 0.4, FLOOR, "x"), True, "", True, ""),
    Outcome("seen", Measured(0.75, 0.7, 0.8, unit="x"), True, "", False, "", positive=True, experiments=("race",)),
]
OPEN = [
    Outcome(
        "nothing to see",
        Measured(math.nan, unit="x", undecided="no target is set"),
        None,
        "no target is set",
        False,
        "",
    ),
    Outcome("bytes", Measured(123456.0, unit="bytes"), None, "one seed", False, "about 100000 bytes", 2e5),
]
HALF = [
    Outcome("a count without a unit", Measured(3.0, 2.0, 4.0), True, "", False, "3", 2.5),
    Outcome("another", Measured(1e-9, 1e-10, 1e-8, unit="error"), False, "", False, "", 1e-12),
]
CASES = [
    {"case": {"arm": "new", "seed": seed}, "values": {"loss": seed / 7, "curve": [float(seed)] * 9, "steps": None}}
    for seed in range(50)
]


def race(name):
    """Return the finding of a race that never ran."""
    result = SAMPLES[name]
    names = ("tuned_recipe", "why_out", "smallest_effect", "state_bytes_per_parameter", "seeds")
    return shortened({**result, "contenders": [{**dict.fromkeys(names), **row} for row in result["contenders"]]})


def evidence(claim, verdict, outcomes, findings, trend=None):
    """Return evidence on a claim, of code that is no longer what it was."""
    said = {
        "paper": "",
        "headline": f"A synthetic headline on {claim}, whose every number is invented.",
        "source": "Nobody, 2026, arXiv 2601.00001",
        "experiment": "None was done.",
        "baseline": "None was tuned.",
        "minutes": 1,
        "limits": "It shows nothing.",
        "regime": {"paper": "an invented one", "optimizer": "none", "length": "no step", "why": "nobody knows"},
    }
    provenance = {
        "command": f"sooner claim {claim}",
        "rules": "1",
        "versions": {"sooner": "0.1.0", "python": "3.11.7"},
        "machine": {"processor": "synthetic", "cores": 2},
        "started": "2026-11-24T10:00:00+00:00",
        "finished": "2026-11-24T10:05:00+00:00",
        "jobs": 2,
        "minutes": 5.0,
    }
    code = {f"claims/{claim}.py": "0123456789abcdef"}
    return _evidence.Evidence(claim, said, code, provenance, findings, outcomes, trend or {}, verdict)


SAMPLE = [
    evidence("adamp", "not reproduced here", MISSED, {"names like HTML": race("hostile")}),
    evidence("cosine", "not testable at this size", OPEN, {"cases": {"cases": CASES}}),
    evidence(
        "diffgrad",
        "reproduced in part",
        HALF,
        {"one is out": race("out"), "no targets": race("no targets")},
        {"small": Measured(0.8, 0.7, 0.9, unit="x"), "large": Measured(0.9, unit="x")},
    ),
    evidence("no_longer_here", "reproduced in part", HALF, {}),
]


def write(folder):
    """Write the sample into a folder, over what has the same names."""
    for one in SAMPLE:
        _evidence.write(one, folder / f"{one.claim}.jsonl")
