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


def run_with_two_processes(script, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    file = str(Path(__file__).with_name(script))
    done = subprocess.run([*command, file, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_matrices_of_every_form_equal_unsharded_ones():
    done = run_with_two_processes("matrices_run.py")
    for where in ("eager", "native", "experts", "zero"):
        assert f"{where} muon match_rms_adamw" in done.stdout


def test_sharded_training_equals_unsharded_training():
    done = run_with_two_processes("sharded_run.py", *RECIPES)
    for executor in ("eager", "native"):
        for recipe in RECIPES:
            assert f"{executor} {recipe}" in done.stdout
