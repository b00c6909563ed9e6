"""Writing a traced program out as a Triton kernel over a list of tensors, for one launch however many there are.

The kernel finds the tensors by a table of addresses on the device, and its place in them by a table with one line per
block: a block lies in one row of one tensor (a whole tensor may be a single row). Numbers are read from the device, so
nothing of a step is part of the compiled code and a captured graph reads what is there when it is replayed.

Every operation is rounded on its own, division and root as IEEE 754 has them, so a compiled step is the eager step to
the last bit wherever it uses only + - * / and roots. Sums leave one number per block, which are added up afterwards in
the order of the blocks, so that equal runs give equal bits.
"""

from __future__ import annotations

from sooner.execute.c_source import row_value_names, vector_names
from sooner.execute.expression import Operand, Program

FIELDS = ("tensor", "start", "count", "row", "set", "noise")
"""What the table of blocks says of each: the number of its tensor, its first element there and how many there are, the
number of its row among all, of the set of numbers it goes by, and of its first element for stochastic rounding."""

_OPERATIONS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "neg": "{0} * -1.0",  # of 0: -0, which 0 - x would not give
    "square": "{0} * {0}",
    "abs": "tl.abs({0})",
    "exp": "tl.exp({0})",
    "sign": "({0} > 0).to(T) - ({0} < 0).to(T)",  # of NaN: 0, as PyTorch
    "isfinite": "({0} - {0} == 0).to(T)",
    "maximum": "tl.where({0} != {0}, {0}, tl.where({1} != {1}, {1}, tl.where({0} > {1}, {0}, {1})))",  # NaN stays
    "minimum": "tl.where({0} != {0}, {0}, tl.where({1} != {1}, {1}, tl.where({0} < {1}, {0}, {1})))",
    "lt": "({0} < {1}).to(T)",
    "le": "({0} <= {1}).to(T)",
    "gt": "({0} > {1}).to(T)",
    "ge": "({0} >= {1}).to(T)",
    "eq": "({0} == {1}).to(T)",
    "ne": "({0} != {1}).to(T)",
    "logical_and": "(({0} != 0) & ({1} != 0)).to(T)",
    "logical_or": "(({0} != 0) | ({1} != 0)).to(T)",
    "logical_not": "({0} == 0).to(T)",
    "where": "tl.where({0} != 0, {1}, {2})",
}

_ROUNDED = {  # division and root; Triton's plain ones are exact in float64 only
    "float32": {
        "div": "tl.div_rn({0}, {1})",
        "sqrt": "tl.sqrt_rn({0})",
        "rsqrt": "tl.div_rn(one, tl.sqrt_rn({0}))",
        "reciprocal": "tl.div_rn(one, {0})",
        "sigmoid": "tl.div_rn(one, one + tl.exp({0} * -1.0))",
    },
    "float64": {
        "div": "{0} / {1}",
        "sqrt": "tl.sqrt({0})",
        "rsqrt": "one / tl.sqrt({0})",
        "reciprocal": "one / {0}",
        "sigmoid": "one / (one + tl.exp({0} * -1.0))",
    },
}

_STORED = {"bfloat16": "uint16"}
"""As what a dtype is loaded and stored, if not as itself: as bits, which are rounded alike everywhere."""

_HEADER = """import triton
import triton.language as tl

T = tl.constexpr(tl.{state})


@triton.jit
def add(x, y):
    return x + y


@triton.jit
def from_bfloat16(bits):
    return (bits.to(tl.uint32) << 16).to(tl.float32, bitcast=True).to(T)


@triton.jit
def to_bfloat16(x):  # to nearest, ties to even
    y = x.to(tl.float32)
    bits = y.to(tl.uint32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tl.where(y != y, 0x7FC0, rounded).to(tl.uint16)


@triton.jit
def to_bfloat16_stochastically(x, index):  # as sooner.execute.rounding
    h = (index ^ (index >> 16)) * 0x7FEB352D
    h = (h ^ (h >> 15)) * 0x846CA68B
    h = h ^ (h >> 16)
    bits = x.to(tl.uint32, bitcast=True)
    rounded = tl.where(x - x == 0, bits + (h & 0xFFFF), bits) >> 16
    return tl.where(x != x, 0x7FC0, rounded).to(tl.uint16)
"""


