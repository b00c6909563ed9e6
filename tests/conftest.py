"""What every test starts from: one thread of arithmetic, and the same global random state."""

import random

import numpy as np
import pytest
import torch
from forks import Ranks, Zygote
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


@pytest.fixture(scope="session")
def zygote():
    """The process from which the processes of tests are forked."""
    forks = Zygote()
    yield forks
    forks.end()


@pytest.fixture(scope="module")
def ranks(zygote, tmp_path_factory):
    """Starts processes as torchrun would: ranks(["script.py", "argument"], 2, FAULT="kill 1 5")."""
    started = []

    def start(words, count=2, **environment):
        started.append(Ranks(zygote, words, count, tmp_path_factory.mktemp("ranks"), environment))
        return started[-1]

    yield start
    for one in started:
        one.end()
