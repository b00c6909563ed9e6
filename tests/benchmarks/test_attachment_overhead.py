"""The benchmark of the attachment runs, and trains what DistributedDataParallel trains."""

from pathlib import Path

PROGRAM = """
import functools, sys
sys.path.insert(0, sys.argv[1])
import attachment_overhead as benchmark
from torch import multiprocessing
benchmark.multiprocessing.spawn = functools.partial(multiprocessing.start_processes, start_method="fork")
benchmark.main(pairs=1, steps=1, layers=1)
"""


def test_attachment_overhead_compares_the_same_training(fresh):
    printed = fresh(PROGRAM, Path(__file__).parents[2] / "benchmarks")
    assert "weights after 3 steps differ by at most 0.0e+00" in printed
    assert "cpu  time, sooner over DDP, 1 pairs of 1 steps:" in printed
