"""Who is lost, as ranks of one process find out from signs of life in a store that they share."""

import threading

import pytest
import torch.distributed as dist

from sooner.communication import _lookout
from sooner.communication._lookout import KEEPER_GONE, Lookout, RankLostError


@pytest.fixture
def lookouts(monkeypatch):
    """Start a lookout for each of some ranks out of a number: lookouts(size, *ranks)."""
    monkeypatch.setattr(_lookout, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(_lookout, "GRACE_SECONDS", 1.0)
    started = []

    def start(size, *ranks):
        store = dist.HashStore()
        started.extend(Lookout(store, rank, size) for rank in ranks)
        return started

    yield start
    for one in started:
        one.stop()


def judged(lookouts):
    """What all of them say when an exchange has failed on all of them at once."""
    said = {}
    threads = [threading.Thread(target=lambda o=o: said.update({o.rank: o.judge("Timed out")})) for o in lookouts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


@pytest.mark.parametrize("victim", [0, 1, 2, 3])
def test_of_four_the_silent_one_is_named_by_all_others_and_told_by_one(lookouts, victim):
    others = [rank for rank in range(4) if rank != victim]
    ranks = lookouts(4, victim, *others)
    ranks[0].stop()
    said = judged(ranks[1:])
    assert {str(error) for error in said.values()} == {f"rank {victim} is gone: no sign of life after exchange 0"}
    assert sum(one.speaks for one in ranks[1:]) == 1


def test_who_hears_of_one_side_only_names_the_silent_side(lookouts):
    ranks = lookouts(4, 0, 3, 1, 2)
    for one in ranks[2:]:
        one.stop()
    said = judged(ranks[:2])
    silent = ", ".join(f"rank {rank} is gone: no sign of life after exchange 0" for rank in (1, 2))
    assert {str(error) for error in said.values()} == {silent}


@pytest.mark.parametrize(
    ("size", "who"),
    [
        (2, "rank 1, or the network to it, is gone"),
        (4, "all ranks but 0, or the network of rank 0, are gone"),
    ],
)
def test_who_hears_of_nobody_may_be_cut_off_itself(lookouts, size, who):
    (one,) = lookouts(size, 0)
    error = one.judge("Timed out")
    assert isinstance(error, RankLostError)
    assert str(error) == f"{who}: no sign of life after exchange 0"


def test_a_store_that_never_answers_is_that_of_a_lost_keeper(lookouts, monkeypatch):
    (one,) = lookouts(3, 1)
    monkeypatch.setattr(_lookout, "GRACE_SECONDS", 0.05)
    never = threading.Event()
    monkeypatch.setattr(one, "_verdict", never.wait)
    assert str(one.judge("Timed out")) == KEEPER_GONE
    never.set()
