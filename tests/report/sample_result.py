"""Synthetic results of races that never ran, for the tests of the report. Every number here is invented."""

import math
import random
from typing import Any

SYNTHETIC = "synthetic: every number in this result is invented, no race was run"
SCRIPT = "<script>alert(1)</script>"
RACING = list(range(2000, 2008))


def sample(
    recipes: tuple[str, ...] = ("adamw + linear", "muon(lr=0.02) + linear", "sgd(momentum=0.9)", "sophia"),
    *,
    higher_is_better: bool = False,
    withheld: bool = False,
    budgeted: bool = False,
    targets: bool = True,
    out: tuple[int, ...] = (),
    infinite: tuple[int, ...] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Return a result for `recipes`, the first of which is the baseline.

    `out` names the positions that diverged in tuning, `infinite` those that never reach a target.
    """
    rng = random.Random(seed)
    sign = -1.0 if higher_is_better else 1.0
    horizons = [100, 140, 200, 280, 400, 560] if budgeted else [400]
    baseline = contender(recipes[0], 0, rng, sign, horizons, withheld, None)
    levels = {"loose": 2.4, "middle": 2.05, "tight": 1.9}
    contenders = [baseline]
    for position, recipe in enumerate(recipes[1:], 1):
        if position in out:
            contenders.append(fallen(recipe))
        else:
            contenders.append(
                contender(recipe, position, rng, sign, horizons, withheld, baseline, never=position in infinite)
            )
    return {
        "rules": "1",
        "task": {
            "name": "charlm",
            "spec": "charlm",
            "description": f"a small language model on characters ({SYNTHETIC})",
            "metric": "accuracy" if higher_is_better else "loss",
            "higher_is_better": higher_is_better,
            "steps": 400,
            "parameters": 115840,
            "fingerprint": "sha256:" + "ab12" * 16,
            "data": "synthetic text, sha256 ab12ab12",
        },
        "regime": "budgeted" if budgeted else "anytime",
        "horizons": horizons,
        "command": "sooner race charlm --against 'muon(lr=0.02) + linear' --seeds 8 --report report.html",
        "started": "2026-08-05T14:03:00+00:00",
        "finished": "2026-08-05T17:15:30+00:00",
        "versions": {"sooner": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"},
        "machine": {"processor": "synthetic", "cores": 2, "memory_gib": 7.8, "system": "Linux"},
        "seeds": {
            "tuning": [0],
            "target": list(range(1000, 1010)),
            "racing": RACING,
            "a/a": list(range(3000, 3008)),
        },
        "looks": [8],
        "tuning_trials": 5,
        "targets": {name: scaled(value, sign) for name, value in levels.items()} if targets else dict.fromkeys(levels),
        "primary_target": "middle",
        "noise_floor": {"ratio": 1.01, "low": 0.94, "high": 1.08, "p": 0.84, "hits": 8, "of": 8} if targets else None,
        "timing": {
            "withheld": withheld,
            "why": "the machine was busy: wall time was 1.9 times the processor time" if withheld else None,
            "blocks": 0 if withheld else 12,
        },
        "contenders": contenders,
        "a/a_curves": curves(0, rng, sign, horizons),
        "failures": [{"cell": "sophia, trial 3, seed 0", "cause": "the loss was not finite at step 12"}],
        "notes": [SYNTHETIC, "The best learning rate of sgd lies on the edge of its space."],
    }


def scaled(value: float, sign: float) -> float:
    """Return a loss as it is, or with a negative `sign` as something like an accuracy."""
    return value if sign > 0 else 1.2 - 0.25 * value


def speed(position: int) -> float:
    """Return how many steps the contender at `position` needs, relative to the baseline."""
    return (1.0, 0.56, 1.45, 0.98, 0.83, 1.12, 0.7, 1.9, 1.02, 0.91)[position % 10]


def curves(position: int, rng: random.Random, sign: float, horizons: list[int]) -> list[dict[str, Any]]:
    """Return evaluation curves of the racing seeds, one per horizon; for the third contender one seed diverges."""
    made = []
    for seed in RACING:
        for horizon in horizons:
            luck = rng.gauss(0, 0.02)
            steps = [round(horizon * k / 25) for k in range(26)]
            tau = 90 * speed(position) * math.exp(rng.gauss(0, 0.04)) * (horizon / 400) ** 0.5
            values = [1.8 + luck + 2.6 * math.exp(-step / tau) + rng.gauss(0, 0.01) for step in steps]
            diverged = 160 if position == 2 and seed == RACING[3] else None
            if diverged is not None:
                steps, values = steps[:8], [*values[:6], 6.0, 40.0]
            values = [scaled(value, sign) for value in values]
            made.append({"seed": seed, "steps": steps, "values": values, "diverged_at": diverged})
    return made


def contender(
    recipe: str,
    position: int,
    rng: random.Random,
    sign: float,
    horizons: list[int],
    withheld: bool,
    baseline: dict[str, Any] | None,
    never: bool = False,
) -> dict[str, Any]:
    """Return a contender that raced; with `never` it missed the targets in every seed."""
    ratio = speed(position)
    measured = {
        name: target(name, base * ratio, baseline, rng, never)
        for name, base in (("loose", 130.0), ("middle", 210.0), ("tight", 300.0))
    }
    middle = measured["middle"]
    if baseline is None:
        verdict, sentence = "baseline", "The others are measured against this recipe."
    elif never:
        verdict, sentence = "slower", f"{recipe} never reached the middle target, the baseline always did."
    elif position == 3:
        verdict, sentence = "no difference found", "No difference found; a ratio of 0.85x or less would have been seen."
    elif position == 8:
        verdict, sentence = "edge", "The best learning rate lies on the edge of the space, so the comparison is open."
    elif position == 9:
        verdict, sentence = "too noisy", "The seeds differ too much to say anything."
    else:
        verdict = "faster" if ratio < 1 else "slower"
        sentence = f"{recipe} needs {middle['ratio']:.2f} times the steps of the baseline."
    finals = [scaled(1.8 + 0.1 * (ratio - 1) + rng.gauss(0, 0.02), sign) for _ in RACING]
    mean = sum(finals) / len(finals)
    lr = 0.003 * 4 ** (position % 4)
    return {
        "recipe": recipe,
        "baseline": baseline is None,
        "status": "raced",
        "why_out": None,
        "verdict": verdict,
        "sentence": sentence,
        "targets": measured,
        "smallest_effect": None if baseline is None else 0.85,
        "final": {
            "mean": mean,
            "sd": math.sqrt(sum((value - mean) ** 2 for value in finals) / (len(finals) - 1)),
            "values": finals,
            **(
                dict.fromkeys(("difference", "low", "high", "p", "p_holm"))
                if baseline is None
                else difference(mean - baseline["final"]["mean"])
            ),
        },
        "cost": None
        if withheld
        else {
            "ratio": 1.0 + 0.12 * position,
            "low": 0.98 + 0.11 * position,
            "high": 1.02 + 0.14 * position,
            "milliseconds": 18.2 * (1.0 + 0.12 * position),
        },
        "time_ratio": None if withheld or never else ratio * (1.0 + 0.12 * position),
        "ratio_with_tuning": None if never else 1.0 + (ratio - 1.0) * 0.1,
        "peak_memory_mib": 312.4 + 20 * position,
        "state_bytes_per_parameter": (8.0, 4.0, 4.0, 8.0)[position % 4],
        "hit_rate": middle["hits"] / middle["of"],
        "tuning": {
            "best": {"lr": lr, "weight_decay": 0.1},
            "default": {"lr": 0.001, "weight_decay": 0.1},
            "knobs": {
                "lr": {"kind": "log", "low": 0.0003, "high": lr if position == 2 else 1.0},
                "weight_decay": {"kind": "linear", "low": 0.0, "high": 0.3},
            },
            "edge": ["lr"] if position == 2 else [],
            "widened": position == 2,
            "steps": 2000,
            "trials": [
                {
                    "settings": {"lr": value, "weight_decay": 0.1},
                    "score": None if value > 0.3 else scaled(1.8 + 0.05 * math.log(value / lr) ** 2, sign),
                    "diverged_at": 12 if value > 0.3 else None,
                }
                for value in (0.001, lr, lr * 3.1, lr / 2.7, 0.5)
            ],
            "expected_best": [
                None if k == 0 and position == 2 else scaled(1.8 + (0.3 + 0.05 * position) / (k + 1), sign)
                for k in range(5)
            ],
        },
        "curves": curves(position, rng, sign, horizons),
    }


def difference(centre: float) -> dict[str, float]:
    """Return a paired difference of the final metric with its interval and chances."""
    return {"difference": centre, "low": centre - 0.01, "high": centre + 0.01, "p": 0.0078, "p_holm": 0.0234}


def target(
    name: str, centre: float, baseline: dict[str, Any] | None, rng: random.Random, never: bool
) -> dict[str, Any]:
    """Return what a contender measured at one target, paired with the baseline by seed."""
    if never:
        return {
            **dict.fromkeys(("ratio", "low", "high")),
            "p": 0.0078,
            "p_holm": 0.0234,
            "hits": 0,
            "of": len(RACING),
            "steps": [None] * len(RACING),
        }
    steps: list[float | None] = [centre * math.exp(rng.gauss(0, 0.05)) for _ in RACING]
    if name == "tight" and centre > 400:
        steps[1] = None
    if baseline is None:
        return {"ratio": 1.0, "low": 1.0, "high": 1.0, "p": None, "p_holm": None, "hits": 8, "of": 8, "steps": steps}
    logs = [
        math.log(new / old)
        for new, old in zip(steps, baseline["targets"][name]["steps"], strict=True)
        if new is not None and old is not None
    ]
    middle = sum(logs) / len(logs)
    missed = None in steps
    return {
        "ratio": None if missed else math.exp(middle),
        "low": math.exp(middle - 0.07),
        "high": None if missed else math.exp(middle + 0.07),
        "p": 0.0078,
        "p_holm": 0.0234,
        "hits": len(logs),
        "of": len(RACING),
        "steps": steps,
    }


def fallen(recipe: str) -> dict[str, Any]:
    """Return a contender that diverged with every setting and so never raced."""
    nothing = {
        **dict.fromkeys(("ratio", "low", "high", "p", "p_holm")),
        "hits": 0,
        "of": 0,
        "steps": [],
    }
    return {
        "recipe": recipe,
        "baseline": False,
        "status": "out",
        "why_out": "it diverged at the start with every setting that was tried",
        "verdict": "out",
        "sentence": f"{recipe} did not race: it diverged at the start with every setting that was tried.",
        "targets": {name: dict(nothing) for name in ("loose", "middle", "tight")},
        "smallest_effect": None,
        "final": {**dict.fromkeys(("mean", "sd", "difference", "low", "high", "p", "p_holm")), "values": []},
        "cost": None,
        "time_ratio": None,
        "ratio_with_tuning": None,
        "peak_memory_mib": None,
        "state_bytes_per_parameter": None,
        "hit_rate": 0.0,
        "tuning": {
            "best": {},
            "default": {"lr": 0.001},
            "knobs": {"lr": {"kind": "log", "low": 0.0001, "high": 0.1}},
            "edge": [],
            "widened": False,
            "steps": 60,
            "trials": [
                {"settings": {"lr": value}, "score": None, "diverged_at": 12} for value in (0.001, 0.01, 0.03, 0.1, 0.3)
            ],
            "expected_best": [None] * 5,
        },
        "curves": [],
    }


TEN = (
    "adamw + linear",
    "muon(lr=0.02) + linear",
    "sgd(momentum=0.9)",
    "sophia",
    "adabelief(betas=(0.9, 0.999))",
    "adamp",
    "schedule_free_adamw",
    "lion + clip(norm=1.0)",
    "shampoo(every=10) + cosine(warmup=20)",
    "heavy_ball",
)
HOSTILE = (
    "adamw + linear",
    SCRIPT,
    "muon(" + ", ".join(f"option_{k}={k / 7:.3f}" for k in range(12)) + ") + linear(warmup=100)",
    'a&b <b>bold</b> %{x} </script><img src=x onerror="alert(2)"> \x1b[31mred\x1b[0m [red]markup[/red] {{ 7 * 7 }}',
)

SAMPLES: dict[str, dict[str, Any]] = {
    "plain": sample(),
    "out": sample(out=(3,), infinite=(2,)),
    "withheld": sample(withheld=True),
    "higher": sample(higher_is_better=True),
    "budgeted": sample(budgeted=True),
    "single": sample(("adamw + linear",)),
    "ten": sample(TEN, out=(5,), infinite=(7,)),
    "hostile": sample(HOSTILE),
    "no targets": sample(targets=False),
}
