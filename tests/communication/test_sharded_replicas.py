"""FSDP2 with compression between replicas: two replicas sharded over two processes each, on gloo."""

from pathlib import Path

import pytest
from torch import nn

from sooner.communication import FSDPReplicas
from sooner.error import SoonerError


def test_replicas_of_a_sharded_model_train_as_one_model_does(ranks):
    four = ranks([Path(__file__).with_name("sharded_replicas.py")], 4)
    four.succeed()
    assert [four.printed(rank) for rank in range(4)] == ["fine\n"] * 4


def test_a_model_that_is_not_sharded_is_refused():
    with pytest.raises(SoonerError, match="fully_shard first"):
        FSDPReplicas(nn.Linear(2, 2), None)
