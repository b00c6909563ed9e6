"""Wide tables: the csv that Weights & Biases exports from a plot, a column for each run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sooner.forecast.read.mapping import Asked, parts
from sooner.forecast.read.thin import Row

_BETWEEN = " - "
_EXTREMES = ("__MIN", "__MAX")


@dataclass(frozen=True)
class Unfolded:
    """The same measurements with a row for each run and step.

    Args:
        headings: of the axis, then "run", then the metrics.
        rows: gives them, streamed, as often as it is called.
        count: of the runs.
    """

    headings: list[str]
    rows: Callable[[], Iterator[Row]]
    count: int


def unfold(headings: Sequence[str], rows: Callable[[], Iterable[Row]], asked: Asked) -> Unfolded | None:
    """Return the table with runs below each other; None where its headings are not those of an export.

    Such headings are `RUN - METRIC`, each beside its `RUN - METRIC__MIN` and `__MAX`.

    Args:
        headings: of the wide table, the common axis first.
        rows: gives the numbered rows, streamed.
        asked: what the user says; whoever names one of the wide columns gets that one, and no other run.
    """
    wide = [h for h in headings if _BETWEEN in h and not h.endswith(_EXTREMES)]
    if not any(h + extreme in headings for h in wide for extreme in _EXTREMES):
        return None
    if any(part in wide for one in asked.columns.values() for part in parts(one, headings)):
        return None
    places: dict[str, dict[str, int]] = {}
    for heading in wide:
        run, metric = heading.rsplit(_BETWEEN, 1)
        if metric != "_step":
            places.setdefault(run, {})[metric] = headings.index(heading)
    metrics = list(dict.fromkeys(metric for one in places.values() for metric in one))
    axes = [place for place, heading in enumerate(headings) if _BETWEEN not in heading]

    def below() -> Iterator[Row]:
        for number, cells in rows():
            if len(cells) != len(headings):
                yield number, cells  # `gather` refuses it
                continue
            for run, own in places.items():
                values = [cells[own[metric]] if metric in own else "" for metric in metrics]
                if any(str(value).strip() for value in values):
                    yield number, [*(cells[place] for place in axes), run, *values]

    return Unfolded([*(headings[place] for place in axes), "run", *metrics], below, len(places))
