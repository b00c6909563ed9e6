import pytest
from forked_workers import ForkedPool
from small_races import Notes, Remembering, small_plan

from sooner.race.referee import run


@pytest.fixture(scope="session")
def pool(zygote):
    """Two workers for all the races here, since starting them takes longer than a race."""
    with ForkedPool(zygote, 2) as workers:
        yield workers


@pytest.fixture(scope="session")
def remembering(pool):
    """The same, for races of which many are of the same runs."""
    return Remembering(pool)


@pytest.fixture
def race(tmp_path, remembering):
    """Runs a small race and returns its result; a run that another race had is not made again."""

    def run_race(*recipes, folder="race", watch=None, **options):
        return run(small_plan(tmp_path / folder, *recipes, **options), watch, remembering)

    return run_race


@pytest.fixture(scope="session")
def finished(tmp_path_factory, pool):
    """A finished race: (plan, what it told, result). One contender diverges, one is tuned, one is a torch class."""
    recipes = ("sgd(lr=0.02)", "sgd(lr=1e6)", "sgd(lr=log(0.001, 0.05))", "torch.optim.NAdam(lr=log(0.01, 1.0))")
    plan = small_plan(tmp_path_factory.mktemp("finished") / "race", *recipes, tune=3, looks=(8,), command="sooner race")
    watch = Notes()
    return plan, watch, run(plan, watch, pool)
