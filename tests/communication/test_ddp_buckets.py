"""Codecs as a communication hook of DistributedDataParallel: two gloo processes, several buckets."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from sooner.communication import EF21, DDPBuckets, TopK
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
