"""What comes out of judging a candidate."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from sooner.foundation.strict_json import strict
from sooner.judging.evidence import BETTER, NO_GAIN, SAME, UNDECIDED, WORSE

EXIT_CODES = {BETTER: 0, WORSE: 1, NO_GAIN: 1, SAME: 1, UNDECIDED: 3}
"""Of the command line: 0 keep it, 1 don't, 3 not known. 2 is bad input or a failed run, as everywhere here."""


@dataclass(frozen=True)
class Judgement:
    """What came out.

    Args:
        outcome: "better", "worse", "no gain" or "no difference" worth having, or "undecided" when the budget ended.
        sentence: all of it in one.
        gain: by how much the candidate is better: a share of the metric, or in its unit; negative where it is worse,
            infinite where runs diverged, NaN where no pair says anything.
        low, high: interval of the gain, 95 % at all looks at once.
        p: of "no difference"; holds at every look.
        level: what p had to reach for "better": this candidate's part of the budget. NaN before the first pair.
        number: its place in the stream of candidates, from 1; 0 before the first pair.
        seeds: that were used, in order.
        baseline, candidate: the names of the two sides.
        baseline_values, candidate_values: the metric at the end of each run.
        notes: what one should know besides, in sentences.
    """

    outcome: str
    sentence: str
    gain: float
    low: float
    high: float
    p: float
    level: float
    number: int
    seeds: tuple[int, ...]
    baseline: str
    candidate: str
    baseline_values: tuple[float, ...]
    candidate_values: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def better(self) -> bool:
        """Whether to keep the candidate."""
        return self.outcome == BETTER

    @property
    def exit_code(self) -> int:
        """Of the command line: 0 better, 1 worse, no gain or no difference, 3 undecided."""
        return EXIT_CODES[self.outcome]

    def to_json(self) -> str:
        """Return it as strict JSON: numbers that are not finite are written as text."""
        told = {**asdict(self), "exit_code": self.exit_code}
        return json.dumps(strict(told), indent=1, allow_nan=False)
