"""Codecs as a communication hook of DistributedDataParallel: two gloo processes, several buckets."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sooner.communication import EF21, DDPBuckets, TopK
from sooner.communication import PowerSGD as LowRank
from sooner.error import SoonerError


def test_a_hook_averages_as_the_attachment_does():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("ddp_buckets.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("fine") == 2


def test_what_a_bucket_cannot_do_is_refused():
    model = SimpleNamespace(process_group=None)
    with pytest.raises(SoonerError, match="PowerSGD needs whole matrices or several messages"):
        DDPBuckets(model, LowRank())
    with pytest.raises(SoonerError, match="EF21 keeps what all workers share"):
        DDPBuckets(model, TopK(), EF21())
