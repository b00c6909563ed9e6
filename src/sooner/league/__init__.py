"""The league table: parts by workloads, from every race on disk and all published evidence, with how far to trust it.

One arm is the reference: the one that most comparisons hold. What no chain of races joins with it stands apart, beside
the race that would join it. Recipes that a claim wrote to take a method apart, or to run it in its paper's settings,
are no contenders of their own.

Each racing seed of each race ranks the contenders that ran it by their steps to the middle target; Plackett-Luce turns
these partial rankings into one order. What an order owes to chance shows in bootstrap intervals of the ranks, what it
owes to one workload in the orders without it, and what it owes to the set of contenders in the pairs that change places
when one contender is taken out.
"""

from __future__ import annotations

from sooner.league._table import League, Row, table
from sooner.league.comparisons import Collected, Comparison, collect, variants
from sooner.league.joining import Apart
from sooner.league.trust import LEVEL

__all__ = ["LEVEL", "Apart", "Collected", "Comparison", "League", "Row", "collect", "table", "variants"]
