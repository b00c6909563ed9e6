"""The smaller tables of the page: every target, what a step costs, what tuning costs, where the result comes from."""

from dataclasses import dataclass
from typing import Any

from sooner.report import words
from sooner.report.figures.base import labels
from sooner.report.numbers import EMPTY, byte_size, chance, count, date, number, plain, settings, size, times


@dataclass(frozen=True)
class Sheet:
    """A table: its headings and, per contender, its position in the result and its cells."""

    headings: list[str]
    rows: list[tuple[int, list[str]]]


def summary(result: words.Result) -> Sheet:
    """Return the result table, with the same columns as in the terminal."""
    rows = [
        (position, [unbroken(key, cell) for key, cell in words.cells(contender, result).items()])
        for position, contender in words.ordered(result)
    ]
    return Sheet(list(words.headings(result).values()), rows)


def unbroken(column: str, cell: str) -> str:
    """Return the cell so that no line ends inside of an interval or before a deviation."""
    if column == "steps":
        return cell.replace(", ", ",\N{NO-BREAK SPACE}")
    return cell.replace(" ", "\N{NO-BREAK SPACE}") if column == "final" else cell


def at_every_target(result: words.Result) -> Sheet:
    """Return steps ratio, p-values, hits and the smallest effect that would have been seen, at each target."""
    names = labels(result)
    rows = []
    for position, contender in words.ordered(result):
        for target in words.TARGETS:
            if words.raced(contender) and (result["targets"] or {}).get(target) is not None:
                measured = words.at(contender, target)
                cells = [names[position], target, unbroken("steps", words.steps_ratio(contender, result, target))]
                p = None if contender.get("baseline") else measured.get("p")
                cells += [chance(p), chance(measured.get("p_holm")), words.hits(measured)]
                least = contender.get("smallest_effect") if target == result["primary_target"] else None
                cells.append(EMPTY if least is None else f"{times(least)} or less")
                rows.append((position, cells))
    return Sheet(["recipe", "target", "steps ratio", "p", "p (Holm)", "hit rate", "smallest visible effect"], rows)


def finals(result: words.Result) -> Sheet:
    """Return the final metric at equal budget, and its paired difference to the baseline with interval and p-value."""
    names = labels(result)
    rows = []
    for position, contender in words.ordered(result):
        final = contender.get("final") or {}
        difference = final.get("difference")
        told = EMPTY
        if difference is not None:
            told = f"{number(float(difference))} [{number(final.get('low'))}, {number(final.get('high'))}]"
        mean = words.cells(contender, result)["final"]
        chances = [chance(final.get("p")), chance(final.get("p_holm"))]
        least = final.get("smallest_difference")
        says = [plain(final.get("word") or EMPTY), EMPTY if least is None else f"{number(float(least), 2)} or more"]
        rows.append((position, [names[position], unbroken("final", mean), unbroken("steps", told), *chances, *says]))
    heads = ["recipe", "mean ± deviation", "difference to the baseline", "p", "p (Holm)", "what that says"]
    return Sheet([*heads, "smallest visible difference"], rows)


def costs(result: words.Result) -> Sheet:
    """Return time and memory per contender; the columns on time only where they are not withheld."""
    timed = not (result.get("timing") or {}).get("withheld")
    names = labels(result)
    rows = []
    for position, contender in words.ordered(result):
        cost = contender.get("cost") or {}
        time = [number(cost.get("milliseconds")), EMPTY, EMPTY]
        if cost.get("ratio") is not None:
            time[1] = times(cost["ratio"])
        if words.raced(contender) and contender.get("time_ratio") is not None:
            time[2] = times(contender["time_ratio"])
        state = contender.get("state_bytes_per_parameter")
        room = [size(contender.get("peak_memory_mib")), EMPTY if state is None else f"{number(float(state))} bytes"]
        rows.append((position, [names[position], *(time if timed else []), *room]))
    heads = ["milliseconds a step", "cost per step", "time to target (steps × cost)"] if timed else []
    return Sheet(["recipe", *heads, "peak memory", "optimizer state per parameter"], rows)


