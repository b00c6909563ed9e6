"""What every test starts from: one thread of arithmetic, and the same global random state."""

import random

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("sooner", deadline=None)  # the machine is shared: how long one example takes says nothing
settings.load_profile("sooner")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
