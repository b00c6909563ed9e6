"""Codecs as a communication hook of DistributedDataParallel: two gloo processes, several buckets."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sooner.communication import EF, EF21, FP16, DDPBuckets, TopK, _ddp
from sooner.communication import PowerSGD as LowRank
from sooner.error import SoonerError


def test_a_hook_averages_as_the_attachment_does(ranks):
    both = ranks([Path(__file__).with_name("ddp_buckets.py")])
    both.succeed()
    assert [both.printed(rank) for rank in range(2)] == ["fine\n"] * 2


def test_what_a_bucket_cannot_do_is_refused():
    model = SimpleNamespace(process_group=None)
    with pytest.raises(SoonerError, match="PowerSGD needs whole matrices or several messages"):
        DDPBuckets(model, LowRank())
    with pytest.raises(SoonerError, match="EF21 keeps what all workers share"):
        DDPBuckets(model, TopK(), EF21())


def held(function):
    """Everything that a function keeps alive through the variables around it."""
    for cell in function.__closure__ or ():
        yield cell.cell_contents
        if hasattr(cell.cell_contents, "__closure__"):
            yield from held(cell.cell_contents)


@pytest.mark.parametrize("codec", [FP16(), TopK(0.5)])
def test_what_runs_in_a_thread_of_the_group_does_not_keep_the_group(codec, monkeypatch):
    """If it let go of the group last, that thread would wait for itself, and the process be aborted."""
    group, caught = object(), []
    buckets = DDPBuckets(SimpleNamespace(process_group=group, register_comm_hook=lambda *_: None), codec, EF())
    buckets.steps = 1
    future = SimpleNamespace(then=caught.append)
    monkeypatch.setattr(_ddp.dist, "get_world_size", lambda group: 2)
    monkeypatch.setattr(buckets, "_reduced", lambda *_: future)
    monkeypatch.setattr(_ddp, "gathered", lambda *_, **__: (None, SimpleNamespace(get_future=lambda: future)))
    buckets._average(SimpleNamespace(buffer=lambda: torch.ones(40), is_last=lambda: True, index=lambda: 0))
    (then,) = caught
    assert not any(one is buckets or one is group for one in held(then))
