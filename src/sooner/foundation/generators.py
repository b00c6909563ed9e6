"""Random numbers as a function of a seed and a number: whoever asks again, later or elsewhere, draws the same."""

from __future__ import annotations

import torch


def generator_at(seed: int, number: int) -> torch.Generator:
    """Return the generator of step, exchange or round `number`; what it draws depends on no other.

    Args:
        seed: the same on all workers where they are to draw the same.
        number: what is counted.
    """
    # only the lowest 32 bits of a seed count on the CPU
    return torch.Generator().manual_seed((1_000_003 * seed + number) % 2**32)
