"""Draws that leave no trace: PyTorch's CPU generator is seeded inside, and as before afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the body with torch's CPU generator seeded by `seed`, and put the generator's state back afterwards."""
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed: that would reseed every GPU as well, and nothing would put those states back
        torch.default_generator.manual_seed(seed)
        yield
