"""Statistics of paired runs: how much sooner, with which interval, and how likely that is luck.

Contender and baseline run on the same seeds, so all figures rest on one difference per seed: of the logarithm of the
steps to target (a ratio of steps) or of the final value. A miss is an infinite number of steps and takes part: the
difference is then infinite, means give way to medians and sizes to signs. A difference of NaN marks a seed that says
nothing, because both sides missed; it is left out, which for the sign-flip test is the same as counting it as 0.
"""

from sooner.race.statistics.intervals import interval
from sooner.race.statistics.pairs import center, paired_differences, paired_log_ratios, spread
from sooner.race.statistics.power import POWER, smallest_effect
from sooner.race.statistics.sign_flips import ENUMERATED, can_reach, holm, seeds_needed, sign_flip, smallest_p
from sooner.race.statistics.summaries import DifferenceSummary, RatioSummary, difference_summary, ratio_summary

__all__ = [
    "ENUMERATED",
    "POWER",
    "DifferenceSummary",
    "RatioSummary",
    "can_reach",
    "center",
    "difference_summary",
    "holm",
    "interval",
    "paired_differences",
    "paired_log_ratios",
    "ratio_summary",
    "seeds_needed",
    "sign_flip",
    "smallest_effect",
    "smallest_p",
    "spread",
]
