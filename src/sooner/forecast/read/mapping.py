"""Which heading of a file is which column: by what names mean and which cells are filled; the user overrides it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sooner.error import SoonerError, nearest
from sooner.forecast.read.names import ALIASES, KINDS, SPLITS, TEST, TRAINING, VALIDATION, meaning, plain, split_of
from sooner.forecast.table import listed

ENOUGH = 5
"""Losses of a split that are as many as this, or half as many as those of any other, make a curve."""
COVERED = 0.9
"""A heading that is filled in this share of the rows with a loss is there for the law."""
_SPLIT_HEADINGS = ("mode", "split", "phase", "subset", "stage", "dataset")
ABOVE = " (line above)"
"""Ends the name of a number that stood on a line before."""
IN_A_LOG = {"n/total": 40, "number in front": 41, "batch": 45, "batchid": 45, "minibatch": 45, "batchidx": 45}
"""Names of numbers that count steps where a log has no better ones, with their rank."""
ROWS = "(number of the row)"
"""Stands for a heading where steps are counted by the rows themselves."""
_ALONE = frozenset(("loss", "perplexity", "accuracy", "error", "run", "lr"))
"""Columns beside which the rows can only be those of a curve."""


@dataclass(frozen=True)
class Asked:
    """What the user says about the files.

    Args:
        columns: heading by column; for run also several headings, joined by +.
        where: the text that a heading's cells must be, by heading; other rows are left out.
        split: validation, test or training, of whose losses the curve is wanted; left out, the first that has enough.
        curve: whether a curve is wanted, along tokens where there are no steps.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None
    curve: bool = False

    def __post_init__(self) -> None:
        if self.split is not None and split_of(self.split) not in (VALIDATION, TEST, TRAINING):
            known = (VALIDATION, TEST, TRAINING)
            raise SoonerError(f"--split is {self.split!r}{nearest(self.split, known)}; give one of {', '.join(known)}")

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """The splits that the user's one stands for; a loss that names none is a training loss."""
        if self.split is None:
            return None
        split = split_of(self.split)
        return (TRAINING, "") if split == TRAINING else (split,)


@dataclass
class Filled:
    """Which cells are filled together: how many rows there are of each set of headings and split."""

    rows: Counter[tuple[int, str]] = field(default_factory=Counter)

    def count(self, *places: int | None, split: str | None = None) -> int:
        """Return in how many rows these are all filled, of a split or of all."""
        wanted = sum(1 << place for place in places if place is not None)
        return sum(
            n for (bits, own), n in self.rows.items() if bits & wanted == wanted and (split is None or own == split)
        )


@dataclass(frozen=True)
class Chosen:
    """Which heading is which column.

    Args:
        columns: heading by column.
        notes: what was chosen where the heading reads otherwise.
        split: of the loss.
        rows: the split that a row must say under `split_heading`, None where any may.
        split_heading: where rows say their split.
        factors: what the numbers under a heading are multiplied by.
    """

    columns: dict[str, str]
    notes: list[str]
    split: str = ""
    rows: str | None = None
    split_heading: str | None = None
    factors: dict[str, float] = field(default_factory=dict)


