"""Executors run a chain of rules over an optimizer's parameters; they take the same steps and differ in speed.

"eager" uses ordinary PyTorch operations, is the reference and always works. "native" compiles element rules to C, on a
CPU with a C compiler. "triton" compiles them to kernels for a CUDA device. "inductor" uses `torch.compile`, on any
device, and takes seconds to start. "auto", the default, is native on a CPU and triton on CUDA where that is possible,
and eager elsewhere.
"""

from sooner.execute.choice import run, using
from sooner.execute.cohort import Cohort, Mark, MisfitError, SparseGradientError, state_dtype
from sooner.execute.eager import run_eager
from sooner.execute.native import run_native
from sooner.execute.shared import find_shared
from sooner.execute.triton import run_triton
from sooner.execute.work import Work

__all__ = [
    "Cohort",
    "Mark",
    "MisfitError",
    "SparseGradientError",
    "Work",
    "find_shared",
    "run",
    "run_eager",
    "run_native",
    "run_triton",
    "state_dtype",
    "using",
]
