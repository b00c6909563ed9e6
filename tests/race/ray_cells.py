"""Runs for the tests of the engine `ray`; the nodes get this file from the race, as they would a user's."""

import os
import time
from pathlib import Path


def wait(payload, report):
    """Tell its process and wait for a file."""
    report(0.1, {"pid": os.getpid(), "seed": os.environ["PYTHONHASHSEED"], "threads": os.environ["OMP_NUM_THREADS"]})
    while not Path(payload["until"]).exists():
        time.sleep(0.05)
    return {"pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}


def fail(payload, report):
    raise RuntimeError("the loss is a frog")
