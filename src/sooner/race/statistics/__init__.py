"""Statistics of paired runs: how much sooner, with which interval, and how likely that is luck.

Contender and baseline run on the same seeds, so all figures rest on one difference per seed: of the logarithm of the
steps to target (a ratio of steps) or of the final value. A miss is an infinite number of steps and takes part: the
difference is then infinite, means give way to medians and sizes to signs. A difference of NaN marks a seed that says
nothing, because both sides missed; it is left out, which for the sign-flip test is the same as counting it as 0.

A race that looks once, or at a few declared numbers of seeds, is judged by sign flips and bootstrap intervals; one that
looks after every seed by bets, whose p-values and intervals hold at all looks at once (`betting`).
"""

from sooner.race.statistics.betting import betting_interval, betting_p, smallest_betting_p, wealth
from sooner.race.statistics.intervals import interval
from sooner.race.statistics.pairs import center, paired_differences, paired_log_ratios, spread
from sooner.race.statistics.power import POWER, can_reach, seeds_needed, smallest_difference, smallest_effect
from sooner.race.statistics.sign_flips import ENUMERATED, holm, sign_flip, smallest_p
from sooner.race.statistics.summaries import DifferenceSummary, RatioSummary, difference_summary, ratio_summary

__all__ = [
    "ENUMERATED",
    "POWER",
    "DifferenceSummary",
    "RatioSummary",
    "betting_interval",
    "betting_p",
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
    "smallest_betting_p",
    "smallest_difference",
    "smallest_effect",
    "smallest_p",
    "spread",
    "wealth",
]
