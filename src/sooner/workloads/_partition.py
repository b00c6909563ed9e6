"""Dividing labelled examples among workers, so that each has classes of its own."""

import numpy as np
import numpy.typing as npt


def dirichlet(
    labels: npt.NDArray[np.int64], workers: int, alpha: float, seed: int, least: int = 1
) -> list[npt.NDArray[np.int64]]:
    """Return the numbers of every worker's examples: each class is divided in proportions drawn from Dir(alpha).

    Small `alpha` gives each worker few classes and makes some workers much larger than others. Whoever has fewer than
    `least` examples (or than there are for each) gets some of whoever has most.

    Args:
        labels: class of every example.
        workers: how many there are, at most as many as examples.
        alpha: concentration, above 0.
        seed: of the division, which is a function of it alone.
        least: examples that every worker has.
    """
    random = np.random.default_rng([seed, 0xD117])
    owned: list[list[int]] = [[] for _ in range(workers)]
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        shares = random.dirichlet(np.full(workers, alpha))
        ends = np.round(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for mine, part in zip(owned, np.split(members, ends), strict=True):
            mine += part.tolist()
    least = min(least, len(labels) // workers)
    for mine in owned:
        while len(mine) < least:
            mine.append(max(owned, key=len).pop())
    return [np.sort(np.array(mine, dtype=np.int64)) for mine in owned]
