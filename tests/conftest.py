"""What every test starts from: one thread of arithmetic, and the same global random state."""

import gc
import random
import signal
from pathlib import Path

import numpy as np
import overhead
import pytest
import torch
from forks import Ranks, Zygote
from headless import browser, offline  # noqa: F401 (fixtures)
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
overhead.spare()
# the machine is shared: how long an example takes, or its making, says nothing
settings.register_profile("sooner", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sooner")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a shell; tests send Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST = (
    "tests/claims/test_claims_run_small.py",
    "tests/docs/test_site.py",
    "tests/command/test_commands_race.py",
    "tests/race/test_race_rules.py",
    "tests/parts/test_contract.py",
    "tests/world/test_world_faults.py",
    "tests/race_engine/test_pool.py",
    "tests/race/test_race_resume.py",
    "tests/lab/test_lab_small.py",
    "tests/race/test_race_world.py",
    "tests/race/test_race_crash.py",
    "tests/race/test_ray.py",
    "tests/cli/test_cli_forecast.py",
    "tests/forecast/test_doubts.py",
    "tests/world/test_world.py",
    "tests/cli/test_cli_commands.py",
    "tests/watch/test_live.py",
    "tests/integrations/test_hf.py",
    "tests/execute/test_inductor.py",
    "tests/execute/test_shards.py",
    "tests/loop/test_resume.py",
    "tests/update/test_second_order.py",
    "tests/docs/test_notebook.py",
    "tests/benchmarks/test_optimizer_benchmarks.py",
)
"""Files that begin first, the longest before the others: one that began last would leave the other core idle."""


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONGEST)))


def pytest_collection_finish():
    overhead.keep_imports()


def pytest_sessionfinish():
    gc.unfreeze()  # extension modules look at their end for what is left


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


@pytest.fixture(scope="session")
def begin(zygote, tmp_path_factory):
    """Starts the command line in a process of its own, and its workers, without the seconds that imports take."""

    def start(*words, **options):
        script = Path(__file__).with_name("command_line.py")
        return zygote.start([script, *words], tmp_path_factory.mktemp("said"), "cli", COLUMNS="200", **options)

    return start


@pytest.fixture
def fresh(zygote, tmp_path):
    """Runs a program in a process in which nothing but imports has happened, warnings being errors: what it printed."""

    def run(code, *words):
        script = tmp_path / "program.py"
        script.write_text(f"import warnings; warnings.simplefilter('error')\n{code}", encoding="utf-8")
        done = zygote.start([script, *words], tmp_path, "program", cwd=tmp_path)
        assert done.wait() == 0, done.error.read_text()
        return done.out.read_text()

    return run


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
