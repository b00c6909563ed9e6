"""The words of a race: verdicts and their order, the columns of the result table, the sentences under it.

The page and the terminal both take their text from here, so they cannot disagree.
"""

import re
from typing import Any

from sooner.report.numbers import (
    EMPTY,
    chance,
    count,
    date,
    duration,
    number,
    plain,
    plus_minus,
    ratio_interval,
    settings,
    size,
    times,
    unknown,
)

Result = dict[str, Any]
Contender = dict[str, Any]

TARGETS = ("loose", "middle", "tight")

# In the order in which contenders are listed.
VERDICTS = {
    "baseline": "What the others are measured against. It is tuned exactly as hard as they are.",
    "faster": ("It needs fewer steps to the target than the baseline, and luck alone would rarely show that."),
    "no difference found": (
        "The race cannot tell it from the baseline. That is not proof of equality: the sentence beside it says how "
        "large an effect would have to be for this race to see it."
    ),
    "too noisy": (
        "Luck hides the answer: too few runs reached the target, or the race could only have seen a very large effect. "
        "More seeds or more steps would help."
    ),
    "edge": (
        "The best settings found, its own or the baseline's, lie at the border of what was tried, even after the "
        "search was widened once. Better ones may lie beyond, so the comparison is left open."
    ),
    "slower": ("It needs more steps to the target than the baseline, and luck alone would rarely show that."),
    "out": "It did not race, for the reason given; for instance no settings survived tuning.",
}
# A sign beside each word, so that no meaning hangs on colour alone.
SIGNS = {
    "baseline": "•",
    "faster": "▲",
    "no difference found": "=",
    "too noisy": "≈",
    "edge": "|",
    "slower": "▼",
    "out": "×",
}


def ordered(result: Result) -> list[tuple[int, Contender]]:
    """Return (position in the result, contender), the baseline first, then by verdict, then by ratio."""
    words = list(VERDICTS)

    def key(item: tuple[int, Contender]) -> tuple[bool, int, float, int]:
        position, contender = item
        verdict = contender.get("verdict")
        steps = primary(contender, result).get("ratio")
        rank = words.index(verdict) if verdict in words else len(words)
        return (not contender.get("baseline"), rank, float("inf") if steps is None else steps, position)

    return sorted(enumerate(result["contenders"]), key=key)


def primary(contender: Contender, result: Result) -> dict[str, Any]:
    """Return what `contender` measured at the target that decides; empty where it measured nothing."""
    return at(contender, result["primary_target"])


def at(contender: Contender, target: str) -> dict[str, Any]:
    """Return what `contender` measured at one target; empty where it measured nothing."""
    return (contender.get("targets") or {}).get(target) or {}


def raced(contender: Contender) -> bool:
    """Say whether `contender` got as far as racing."""
    return contender.get("status") != "out"


def steps_ratio(contender: Contender, result: Result, target: str) -> str:
    """Return the steps ratio at one target with its interval, or the word that stands for it."""
    if not raced(contender) or (result["targets"] or {}).get(target) is None:
        return EMPTY
    measured = at(contender, target)
    if contender.get("baseline"):
        return EMPTY if measured.get("hits") == 0 else "1x"
    if not measured:
        return EMPTY
    return ratio_interval(measured, short(contender), baseline_hits(measured, result, target))


def short(contender: Contender) -> str:
    """Return the parts of a recipe without their settings, such as "muon + cosine"; "it" where that is long."""
    name, before = plain(contender["recipe"]), ""
    while name != before:
        name, before = re.sub(r"\([^()]*\)", "", name), name
    return name if len(name) <= 24 else "it"


def baseline_hits(measured: dict[str, Any], result: Result, target: str) -> int | None:
    """Return in how many of a contender's seeds the baseline reached the target; None where that was not recorded."""
    baseline: Contender = next((each for each in result["contenders"] if each.get("baseline")), {})
    steps = at(baseline, target).get("steps")
    if steps is None or not measured.get("of") or len(steps) < measured["of"]:
        return None
    return sum(one is not None for one in steps[: measured["of"]])


def with_tuning(contender: Contender, result: Result) -> str:
    """Return the steps ratio once the steps spent on tuning are charged to both sides."""
    charged, measured = contender.get("ratio_with_tuning"), primary(contender, result)
    if not raced(contender) or not measured.get("of"):
        return EMPTY
    if contender.get("baseline"):
        return "1x"
    if charged is None:
        return "never" if measured.get("ratio") is None else EMPTY
    return times(charged)


