"""Sharded models are averaged like whole ones, and what the view gathers does not leak into training."""

import os
import subprocess
import sys
from pathlib import Path


def test_a_sharded_model_is_averaged_like_a_whole_one(tmp_path):
    script, meeting = Path(__file__).with_name("sharded_average.py"), f"file://{tmp_path}/meeting"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, str(script), meeting, str(rank)], stderr=subprocess.PIPE, text=True, env=environment
        )
        for rank in range(2)
    ]
    errors = [one.communicate()[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], errors
