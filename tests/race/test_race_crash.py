"""Kill -9 at random moments: every finished cell survives, nobody is left behind, and the table comes out the same."""

import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from crashing_race import OPTIONS, RECIPES
from small_races import cells, numbers, small_plan

from sooner.race.journal import read
from sooner.race.referee import run
from sooner.report import table

KILLS = 20 if "SOONER_FUZZ" in os.environ else 10
"""Half as many in `make test` as in `make fuzz`; the race has cells for no more."""


def lines(folder):
    """The whole lines of the journal, as written so far."""
    with suppress(FileNotFoundError):
        return (folder / "journal.jsonl").read_bytes().split(b"\n")[:-1]
    return []


def workers(parent):
    with suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return []


def alive(pid):
    """Whether the process computes still; a dead one may wait for its parent to take note."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def until(condition):
    """Wait for it, however busy the machine is; what never happens meets the time limit of every test."""
    while not condition():
        time.sleep(0.002)


@pytest.fixture
def start(zygote, tmp_path_factory):
    """Starts the race in a folder; returns its process id and a function that waits for its exit code."""
    started = []

    def start_race(folder):
        script = Path(__file__).with_name("crashing_race.py")
        started.append(zygote.start([script, folder], tmp_path_factory.mktemp("said"), "race"))
        return started[-1].pid, started[-1].wait

    yield start_race
    for one in started:
        one.kill()
        one.wait()


def test_killed_at_random_moments_again_and_again_the_race_comes_out_the_same(tmp_path, pool, start):
    draw = random.Random(20260801)
    whole = small_plan(tmp_path / "undisturbed", *RECIPES, **OPTIONS)
    result = run(whole, None, pool)
    pool.close()  # leave the cores to the race under test
    folder, kept, kills = tmp_path / "race", [], {"worker": 0, "parent": 0}

    def wait_for_lines(pid, count):
        before = len(lines(folder))
        until(lambda: len(lines(folder)) >= before + count or not alive(pid))
        time.sleep(draw.uniform(0, 0.1))  # somewhere inside the next cells

    while sum(kills.values()) < KILLS:
        pid, end = start(folder)
        wait_for_lines(pid, 1)  # the record of this session
        until(lambda: len(workers(pid)) == 2 or not alive(pid))
        first = workers(pid)
        draw.shuffle(first)
        for victim in first:  # two different cells: the same one, hit twice, would be given up for good
            wait_for_lines(pid, draw.randint(1, 2))
            os.kill(victim, signal.SIGKILL)
            kills["worker"] += 1
        wait_for_lines(pid, draw.randint(0, 1))
        left = workers(pid)
        os.kill(pid, signal.SIGKILL)
        assert end() == -signal.SIGKILL
        kills["parent"] += 1
        until(lambda: not any(alive(each) for each in left))  # no worker outlives its parent
        now = lines(folder)
        assert now[: len(kept)] == kept
        kept = now

    assert start(folder)[1]() == 0
    assert lines(folder)[: len(kept)] == kept
    assert kills["worker"] >= KILLS // 3
    assert kills["parent"] >= KILLS // 4
    journal = read(folder)
    finished = [record.key for record in journal.all("cell")]
    assert len(finished) == len(set(finished))
    assert journal.all("failure") == []
    assert cells(journal) == cells(read(whole.folder()))
    survived = journal.find("result", "result")
    assert json.dumps(numbers(survived)) == json.dumps(numbers(result))
    assert table.text(numbers(survived), 200) == table.text(numbers(result), 200)