def hits(measured: dict[str, Any]) -> str:
    """Return "7/8": how many of the racing seeds reached the target."""
    return f"{measured['hits']}/{measured['of']}" if measured.get("of") else EMPTY


def tuned(contender: Contender) -> str:
    """Return the settings that tuning chose, with a mark for each that lies on an edge of its space."""
    tuning = contender.get("tuning") or {}
    text = settings(tuning.get("best"))
    edges = ", ".join(plain(name) for name in tuning.get("edge") or [])
    return f"{text} (edge: {edges})" if edges else text


def headings(result: Result) -> dict[str, str]:
    """Return the columns of the result table and their headings."""
    return {
        "recipe": "recipe",
        "verdict": "verdict",
        "steps": f"steps to {result['primary_target']} target",
        "charged": "with tuning",
        "p": "p (Holm)",
        "hits": "hit rate",
        "final": f"final {plain(result['task']['metric'])}",
        "cost": "cost per step",
        "memory": "peak memory",
        "tuned": "tuned settings",
    }


def cells(contender: Contender, result: Result) -> dict[str, str]:
    """Return one row of the result table: the keys of `headings` with the contender's text."""
    final, cost = contender.get("final") or {}, contender.get("cost") or {}
    measured, decided = primary(contender, result), (result["targets"] or {}).get(result["primary_target"]) is not None
    return {
        "recipe": plain(contender["recipe"]),
        "verdict": plain(contender.get("verdict") or EMPTY),
        "steps": steps_ratio(contender, result, result["primary_target"]),
        "charged": with_tuning(contender, result),
        "p": chance(measured.get("p_holm")) if decided else EMPTY,
        "hits": hits(measured) if decided else EMPTY,
        "final": final_value(final),
        "cost": EMPTY if cost.get("ratio") is None else times(cost["ratio"]),
        "memory": size(contender.get("peak_memory_mib")),
        "tuned": tuned(contender),
    }


def final_value(final: dict[str, Any]) -> str:
    """Return the mean final metric with its deviation, or how many runs diverged, as then there is no mean."""
    values = final.get("values") or []
    if final.get("mean") is None and None in values:
        return f"{values.count(None)} of {len(values)} diverged"
    return plus_minus(final.get("mean"), final.get("sd"))


def finals(result: Result) -> list[str]:
    """Return, for each contender, the sentence on its final value at equal budget; it is no verdict."""
    found = []
    for _, contender in ordered(result):
        final = contender.get("final") or {}
        if final.get("sentence"):
            text = f"{plain(contender['recipe'])}, {plain(final['word'])}: it {plain(final['sentence'])}"
            found.append(f"Final {plain(result['task']['metric'])} of {text}.")
    return found


def smallest(contender: Contender) -> list[str]:
    """Return the smallest effects that would have been found, in steps and in the final value, as far as known."""
    steps, final = contender.get("smallest_effect"), (contender.get("final") or {}).get("smallest_difference")
    told = [] if steps is None else [f"{times(steps)} of the steps or less"]
    return told if final is None else [*told, f"{number(float(final), 2)} at the end or more"]


def smallest_effects(result: Result) -> str:
    """Return the sentence on what this race could have seen; empty where nobody raced."""
    told = [(plain(each["recipe"]), smallest(each)) for _, each in ordered(result) if not each.get("baseline")]
    shown = "; ".join(f"{name} {' and '.join(effects)}" for name, effects in told if effects)
    return f"Smallest effects that would have been found (80 % power): {shown}." if shown else ""


def intervals(result: Result) -> str:
    """Return the sentence on the kind of intervals and p-values shown; empty for a result that does not say."""
    kind = result.get("intervals")
    if not kind:
        return ""
    level = f"{number(100 * kind['level'])} %"
    if kind["kind"] == "after every seed":
        return (
            f"Intervals ({level}) and p-values hold after every seed at once: the race could stop at any of them, at "
            f"the latest after {result['until']}."
        )
    looks = len(result["looks"])
    several = f"; the race was declared to look {looks} times, and the level is divided by that" if looks > 1 else ""
    return f"Intervals are {level} bootstrap intervals of one look{several}."


