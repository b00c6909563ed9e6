"""What every test starts from: one thread of arithmetic, and the same global random state."""

import random

import numpy as np
import pytest
import torch
from headless import browser, offline  # noqa: F401 (fixtures)
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
# the machine is shared: how long an example takes, or its making, says nothing
settings.register_profile("sooner", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sooner")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
