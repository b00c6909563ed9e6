"""What the kernels become for a GPU (compiled for one that is not there): wide loads, exact arithmetic, no spills."""

import functools
import os
import re
import subprocess
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from test_native import METHODS, hyper_of
from torch import nn

from sooner import update
from sooner.execute import triton as ours
from sooner.execute import using
from sooner.execute.c_source import row_value_names
from sooner.execute.compiler import NoCompilerError
from sooner.execute.expression import Program
from sooner.execute.native import NativeStretch
from sooner.execute.tables import BLOCK
from sooner.execute.triton_source import write_kernel

triton = pytest.importorskip("triton")

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
OF_MIXED = {"mixed": update.AdamW, "master": functools.partial(update.AdamW, master_weights=True),
            "stochastic": functools.partial(update.AdamW, stochastic_rounding=True)}  # fmt: skip
REGISTERS = 128
"""At most: four blocks of 128 threads, then, share a multiprocessor's 65536 registers with each other."""


@pytest.fixture(autouse=True)
def _compiled_here(monkeypatch, tmp_path_factory):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "triton"))


def programs(make, dtype):
    """What the step after the first one runs, with dtypes."""
    found = {}

    def note(stretch):
        found[(stretch.program.key(), *stretch.dtypes())] = None
        raise NoCompilerError

    p = nn.Parameter(torch.ones(8, 8, dtype=dtype))
    optimizer = make([p])
    for _ in range(2):
        p.grad = torch.ones_like(p)
        found.clear()
        with patch.object(NativeStretch, "compile", note), using("native"):
            optimizer.step()
    return list(found)


def compiled(key, theta, gradient, state, *, aligned=True):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    program = Program.from_key(key)
    wide = {"float32": "*fp32", "float64": "*fp64"}[state]
    signature = {"places": "*i64", "tensors": "i32", "blocks": "*i64", "numbers": wide, "salts": "*i64"}
    signature |= {"sums": "*fp64", "total": "i32"}
    signature |= {f"values{i}": wide for i in range(len(row_value_names(program)))}
    tensors = [i for i, one in enumerate(signature.values()) if one[0] == "*"]
    source = ASTSource(
        fn=ours.load(write_kernel(program, theta, gradient, state)),
        signature=signature | {"BLOCK": "constexpr", "ALIGNED": "constexpr"},
        constexprs={"BLOCK": BLOCK, "ALIGNED": aligned},
        attrs={(i,): [["tt.divisibility", 16]] for i in tensors},  # as torch's allocator begins every tensor
    )
    options = {"num_warps": BLOCK // (32 * ours.THREADS_EACH), "enable_fp_fusion": False}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def usage(code, tmp_path):
    """Registers, and bytes of stack and local memory, where spilled registers would be."""
    if not CUOBJDUMP.exists() or not os.access(CUOBJDUMP, os.X_OK):
        pytest.skip("this wheel of Triton has no cuobjdump")
    file = tmp_path / "kernel.cubin"
    file.write_bytes(code.asm["cubin"])
    done = subprocess.run([CUOBJDUMP, "-res-usage", file], capture_output=True, text=True, check=True)
    return tuple(int(re.search(rf"{name}:(\d+)", done.stdout)[1]) for name in ("REG", "STACK", "LOCAL"))


def elements(names, ptx):
    return len(re.findall(rf"\b(?:{names})\b", ptx))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
def test_loads_are_wide_arithmetic_is_ieees_and_nothing_spills(method, tmp_path):
    found = programs(lambda p: method(p, **hyper_of(method, weight_decay=0.1)), torch.float32)
    assert found or method.__name__ in ("Apollo", "Muon")
    for one in found:
        code = compiled(*one)
        ptx = code.asm["ptx"]
        vectors = len({*Program.from_key(one[0]).inputs} - {*row_value_names(Program.from_key(one[0]))})
        assert elements(r"ld\.global\.v4\.b32", ptx) == 2 * vectors  # eight elements of each for a thread
        assert elements(r"st\.global\.v4\.b32", ptx) == 2 * len(Program.from_key(one[0]).outputs)
        assert not elements(r"fma\.rn\.\w+|div\.full\.\w+|sqrt\.approx\S*|div\.approx\S*", ptx)
        registers, stack, local = usage(code, tmp_path)
        assert registers <= REGISTERS
        assert local == 0
        assert stack <= 8  # where Triton 3.5 has one float64 sum


@pytest.mark.parametrize("name", OF_MIXED)
def test_mixed_dtypes_are_loaded_without_a_detour(name, tmp_path):
    (one,) = programs(OF_MIXED[name], torch.bfloat16)
    code = compiled(*one)
    assert code.metadata.shared == 0  # registers of both go to the same threads
    assert elements(r"ld\.global\.v2\.b32", code.asm["ptx"]) == 4  # four bfloat16 numbers at a time
    assert not elements(r"bar\.sync", code.asm["ptx"])
    registers, stack, local = usage(code, tmp_path)
    assert registers <= REGISTERS
    assert stack == local == 0


def test_tensors_that_begin_anywhere_are_loaded_one_element_at_a_time():
    (one,) = programs(update.AdamW, torch.float32)
    assert not elements(r"ld\.global\.v4\.b32", compiled(*one, aligned=False).asm["ptx"])