def tuning(result: words.Result) -> Sheet:
    """Return what tuning found and what it cost, with the steps ratio before and after it is charged."""
    names = labels(result)
    rows = []
    for position, contender in words.ordered(result):
        study: dict[str, Any] = contender.get("tuning") or {}
        cells = [
            names[position],
            words.tuned(contender),
            settings(study.get("default")),
            "yes" if study.get("widened") else "no",
            count(study.get("steps")),
            words.steps_ratio(contender, result, result["primary_target"]).split(" [")[0],
            words.with_tuning(contender, result),
        ]
        rows.append((position, cells))
    ratios = ["steps ratio without tuning", "steps ratio with tuning"]
    return Sheet(["recipe", "best settings", "default settings", "space widened", "tuning steps", *ratios], rows)


def together(result: words.Result) -> Sheet:
    """Return what crossed the wire, what a step waits for, and how far the workers were apart; empty for one worker."""
    names, rows = labels(result), []
    timed = any((c.get("communication") or {}).get("milliseconds") for c in result["contenders"])
    for position, contender in words.ordered(result):
        sent = contender.get("communication")
        if sent is None:
            continue
        spent = sent.get("milliseconds") or {}
        cells = [
            names[position],
            byte_size(sent.get("payload_bytes_per_step")),
            byte_size(sent.get("wire_bytes_per_step")),
            byte_size(sent.get("bytes_to_target")),
            _sent_ratio(sent.get("bytes_ratio")),
            *([" + ".join(number(spent.get(name), 2) for name in ("compute", "encode", "wait"))] if timed else []),
            number(sent.get("error"), 2),
            number(sent.get("consensus"), 2),
            number(contender["final"].get("mean"), 4),
            number(sent.get("replicas"), 4),
            number(sent.get("gradients_per_step"), 2),
            EMPTY if sent.get("gradients_ratio") is None else times(sent["gradients_ratio"]),
        ]
        rows.append((position, cells))
    headings = [
        *("recipe", "payload per step", "sent per step", "sent to target", "sent, ratio"),
        *(["compute + encode + wait, ms"] if timed else []),
        *("not sent", "apart", "average", "replicas", "gradients per step", "steps ratio per gradient"),
    ]
    return Sheet(headings, rows)


def _sent_ratio(ratio: float | None) -> str:
    """Return the ratio of bytes sent; 0 where nothing is, which is no infinity as it is of steps."""
    return EMPTY if ratio is None else times(ratio) if ratio else "0x"


def provenance(result: words.Result) -> dict[str, str]:
    """Return where the result comes from, line by line."""
    task, machine, seeds = result["task"], result.get("machine") or {}, result["seeds"]
    return {
        "Race rules": f"version {plain(result['rules'])}",
        "Workload": plain(task["spec"]),
        "Data": plain(task["data"]),
        "Fingerprint": plain(task["fingerprint"]),
        "Versions": ", ".join(f"{plain(name)} {plain(version)}" for name, version in result["versions"].items()),
        "Machine": (
            f"{plain(machine.get('processor'))}, {plain(machine.get('cores'))} cores, "
            f"{number(machine.get('memory_gib'))} GiB, {plain(machine.get('system'))}"
        ),
        "Seeds": "; ".join(f"{plain(name)} {seed_list(values)}" for name, values in seeds.items()),
        "Looks": looks(result),
        "Horizons": ", ".join(count(steps) for steps in result["horizons"]) + " steps",
        "Timing": words.timing(result),
        "Started": date(result["started"]),
        "Finished": date(result["finished"]),
    }


def looks(result: words.Result) -> str:
    """Return when the race was judged."""
    if result.get("until"):
        first = result["looks"][0]
        return f"results were looked at after every seed from {first} on, up to {result['until']}, as declared"
    return f"results were looked at after {', '.join(str(look) for look in result['looks'])} seeds, as declared"


def seed_list(values: list[int]) -> str:
    """Return consecutive seeds as "2000 to 2007", others one by one."""
    if len(values) > 2 and list(values) == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(str(value) for value in values) or "none"