def write_kernel(program: Program, theta: str, gradient: str, state: str) -> str:
    """Return the source of a Triton kernel ``segments``.

    Its arguments, all on the device but the two counts: ``places`` (int64 ``[vectors, tensors]``, where each tensor
    begins), ``tensors`` (their count), ``blocks`` (int64 ``[blocks, FIELDS]``), ``numbers`` (of the state's dtype,
    ``[sets, numbers]``), ``salts`` (int64 ``[sets]``), ``sums`` (float64 ``[sums, blocks]``), ``total`` (the count of
    blocks), one vector ``[rows]`` for every row value, and two constants: ``BLOCK``, the elements of a block, and
    ``ALIGNED``, whether all blocks begin at multiples of 16 bytes.

    Args:
        program: what to compute.
        theta, gradient: dtypes of parameters and gradients, such as "bfloat16".
        state: dtype of all other vectors, row values and the arithmetic, "float32" or "float64".
    """
    dtypes = {"theta": theta, "gradient": gradient}
    vectors, rowed = vector_names(program), row_value_names(program)
    taken = ["places", "tensors", "blocks", "numbers", "salts", "sums", "total"]
    taken += [*(f"values{i}" for i in range(len(rowed))), "BLOCK: tl.constexpr", "ALIGNED: tl.constexpr"]
    lines = [
        _HEADER.format(state=state),
        "",
        '@triton.jit(do_not_specialize=["tensors", "total"])',
        f"def segments({', '.join(taken)}):",
        "    block = tl.program_id(0).to(tl.int64)",
        f"    line = blocks + block * {len(FIELDS)}",
        *(f"    {name} = tl.load(line + {i})" for i, name in enumerate(FIELDS)),
    ]
    for i, name in enumerate(vectors):
        held = dtypes.get(name, state)
        lines += [
            f"    place = tl.load(places + tensors * {i} + tensor)",
            f"    v{i} = place.to(tl.pointer_type(tl.{_STORED.get(held, held)})) + start",
            "    if ALIGNED:",
            f"        v{i} = tl.multiple_of(v{i}, 16)",
        ]
    lines += [f"    w{i} = tl.load(values{i} + row)" for i in range(len(rowed))]
    lines += [f"    n{i} = tl.load(numbers + set * {len(program.numbers)} + {i})" for i in range(len(program.numbers))]
    lines.append("    one = tl.full((), 1.0, T)")
    if program.stochastic:
        lines.append("    first = (noise + tl.load(salts + set)).to(tl.uint32)")
    lines += [
        "    offsets = tl.max_contiguous(tl.arange(0, BLOCK), 4)",
        "    if count == BLOCK:",  # else the hardware could not load 16 bytes at a time
        *_body(program, vectors, rowed, dtypes, state, masked=False),
        "    else:",
        "        mask = offsets < count",
        *_body(program, vectors, rowed, dtypes, state, masked=True),
    ]
    return "\n".join(lines) + "\n"


def _body(
    program: Program, vectors: list[str], rowed: list[str], dtypes: dict[str, str], state: str, *, masked: bool
) -> list[str]:
    def operand(one: Operand) -> str:
        kind, number = one
        if kind == "in" and program.inputs[number] in rowed:
            return f"w{rowed.index(program.inputs[number])}"
        return f"{ {'in': 'x', 'number': 'n', 'line': 't'}[kind] }{number}"

    def loaded(vector: str, value: str) -> str:
        return f"from_bfloat16({value})" if dtypes.get(vector, state) == "bfloat16" else f"({value}).to(T)"

    def stored(vector: str, value: str) -> str:
        held = dtypes.get(vector, state)
        return f"to_bfloat16({value})" if held == "bfloat16" else f"({value}).to(tl.{held})"

    operations = _OPERATIONS | _ROUNDED[state] | {"as_theta": loaded("theta", stored("theta", "{0}"))}
    lines = []
    for i, name in enumerate(program.inputs):
        if name not in rowed:
            where = ", mask=mask, other=0" if masked else ""
            lines.append(f"x{i} = {loaded(name, f'tl.load(v{vectors.index(name)} + offsets{where})')}")
    for i, (name, *operands) in enumerate(program.lines):
        lines.append(f"t{i} = {operations[name].format(*map(operand, operands))}")
    for i, one in enumerate(program.sums):
        counted = "mask" if masked else "offsets < BLOCK"
        lines.append(f"s{i} = tl.where({counted}, {operand(one)}, 0.0).to(tl.float64)")
        lines.append(f"tl.store(sums + total * {i} + block, tl.reduce(s{i}, 0, add))")
    for name, one in program.outputs.items():
        value = stored(name, operand(one))
        if dtypes.get(name, state) == "bfloat16" and program.stochastic:
            value = f"to_bfloat16_stochastically({operand(one)}, first + offsets.to(tl.uint32))"
        lines.append(f"tl.store(v{vectors.index(name)} + offsets, {value}{', mask=mask' if masked else ''})")
    return [f"        {line}" for line in lines]
