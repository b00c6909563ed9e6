"""What a ledger believes: all that was judged, in the order in which it came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sooner.error import SoonerError
from sooner.foundation.strict_json import strict
from sooner.judging.evidence import NO_GAIN, SAME, Worth
from sooner.judging.home import FOLDER, home_of
from sooner.judging.ledger import FILE, SIDES, Ledger
from sooner.judging.words import end_of


@dataclass(frozen=True)
class Row:
    """A comparison.

    Args:
        number: its place in the stream, 0 where no pair is complete.
        candidate, baseline, metric: what was compared.
        outcome: the latest verdict, "unfinished" where there is none.
        gain, low, high, p: that it rests on, None where there is none.
        relative: whether gains are shares of the metric.
        worth: the smallest difference that mattered, in words.
        seeds: pairs used.
        level: what p had to reach.
        seconds: that all of its runs took.
        when: the verdict was given, or the comparison began; ISO 8601.
    """

    number: int
    candidate: str
    baseline: str
    metric: str
    outcome: str
    gain: float | None
    low: float | None
    high: float | None
    p: float | None
    relative: bool
    worth: str
    seeds: int
    level: float | None
    seconds: float
    when: str

    def words(self) -> list[str]:
        """Return the cells of a table, two lines each: candidate, verdict, gain and p over what they refer to."""
        gain = ""
        if self.gain is not None and self.low is not None and self.high is not None:
            size = Worth(1.0, self.relative)
            gain = f"{end_of(self.gain, size, sign=True)}\n({end_of(self.low, size)} to {end_of(self.high, size)})"
        outcome = f"{self.outcome} worth {self.worth}" if self.outcome in (NO_GAIN, SAME) else self.outcome
        p, level = ("" if value is None else f"{value:.2g}" for value in (self.p, self.level))
        sides = f"{self.candidate}\n  {self.baseline}"
        return [str(self.number or ""), sides, f"{outcome}\n{self.metric}", gain, str(self.seeds), f"{p}\n{level}"]


def for_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows for JSON: numbers that are not finite are written as text."""
    return [strict(asdict(row)) for row in rows]


def believed(folder: str | Path | None = None) -> tuple[Ledger, Sequence[Row]]:
    """Return the ledger of a folder and a row for each comparison in it.

    Raises:
        SoonerError: there is none, or it is damaged.
    """
    home = Path(folder) if folder is not None else home_of(Path.cwd(), None)
    if not (home / FILE).is_file():
        raise SoonerError(
            f"there is no ledger in {home}; `sooner judge` begins one ({FOLDER}/{FILE}), --folder names another"
        )
    ledger = Ledger(home)
    runs, levels, verdicts = ledger.runs(), ledger.all("level"), ledger.all("verdict")
    rows = []
    for key, record in ledger.all("comparison").items():
        sides = runs.get(key, {side: {} for side in SIDES})
        verdict, entered = verdicts.get(key), levels.get(key)
        said = verdict.data if verdict else {}
        rows.append(
            Row(
                number=entered.data["number"] if entered else 0,
                candidate=record.data["candidate"],
                baseline=record.data["baseline"],
                metric=record.data["metric"],
                outcome=said.get("outcome", "unfinished"),
                gain=said.get("gain"),
                low=said.get("low"),
                high=said.get("high"),
                p=said.get("p"),
                relative=bool(said.get("relative", False)),
                worth=said.get("worth", ""),
                seeds=said.get("seeds", min(len(side) for side in sides.values())),
                level=entered.data["level"] if entered else None,
                seconds=sum(run["seconds"] for side in sides.values() for run in side.values()),
                when=(verdict or record).time,
            )
        )
    return ledger, rows