def sentence(contender: Contender) -> str:
    """Return what the referee says of `contender`, with a full stop and, unless a recipe comes first, a capital."""
    text = plain(contender.get("sentence") or "").strip().rstrip(".")
    if not text.startswith(plain(contender["recipe"])):
        text = text[:1].upper() + text[1:]
    return f"{text}." if text else ""


def noise_floor(result: Result) -> str:
    """Return the sentence on the A/A arm, the baseline raced against itself."""
    floor = result.get("noise_floor")
    if not floor or unknown(floor):
        return "A/A noise floor: unknown, as it takes runs of the baseline that reach the target."
    found = ratio_interval(floor, "that arm", baseline_hits(floor, result, result["primary_target"]))
    gave = f" gave {found}" if floor.get("ratio") else f": {found}"
    return (
        f"A/A noise floor: the baseline against itself with other seeds{gave}, "
        f"p {chance(floor.get('p'))}, {hits(floor)} hits."
    )


def timing(result: Result) -> str:
    """Return the sentence on wall time: how it was measured or why nothing is claimed."""
    timing = result.get("timing") or {}
    if timing.get("withheld"):
        return f"Time is withheld: {plain(timing.get('why') or 'no reason was recorded').rstrip('.')}."
    return f"Cost per step comes from {timing.get('blocks')} short interleaved blocks; it is relative to the baseline."


def tuning_cost(result: Result) -> str:
    """Return the sentence on what tuning cost."""
    spent = sum((contender.get("tuning") or {}).get("steps") or 0 for contender in result["contenders"])
    tuner = result.get("tuner", "halton")
    learnt = "" if tuner == "halton" else f", the later half proposed by {tuner}"
    return (
        f"Tuning: {result['tuning_trials']} trials for each contender, the default settings among them{learnt}; "
        f"{count(spent)} steps in all. The ratios 'with tuning' charge them."
    )


def together(result: Result) -> str:
    """Return the sentence on how many workers trained every run; empty for one."""
    if result.get("workers", 1) > 1:
        return (
            f"Every run trained on {count(result['workers'])} simulated workers; bytes are exact, time is not claimed."
        )
    if result.get("world", 1) > 1:
        return (
            f"Every run trained on {result['world']} processes over the loopback interface, which is no slow link: "
            "bytes and steps carry over, waiting does not."
        )
    return ""


def together_guide() -> str:
    """Return what the columns on communication mean."""
    return (
        "Payload and sent are bytes of one worker; sent counts 2 (n - 1) / n copies in an all-reduce and n - 1 in an "
        "all-gather. Not sent is the share of the last vector that its payload left out. Apart is the mean squared "
        "distance of the workers' weights from their average at the end; average is the final value of the average "
        "model, replicas the mean over the workers' own."
    )


def targets(result: Result) -> str:
    """Return the sentence on the targets, which the tuned baseline sets."""
    known = {name: (result["targets"] or {}).get(name) for name in TARGETS}
    if all(value is None for value in known.values()):
        return "No targets: the baseline did not set any."
    values = ", ".join(
        f"{name} {number(value, 4) if value is not None else 'not set'}" for name, value in known.items()
    )
    return f"Targets for {plain(result['task']['metric'])}: {values}; the {result['primary_target']} one decides."


def facts(result: Result) -> dict[str, str]:
    """Return what frames the race: workload, regime, budget, targets, seeds and date."""
    task, horizons = result["task"], result["horizons"]
    size = "" if task["parameters"] is None else f" ({count(task['parameters'])} parameters)"
    better = "higher is better" if task.get("higher_is_better") else "lower is better"
    if result["regime"] == "budgeted":
        regime = "budgeted: every run decays to its end, horizons of " + ", ".join(count(steps) for steps in horizons)
    else:
        regime = f"{plain(result['regime'])}: the first crossing of a target counts"
    return {
        "Workload": f"{plain(task['name'])}: {plain(task['description'])}{size}",
        "Metric": f"{plain(task['metric'])}, {better}",
        "Regime": regime,
        "Budget": f"{count(task['steps'])} steps per run, {len(result['seeds'].get('racing') or [])} racing seeds",
        "Date": f"{date(result['started'])}, took {duration(result['started'], result['finished'])}",
    }
