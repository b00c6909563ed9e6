"""One false-discovery budget over an endless stream of candidates: LORD++.

Candidate t gets a level alpha_t of its own, from a wealth that begins at w0 and is paid back with every discovery:

    alpha_t = w0 gamma_t + (q - w0) gamma_(t - tau_1) + q sum over j >= 2 of gamma_(t - tau_j)

where tau_j is when the j-th discovery was made and the gammas fall and sum to 1. Then the expected share of false ones
among all discoveries is at most q at any time, if the p-value of a candidate that is no better is uniform or larger
whatever came before it (Ramdas, Yang, Wainwright & Jordan, 2017, arXiv 1710.00499, who improve LORD of Javanmard &
Montanari, 2016, arXiv 1603.09000). A p-value that holds whenever one looks is such a one, however its stop was chosen,
also by alpha_t itself (Yang, Ramdas, Jamieson & Wainwright, 2017, arXiv 1706.05378). Where tests overlap, a discovery
counts from when it was made, so that a later candidate's level never rests on what was not known at its start; what is
kept below q is then the ratio of expectations (Zrnic, Ramdas & Jordan, 2018, arXiv 1812.05068).
"""

from __future__ import annotations

from collections.abc import Sequence

from scipy import special

DECAY = 1.6
"""gamma_j is proportional to j ** -DECAY, as for SAFFRON (Ramdas et al., 2018, arXiv 1802.09098)."""


def share(j: int) -> float:
    """Return gamma_j, the share of a unit of wealth that is spent on the j-th candidate after it came in, j >= 1."""
    return float(j**-DECAY / special.zeta(DECAY))


def level(number: int, discoveries: Sequence[int], q: float) -> float:
    """Return the level of a candidate by LORD++.

    Args:
        number: its place in the stream, from 1.
        discoveries: for each discovery known when it started, how many candidates had started when that was made.
        q: the share of false discoveries that is allowed; half of it is the initial wealth w0.
    """
    w0 = q / 2
    found = w0 * share(number)
    for j, at in enumerate(sorted(discoveries)):
        found += (q if j else q - w0) * share(number - at)
    return found
