"""Running a chain in compiled stretches, cut at the rules that need sums or whole matrices.

What can't be traced or compiled runs as in the eager executor, from the beginning of that stretch to the chain's end.
"""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Sequence

from torch import Tensor

from sooner.execute.chunk import Chunk
from sooner.execute.compiler import NoCompilerError
from sooner.execute.decide import RowSums, decide
from sooner.execute.eager import (
    ON_DEVICE,
    Eagerly,
    advance_eagerly,
    arrive,
    of_gradients,
    of_parameters,
    run_tensor_rule,
    settle,
)
from sooner.execute.expression import UntraceableError
from sooner.execute.passage import Passage, Pending, drive
from sooner.execute.trace import Stretch
from sooner.execute.work import Work
from sooner.transform import Transform

CHUNK = 2**21
"""Elements that rules for whole parameters work on at a time on a CPU: 8 MiB in float32."""

log = logging.getLogger(__name__)

_said: set[tuple[type[Transform], ...]] = set()


def run_fused(work: Sequence[Work], kind: type[Stretch]) -> None:
    """Take one step for every cohort, in stretches of this kind."""
    drive(work, functools.partial(_advance, kind))


def _advance(kind: type[Stretch], passages: Sequence[Passage]) -> list[tuple[Tensor, ...]]:
    """Run every passage up to its cut; all that work by element alone together."""
    found: dict[int, tuple[Tensor, ...]] = {}
    together: list[tuple[Passage, list[Stretch]]] = []
    for passage in passages:
        if passage.eagerly:
            (found[id(passage)],) = advance_eagerly([passage])
            continue
        by_element = all(rule.grain == "element" for rule in passage.rules[passage.position : passage.cut])
        if by_element and kind.takes_all:
            stretches = _ready(kind, passage)
            if stretches:
                together.append((passage, stretches))
            else:
                (found[id(passage)],) = advance_eagerly([passage])
            continue
        flat = passage.flat
        untouched: list[Chunk] = []
        cohort = passage.work.cohort
        chunks = cohort.chunks(CHUNK if cohort.device.type == "cpu" else ON_DEVICE, whole=True)
        sums = [_through(kind, passage, chunk, flat, untouched) for chunk in chunks]
        settle(passage, untouched)
        found[id(passage)] = tuple(functools.reduce(operator.add, one) for one in zip(*sums, strict=True))
    run = iter(kind.run_all([s for _, stretches in together for s in stretches]))
    for passage, stretches in together:
        of_stretches = [next(run) for _ in stretches]
        settle(passage, [s.chunk for s in stretches if s.u is None])
        found[id(passage)] = _totals([sums for of_buckets in of_stretches for sums in of_buckets])
    return [found[id(passage)] for passage in passages]


def _stretch(kind: type[Stretch], passage: Passage, chunk: Chunk, flat: Tensor | None) -> Stretch:
    u = None if flat is None else chunk.cut_from(flat)
    last = passage.cut == len(passage.rules)
    return kind(passage.work, chunk, u, passage.pending, None if last else lambda: chunk.cut_from(passage.place()))


def _ready(kind: type[Stretch], passage: Passage) -> list[Stretch]:
    """Trace and compile the rules up to the cut, which all work by element, for all parameters; [] where that fails.

    Bands are traced together where the rules allow it, else one by one.
    """
    cohort = passage.work.cohort
    try:
        try:
            return _traced(kind, passage, [cohort.whole])
        except Exception:
            if len(cohort.bands) == 1:
                raise
            return _traced(kind, passage, cohort.banded)
    except (UntraceableError, NoCompilerError) as error:
        _give_up(passage, passage.position, error)
        return []


def _traced(kind: type[Stretch], passage: Passage, chunks: Sequence[Chunk]) -> list[Stretch]:
    stretches = [_stretch(kind, passage, chunk, passage.flat) for chunk in chunks]
    for stretch in stretches:
        if not stretch.again(passage.position, passage.cut):
            stretch.trace(passage.position, passage.cut)
            stretch.compile()
            stretch.keep(passage.position, passage.cut)
    return stretches


def _through(
    kind: type[Stretch], passage: Passage, chunk: Chunk, flat: Tensor | None, untouched: list[Chunk]
) -> tuple[Tensor, ...]:
    """Take one chunk up to the passage's cut and return what the model rule there adds up.

    Args:
        untouched: the chunk is put here where ``u`` is the gradient still.
    """
    work, rules, cut = passage.work, passage.rules, passage.cut
    position = passage.position
    s = _stretch(kind, passage, chunk, flat)
    while True:
        if position < cut and rules[position].grain == "tensor" and not s.pending:
            theta = of_parameters(work, chunk) if rules[position].reads_theta else None
            u = of_gradients(work, chunk) if s.u is None else s.u
            s.put(run_tensor_rule(rules[position], work, chunk, u, theta))
            position += 1
            continue
        try:
            behind, waiting = s.trace(position, cut)
            s.compile()
        except (UntraceableError, NoCompilerError) as error:
            _give_up(passage, position, error)
            eagerly = Eagerly(work, chunk, of_gradients(work, chunk) if s.u is None else s.u, s.pending)
            sums = eagerly.run(position, cut)
            if cut < len(rules):
                chunk.cut_from(passage.place()).copy_(eagerly.u)
            return sums
        (of_buckets,) = kind.run_all([s])
        at_cut = cut < len(rules) and waiting is rules[cut]
        if at_cut or (waiting is None and behind == len(rules)):
            if not at_cut and not s.arrived:
                arrive(work, chunk, s.place(), lambda: of_parameters(work, chunk))
            elif at_cut and s.u is None:
                untouched.append(chunk)
            return _totals(of_buckets)
        if waiting is not None:
            s.pending = Pending(waiting, decide(waiting, chunk, s.clock, of_buckets))
        position = behind


def _totals(of_buckets: Sequence[RowSums]) -> tuple[Tensor, ...]:
    """Return the sums over all rows of all buckets."""
    parts = [tuple(one.sum() for one in bucket) for bucket in of_buckets]
    return tuple(functools.reduce(operator.add, one) for one in zip(*parts, strict=True))


def _give_up(passage: Passage, position: int, error: Exception) -> None:
    """Let the rest of a chain run eagerly, and say so once."""
    passage.eagerly = True
    _say(passage.rules[position:], error)


def _say(rules: Sequence[Transform], error: Exception) -> None:
    kinds = tuple(type(rule) for rule in rules)
    if kinds not in _said:
        _said.add(kinds)
        log.debug("%s run eagerly: %s", ", ".join(kind.__name__ for kind in kinds), error)
