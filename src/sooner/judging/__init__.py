"""A referee for those who try a hundred things: keep what is better, and little that only had luck.

`judge` runs a candidate and a baseline on the same seeds, one pair after another, until bets that hold at every look
say better, worse or no difference worth the trouble. A ledger spends one budget of false discoveries over the whole
stream of candidates.
"""

from sooner.judging._judge import judge
from sooner.judging.believed import believed
from sooner.judging.judgement import Judgement

__all__ = ["Judgement", "believed", "judge"]