def find(headings: Sequence[str], asked: Asked, where: str, filled: Filled, *, log: bool = False) -> Chosen:
    """Return which heading is which column.

    Args:
        headings: of the file.
        asked: what the user says.
        where: the file, for messages.
        filled: which cells are.
        log: whether the headings are the names of numbers in a log.

    Raises:
        SoonerError: a heading that the user names is not there, a column whose name is misspelt, a heading twice, or no
            loss of the split asked for.
    """
    given = _given(headings, asked, where)
    place = {heading: i for i, heading in enumerate(headings)}
    chosen, named, notes = dict(given), list[str](), list[str]()
    taken = {part for one in given.values() for part in parts(one, headings)}
    split_heading = split_heading_of(headings) if not asked.where else None
    split, rows = "", None
    meanings = {h: _meaning(h, log=log) for h in headings if h not in taken}
    if "loss" not in given:
        found = _loss(meanings, place, filled, asked, where, split_heading)
        if found is not None:
            heading, split, rows, told, more = found
            chosen["loss"] = heading
            taken.add(heading)
            named += told
            notes += more
    elif split_heading is not None and given["loss"] in place:
        found = _loss({given["loss"]: ("loss", "", 0)}, place, filled, asked, where, split_heading)
        split, rows = (found[1], found[2]) if found else ("", None)
    loss = place.get(chosen.get("loss", ""))
    meant_at_all = {*given, *(meant[0] for meant in meanings.values() if meant is not None)}
    # in a table of final losses epochs are how often the data were seen, and no axis
    axis = log or asked.curve or not meant_at_all >= {"parameters", "tokens"}
    total = max(filled.count(loss, split=rows), 1)
    for column in ("step", *(name for name in ALIASES if name not in ("step", "loss", "perplexity", "run")), "run"):
        if column in chosen:
            continue
        ranked = []
        for heading, meant in meanings.items():
            if (
                meant is None
                or heading in taken
                or not _is(column, meant[0], log, epochs="step" in chosen or not axis, axis=axis)
            ):
                continue
            if column == "run" and "step" not in chosen and plain(heading) in KINDS:
                continue
            share = filled.count(loss, place[heading], split=rows) / total
            anywhere = filled.count(place[heading])
            if column in ("lr", "epoch"):
                share = 1.0 if anywhere else 0.0
            if column not in ("step", "run") and not share:
                continue  # blank in every row
            if column == "run" and share < COVERED:
                continue
            poor = 0 if share >= COVERED else 1 if share >= 0.5 else 2 if share else 3
            other = column in ("accuracy", "error") and split != meant[1]
            rank = 50 * (meant[0] == "epoch" and column == "step") + meant[2]
            ranked.append((poor, other * (1 + SPLITS.index(meant[1])), rank, place[heading], heading))
        if not ranked:
            continue
        ranked.sort()
        heading = ranked[0][-1]
        chosen[column] = heading
        taken.add(heading)
        others = [h for *_, h in ranked[1:] if not h.endswith(ABOVE)]
        also = f" (not {', '.join(map(repr, others))}; --column {column}=HEADING chooses)" if others and not log else ""
        if column != "epoch" and (heading != column or also):
            named.append(f"{column} {'' if named else 'is read '}from {heading!r}{also}")
    if named:
        notes.insert(0, ", ".join(named))
    if "step" not in chosen:
        _other_axis(chosen, notes, asked, filled, place, total, log=log)
    factors = {h: m.factor for h in headings if (m := meaning(h)) is not None and m.factor != 1.0 and h in taken}
    return Chosen(chosen, notes, split, rows, split_heading, factors)


def _is(column: str, meant: str, log: bool, *, epochs: bool, axis: bool) -> bool:
    """Return whether a heading that means one thing may be this column; epochs may be the axis, or a column apart."""
    if column == "step":
        return meant == "step" or (meant == "epoch" and axis)
    if column == "epoch":
        return meant == "epoch" and epochs
    return meant == column and not (log and column in ("batch", "seconds", "experts", "width", "unique_tokens", "run"))


def _other_axis(
    chosen: dict[str, str],
    notes: list[str],
    asked: Asked,
    filled: Filled,
    place: Mapping[str, int],
    total: int,
    *,
    log: bool,
) -> None:
    """Let tokens, times or the rows count the steps of a curve that has none."""
    others = set(chosen) - _ALONE
    if asked.curve and others == {"tokens"}:
        chosen["step"] = chosen.pop("tokens")
        notes.append(f"step is read from {chosen['step']!r}: the axis is in tokens (or samples)")
    elif not {"loss", "accuracy", "error"} & set(chosen) or ("run" in chosen and not asked.curve):
        return
    elif others == {"seconds"} and filled.count(place.get(chosen["seconds"])) >= total:
        chosen["step"] = chosen.pop("seconds")
        notes.append(f"step is read from {chosen['step']!r}: the axis is in seconds")
    elif log or (not others and len({"loss", "accuracy", "error"} & set(chosen)) == 1):
        chosen["step"] = ROWS
        notes.append("there is no column of steps: the axis counts the rows")


def _given(headings: Sequence[str], asked: Asked, where: str) -> dict[str, str]:
    """Return what the user names, with headings as the file writes them."""
    double = sorted({heading for heading in headings if headings.count(heading) > 1})
    if double:
        raise SoonerError(f"{where} has the heading {double[0]!r} twice; rename one of them")
    given = dict(asked.columns)
    for column in given:
        if column not in ALIASES and column not in headings and (meant := nearest(column, ALIASES)):
            raise SoonerError(
                f"--column names {column!r}, which no law reads{meant}; the columns are {', '.join(ALIASES)}"
            )
    for column, one in given.items():
        if one not in headings:
            alike = [h for h in headings if plain(h) == plain(one) and plain(one)]
            given[column] = alike[0] if len(alike) == 1 else one
    for heading in (*asked.where, *(part for one in given.values() for part in parts(one, headings))):
        if heading not in headings:
            raise SoonerError(
                f"{where} has no heading {heading!r}{nearest(heading, headings)}; it has {listed(headings)}"
            )
    return given


