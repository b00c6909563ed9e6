"""The benchmark of the attachment runs, and trains what DistributedDataParallel trains."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "attachment_overhead.py"


def test_attachment_overhead_compares_the_same_training():
    command = [sys.executable, str(SCRIPT), "--pairs", "1", "--steps", "1", "--layers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "weights after 3 steps differ by at most 0.0e+00" in done.stdout
    assert "cpu  time, sooner over DDP, 1 pairs of 1 steps:" in done.stdout
