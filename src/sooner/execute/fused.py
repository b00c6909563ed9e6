"""Running a chain in compiled stretches, cut at the rules that need sums or whole matrices.

What can't be traced or compiled runs as in the eager executor, from the beginning of that stretch to the chain's end.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sooner.execute.cohort import Work
from sooner.execute.compiler import NoCompilerError
from sooner.execute.decide import decide
from sooner.execute.eager import run_rules
from sooner.execute.expression import UntraceableError
from sooner.execute.trace import Stretch
from sooner.transform import Quantity, Transform

log = logging.getLogger(__name__)

_said: set[tuple[type[Transform], ...]] = set()


def run_fused(work: Sequence[Work], kind: type[Stretch]) -> None:
    """Take one step for every cohort, all with the same kinds of rules, in stretches of this kind."""
    rules = work[0].chain.rules
    stretches = [kind(w) for w in work]
    position = 0
    while position < len(rules) or stretches[0].pending:
        if position < len(rules) and rules[position].grain == "tensor" and not stretches[0].pending:
            for s in stretches:
                s.run_tensor_rule(position)
            position += 1
            continue
        try:
            behind, reducing = _trace(stretches, position)
            for s in stretches:
                s.compile()
        except (UntraceableError, NoCompilerError) as error:
            _say(rules[position:], error)
            for s in stretches:
                s.give_up()
            run_rules(work, position)
            break
        sums = [s.launch() for s in stretches]
        if reducing:
            numbers = decide([s.reduction(behind - 1) for s in stretches], work, sums)
            for s, of_cohort in zip(stretches, numbers, strict=True):
                s.pending = s.reduction(behind - 1), of_cohort
        position = behind
    for s in stretches:
        s.apply()


def _trace(stretches: Sequence[Stretch], position: int) -> tuple[int, bool]:
    """Trace from `position` to the next cut, in all cohorts together.

    Returns:
        The position behind the cut, and whether the cut is a rule that waits for its sums.
    """
    rules = stretches[0].work.chain.rules
    for s in stretches:
        s.begin()
    while position < len(rules) and rules[position].grain != "tensor":
        if rules[position].grain == "sum":
            for s in stretches:
                s.prepare(position)
            if any(s.program.sums for s in stretches) or isinstance(rules[position], Quantity):
                for s in stretches:
                    s.end(last=False)
                return position + 1, True
            # nothing to add up: the numbers come from the rule's memory alone, so the stretch goes on
            reductions = [s.reduction(position) for s in stretches]
            nothing = [[() for _ in s.work.cohort.buckets] for s in stretches]
            numbers = decide(reductions, [s.work for s in stretches], nothing)
            for s, rule, of_cohort in zip(stretches, reductions, numbers, strict=True):
                s.finish(rule, of_cohort)
        else:
            for s in stretches:
                s.element(position)
        position += 1
    for s in stretches:
        s.end(last=position == len(rules))
    return position, False


def _say(rules: Sequence[Transform], error: Exception) -> None:
    kinds = tuple(type(rule) for rule in rules)
    if kinds not in _said:
        _said.add(kinds)
        log.debug("%s run eagerly: %s", ", ".join(kind.__name__ for kind in kinds), error)
