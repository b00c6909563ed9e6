"""Networks that tasks begin with are taught for a moment only: tests of what a task promises need no good ones."""

import pytest

from sooner.workloads import draft_text, finetune, sums


@pytest.fixture(scope="session", autouse=True)
def _taught_for_a_moment(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOONER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(sums, "START_STEPS", 2)
        patch.setattr(finetune, "START_STEPS", 2)
        patch.setattr(draft_text, "TARGET_STEPS", 1)
        sums.start.cache_clear()
        finetune.start.cache_clear()
        draft_text.target.cache_clear()
        yield
    sums.start.cache_clear()
    finetune.start.cache_clear()
    draft_text.target.cache_clear()