def _meaning(heading: str, *, log: bool) -> tuple[str, str, int] | None:
    """Return column, split and rank of what a heading means."""
    if heading.endswith(ABOVE):
        found = _meaning(heading.removesuffix(ABOVE), log=log)
        return None if found is None else (found[0], found[1], found[2] + 100)
    if (log and plain(heading) in IN_A_LOG) or (heading in IN_A_LOG and heading != "batch"):
        return "step", "", IN_A_LOG[heading if heading in IN_A_LOG else plain(heading)]
    found_meaning = meaning(heading)
    return None if found_meaning is None else (found_meaning.column, found_meaning.split, found_meaning.rank)


def means_something(heading: str) -> bool:
    """Return whether a heading may be a column that laws read, or that tells rows apart."""
    return _meaning(heading, log=True) is not None or plain(heading) in ALIASES["run"]


def _loss(
    meanings: Mapping[str, tuple[str, str, int] | None],
    place: Mapping[str, int],
    filled: Filled,
    asked: Asked,
    where: str,
    split_heading: str | None,
) -> tuple[str, str, str | None, list[str], list[str]] | None:
    """Return heading, split, split of the rows of the loss to read, how it is named and what else to say of it."""
    for target in ("loss", "perplexity"):
        ranked: list[tuple[tuple[int, int, int], int, str, str, str | None]] = []
        for heading, meant in meanings.items():
            if meant is None or meant[0] != target:
                continue
            own = [s for s in SPLITS if s] if split_heading is not None and not meant[1] else []
            said: list[str | None] = [s for s in own if filled.count(place[heading], split=s)]
            for rows in said or [None]:
                split = meant[1] if rows is None else rows
                count = filled.count(place[heading], split=rows)
                ranked.append(((SPLITS.index(split), meant[2], place[heading]), count, heading, split, rows))
        if not ranked:
            continue
        wanted = asked.wanted
        kept = [one for one in ranked if wanted is None or one[3] in wanted]
        if not kept:
            has = ", ".join(dict.fromkeys(f"{h!r}" for *_, h, _, _ in sorted(ranked)))
            raise SoonerError(f"{where} has no {asked.split} loss; it has {has}: leave --split out, or name another")
        most = max(count for _, count, *_ in kept)
        enough = [one for one in kept if one[1] >= ENOUGH or 2 * one[1] >= most]
        best = min(enough if wanted is None else [one for one in kept if one[1]] or kept)
        others = list(dict.fromkeys(h for _, n, h, *_ in sorted(kept) if h != best[2] and n))
        return best[2], best[3], best[4], *_told(best, others, kept, enough)
    return None


def _told(
    best: tuple[tuple[int, int, int], int, str, str, str | None],
    others: list[str],
    kept: list[tuple[tuple[int, int, int], int, str, str, str | None]],
    enough: list[tuple[tuple[int, int, int], int, str, str, str | None]],
) -> tuple[list[str], list[str]]:
    """Return how the choice of a loss is put, and what else to say of it."""
    _, count, heading, split, rows = best
    told = []
    few = [one for one in sorted(kept) if one not in enough and one < best and one[1]]
    also = f" (not {', '.join(map(repr, others[:6]))}; --column loss=HEADING chooses)" if others else ""
    named = [f"loss is read from {heading!r}{also}"] if heading != "loss" or also else []
    if rows is not None:
        told.append(f"of the rows, those that say {rows} were read; --split chooses")
    if few:
        told.append(
            f"{few[0][1]} {few[0][3]} losses are too few for a curve: {count} {split or 'other'} losses were read; "
            f"--split {few[0][3]} reads the few"
        )
    return named, told


def split_heading_of(headings: Sequence[str]) -> str | None:
    """Return the heading under which rows say whether they are of training or validation, None without one."""
    return next((heading for heading in headings if plain(heading) in _SPLIT_HEADINGS), None)


def parts(heading: str, headings: Sequence[str]) -> list[str]:
    """Return the headings that a text names: itself, or those that it joins by +."""
    return [heading] if heading in headings else [one.strip() for one in heading.split("+")]
