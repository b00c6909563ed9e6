"""Which stacks to race so that every part's effect is told apart in the fewest runs: two-level fractional designs.

Every arm serves every part: in a design of 16 arms each effect is the mean of 8 arms less the mean of 8 others, where
leaving out one part at a time would compare one arm with one. Up to six parts the design also tells all pairs apart
(resolution V or better; Box, Hunter and Hunter, 2005, ch. 6). Beyond, effects are free of pairs, which are mixed among
themselves (resolution IV, a Hadamard matrix and its mirror image; Plackett and Burman, 1946).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard

from sooner.error import SoonerError

Levels = NDArray[np.int8]
Array = NDArray[np.float64]

LEAST, MOST = 2, 12
"""Parts of a stack: one alone is a race, and more than twelve would take more arms than anybody runs."""
PAIRS_UNASKED = 5
"""Up to so many parts all pairs are told apart without being asked: 16 arms."""
PAIRS_AT_MOST = 6


@dataclass(frozen=True)
class Design:
    """The arms to race.

    Args:
        levels: int8 [arms, parts], 1 where the part is in and -1 where it is out; the first row is the whole stack.
        pairs: whether the effects of pairs are told apart, from each other and from those of single parts.
    """

    levels: Levels
    pairs: bool

    def contrasts(self) -> tuple[list[tuple[int, ...]], Array]:
        """Return all that the arms can tell apart, float64 [contrasts, arms], and which parts each speaks of.

        A contrast, times the arms' values, is the mean with the part in less the mean with it out; a pair's is half
        the difference that the second part makes to the effect of the first. First come the parts, then pairs, then
        what is left, of larger groups: what no practitioner expects, and so a measure of luck.
        """
        arms, parts = self.levels.shape
        basis = np.full((1, arms), 1 / np.sqrt(arms))
        names: list[tuple[int, ...]] = []
        rows = []
        for size in range(1, parts + 1):
            for group in itertools.combinations(range(parts), size):
                column = self.levels[:, group].prod(axis=1).astype(np.float64)
                rest = column - basis.T @ (basis @ column)
                if np.linalg.norm(rest) > 1e-6:
                    rest = rest / np.linalg.norm(rest)
                    basis = np.vstack([basis, rest])
                    names.append(group)
                    rows.append(rest * 2 / np.sqrt(arms))
        return names, np.array(rows)


def design(parts: int, pairs: bool | None = None) -> Design:
    """Return the arms for a stack.

    Args:
        parts: how many may be in or out.
        pairs: tell pairs apart; None for wherever that takes no more than 16 arms.

    Raises:
        SoonerError: too few parts, too many, or too many for pairs.
    """
    if not LEAST <= parts <= MOST:
        why = "race it against the baseline instead" if parts < LEAST else f"leave out at most {MOST} at a time"
        raise SoonerError(f"{parts} part{'s' if parts != 1 else ''} of the stack can be left out; {why}")
    wanted = parts <= PAIRS_UNASKED if pairs is None else pairs
    if wanted and parts > PAIRS_AT_MOST:
        raise SoonerError(
            f"telling the pairs of {parts} parts apart takes 64 arms or more; at most {PAIRS_AT_MOST} are done, so "
            "give --no-pairs, or hold some parts fixed with --keep"
        )
    if not wanted and parts > 3:
        return Design(_mirrored(parts), False)
    free = parts if parts < 5 else parts - 1
    levels = np.array(list(itertools.product((1, -1), repeat=free)), dtype=np.int8)
    if free < parts:
        levels = np.column_stack([levels, levels.prod(axis=1)]).astype(np.int8)
    return Design(levels, wanted)


def _mirrored(parts: int) -> Levels:
    """Return a Hadamard matrix of one column per part, the first all ones, and below it its negative."""
    whole = _paley(11) if parts > 8 else hadamard(8 if parts > 4 else 4)
    return np.vstack([whole[:, :parts], -whole[:, :parts]]).astype(np.int8)


def _paley(prime: int) -> Levels:
    """Return the Hadamard matrix of order prime + 1 that quadratic residues make, first row and column all ones."""
    squares = {x * x % prime for x in range(1, prime)}
    chi = np.array([0] + [1 if x in squares else -1 for x in range(1, prime)])
    core = chi[(np.arange(prime)[:, None] - np.arange(prime)[None, :]) % prime]
    skew = np.block([[np.zeros((1, 1)), np.ones((1, prime))], [-np.ones((prime, 1)), core]])
    found = skew + np.eye(prime + 1)
    found = found * found[0]  # columns, then rows, so that both begin with one
    return np.asarray(found * found[:, :1], dtype=np.int8)
