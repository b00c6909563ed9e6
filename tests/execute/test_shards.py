"""Sharded parameters take the same steps as whole ones: two processes, FSDP2 on gloo, every kind of rule."""

import os
import subprocess
import sys
from pathlib import Path

RECIPES = (
    "sgd(weight_decay=0.1)",  # element rules
    "adamw",
    "normalized_gd",  # sums over the model
    "clip_norm(max_norm=0.1) + adamw",
    "adagrad_norm",
    "sgd_sai",  # sums over parameters, with memory
    "adamp(weight_decay=0.1)",  # sums over rows
    "muon",  # whole matrices
)


def test_sharded_training_equals_unsharded_training():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("sharded_run.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(script), *RECIPES], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    for executor in ("eager", "native"):
        for recipe in RECIPES:
            assert f"{executor} {recipe}" in done.stdout
