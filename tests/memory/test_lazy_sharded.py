"""Sharded models save lazily through torch's distributed checkpoints."""

import os
import subprocess
import sys
from pathlib import Path


def test_a_sharded_model_saves_lazily_and_goes_on_from_it(tmp_path):
    script, meeting = Path(__file__).with_name("sharded_saves.py"), f"file://{tmp_path}/meeting"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, str(script), meeting, str(rank), str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    errors = [one.communicate()[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], errors
