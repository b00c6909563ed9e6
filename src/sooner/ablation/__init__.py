"""Which parts of a stack carry its gain, and which to throw away: one race whose every arm serves every part.

`read` says what of a stack may be left out, `design` which to leave out together, `Study` races them, and `find` reads
effects with intervals out of the result. On the command line it is ``sooner ablate``.
"""

from sooner.ablation.design import Design, design
from sooner.ablation.effects import Effect, Effects, effects
from sooner.ablation.factors import Factor, Stack, read
from sooner.ablation.study import WORTH, Found, Study, find

__all__ = [
    "WORTH",
    "Design",
    "Effect",
    "Effects",
    "Factor",
    "Found",
    "Stack",
    "Study",
    "design",
    "effects",
    "find",
    "read",
]
