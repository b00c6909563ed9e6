"""FSDP2 with compression between replicas: two replicas sharded over two processes each, on gloo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from sooner.communication import FSDPReplicas
from sooner.error import SoonerError


def test_replicas_of_a_sharded_model_train_as_one_model_does():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    script = Path(__file__).with_name("sharded_replicas.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("fine") == 4


def test_a_model_that_is_not_sharded_is_refused():
    with pytest.raises(SoonerError, match="fully_shard first"):
        FSDPReplicas(nn.Linear(2, 2), None)
