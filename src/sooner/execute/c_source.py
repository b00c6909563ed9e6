"""Writing a traced program out as C: one loop over a list of tensors, in one parallel region.

Every vector is one tensor per parameter, where PyTorch put it. Every operation is rounded on its own (no
fused multiply-add), so a compiled step is the eager step to the last bit wherever it uses only + - * / and roots.

Every tensor is cut into rows of equal length (a whole tensor may be a single row). Sums are kept per row; a row that
several threads share is added up afterwards in the order of the threads, so that equal runs give equal bits.
"""

from __future__ import annotations

from sooner.execute.expression import Operand, Program

C_TYPES = {"float32": "float", "float64": "double", "bfloat16": "uint16_t", "float16": "_Float16"}
ROW_VALUE = "row "
"""Inputs with this prefix have one value per row."""

_HEADER = """#include <stdint.h>
#include <string.h>
#include <omp.h>
#if defined(__x86_64__) && defined(__GLIBC__)
__attribute__((simd("notinbranch"))) float expf(float);
__attribute__((simd("notinbranch"))) double exp(double);
#endif
#include <math.h>

#define EACH static inline __attribute__((always_inline))

EACH float load_bfloat16(uint16_t x) { uint32_t bits = (uint32_t)x << 16; float y; memcpy(&y, &bits, 4); return y; }
EACH uint16_t store_bfloat16(float x) { /* to nearest, ties to even */
  uint32_t bits; memcpy(&bits, &x, 4);
  uint16_t rounded = (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  return x != x ? (uint16_t)0x7fc0u : rounded;
}
EACH uint16_t store_bfloat16_stochastic(float x, uint32_t index) { /* as sooner.execute.rounding */
  uint32_t bits, h = index; memcpy(&bits, &x, 4);
  h = (h ^ (h >> 16)) * 0x7feb352du; h = (h ^ (h >> 15)) * 0x846ca68bu; h ^= h >> 16;
  uint16_t rounded = (uint16_t)((bits + (h & 0xffffu)) >> 16);
  return x != x ? (uint16_t)0x7fc0u : (x - x == 0 ? rounded : (uint16_t)(bits >> 16));
}
"""

_OPERATIONS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "square": "{0} * {0}",
    "abs": "FABS({0})",
    "sqrt": "SQRT({0})",
    "rsqrt": "(T)1 / SQRT({0})",
    "reciprocal": "(T)1 / {0}",
    "exp": "EXP({0})",
    "sigmoid": "(T)1 / ((T)1 + EXP(-{0}))",
    "sign": "{0} > 0 ? (T)1 : ({0} < 0 ? (T)-1 : (T)0)",  # of NaN: 0, as PyTorch
    "isfinite": "(T)({0} - {0} == 0)",
    "maximum": "{0} != {0} ? {0} : ({1} != {1} ? {1} : ({0} > {1} ? {0} : {1}))",  # NaN on either side stays
    "minimum": "{0} != {0} ? {0} : ({1} != {1} ? {1} : ({0} < {1} ? {0} : {1}))",
    "lt": "(T)({0} < {1})",
    "le": "(T)({0} <= {1})",
    "gt": "(T)({0} > {1})",
    "ge": "(T)({0} >= {1})",
    "eq": "(T)({0} == {1})",
    "ne": "(T)({0} != {1})",
    "logical_and": "(T)({0} != 0 && {1} != 0)",
    "logical_or": "(T)({0} != 0 || {1} != 0)",
    "logical_not": "(T)({0} == 0)",
    "where": "{0} != 0 ? {1} : {2}",
}

_ROUNDED = {
    "bfloat16": "load_bfloat16(store_bfloat16({0}))",
    "float16": "(T)(_Float16){0}",
    "float32": "{0}",
    "float64": "{0}",
}

_RUN = """
void run(long tensors, const int64_t *offsets, const int64_t *rows, const int64_t *first_row, const int64_t *set,
         void **vectors, void **row_values, const double *numbers, const int64_t *noise, int threads, double *sums) {
  const long total = offsets[tensors], all_rows = tensors ? first_row[tensors - 1] + rows[tensors - 1] : 0;
  double edges[2 * threads][SUMS + 1]; /* what each thread added up for the rows it shares at either end */
  long edge_rows[2 * threads];
  for (int i = 0; i < 2 * threads; i++) edge_rows[i] = -1;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const long crew = omp_get_num_threads(), me = omp_get_thread_num();
    const long from = total / crew * me, to = me + 1 == crew ? total : total / crew * (me + 1);
    long low = 0, high = tensors; /* the tensor that holds element `from` */
    while (high - low > 1) {
      const long middle = (low + high) / 2;
      if (offsets[middle] <= from) low = middle; else high = middle;
    }
    for (long k = low; k < tensors && offsets[k] < to; k++) {
      const long start = offsets[k], end = offsets[k + 1];
      if (end == start) continue;
      const long length = (end - start) / rows[k];
      long a = start > from ? start : from;
      const long stop = end < to ? end : to;
      long row = (a - start) / length;
      while (a < stop) {
        const long row_end = start + (row + 1) * length, b = row_end < stop ? row_end : stop, r = first_row[k] + row;
        const int shared = b - a < length; /* with another thread */
        const long edge = 2 * me + (b == to);
        if (shared) edge_rows[edge] = r;
        double *into = shared ? edges[edge] : sums + r;
        const long stride = shared ? 1 : all_rows;
        const double *number = numbers + set[k] * NUMBERS;
        CALL
        a = b;
        row++;
      }
    }
  }
  for (int i = 0; i < 2 * threads; i++)
    for (int s = 0; s < SUMS && edge_rows[i] >= 0; s++) sums[s * all_rows + edge_rows[i]] += edges[i][s];
}
"""


def write_source(program: Program, theta: str, gradient: str, state: str) -> str:
    """Return the C source of a program.

    Args:
        program: what to compute.
        theta, gradient: dtypes of parameters and gradients, such as "bfloat16".
        state: dtype of all other vectors, row values and the arithmetic, "float32" or "float64".

    Returns:
        Source that exports ``run`` as called by `sooner.execute.native`.
    """
    suffix = "" if state == "float64" else "f"
    dtypes = {"theta": theta, "gradient": gradient}
    vectors, rowed = vector_names(program), row_value_names(program)
    parameters = [f"{C_TYPES[dtypes.get(name, state)]} *restrict v{i}" for i, name in enumerate(vectors)]
    parameters += [f"T w{i}" for i in range(len(rowed))] + [f"T n{i}" for i in range(len(program.numbers))]
    arguments = [
        f"({C_TYPES[dtypes.get(name, state)]} *)vectors[{i} * tensors + k] + (a - start)"
        for i, name in enumerate(vectors)
    ]
    arguments += [f"((T *)row_values[{i}])[r]" for i in range(len(rowed))]
    arguments += [f"(T)number[{i}]" for i in range(len(program.numbers))]
    reduction = f" reduction(+ : {', '.join(f's{i}' for i in range(len(program.sums)))})" if program.sums else ""
    taken = ["long n", "uint32_t first", "double *sums", "long stride", *parameters]
    call = f"segment({', '.join(['b - a', '(uint32_t)(a - start + noise[k])', 'into', 'stride', *arguments])});"
    return "\n".join(
        [
            _HEADER,
            f"#define SUMS {len(program.sums)}",
            f"#define NUMBERS {len(program.numbers)}",
            f"typedef {C_TYPES[state]} T;",
            *(f"#define {name.upper()} {name}{suffix}" for name in ("fabs", "sqrt", "exp")),
            f"EACH void segment({', '.join(taken)}) {{",
            *(f"  double s{i} = 0;" for i in range(len(program.sums))),
            f"#pragma omp simd{reduction}",
            "  for (long i = 0; i < n; i++) {",
            *_body(program, vectors, rowed, dtypes, state),
            "  }",
            *(f"  sums[{i} * stride] = s{i};" for i in range(len(program.sums))),
            "}",
            _RUN.replace("CALL", call),
        ]
    )


def vector_names(program: Program) -> list[str]:
    """Return every vector with one value per element that the program touches, inputs first."""
    inputs = [name for name in program.inputs if not name.startswith(ROW_VALUE)]
    return [*inputs, *(name for name in program.outputs if name not in inputs)]


def row_value_names(program: Program) -> list[str]:
    """Return the inputs with one value per row, in the order in which ``run`` takes them."""
    return [name for name in program.inputs if name.startswith(ROW_VALUE)]


def _body(program: Program, vectors: list[str], rowed: list[str], dtypes: dict[str, str], state: str) -> list[str]:
    def operand(one: Operand) -> str:
        kind, number = one
        if kind == "in" and program.inputs[number] in rowed:
            return f"w{rowed.index(program.inputs[number])}"
        return f"{ {'in': 'x', 'number': 'n', 'line': 't'}[kind] }{number}"

    lines = []
    for i, name in enumerate(program.inputs):
        if name not in rowed:
            vector = f"v{vectors.index(name)}[i]"
            bfloat = dtypes.get(name, state) == "bfloat16"
            lines.append(f"    const T x{i} = {f'load_bfloat16({vector})' if bfloat else f'(T){vector}'};")
    for i, (name, *operands) in enumerate(program.lines):
        form = _ROUNDED[dtypes["theta"]] if name == "as_theta" else _OPERATIONS[name]
        lines.append(f"    const T t{i} = {form.format(*map(operand, operands))};")
    for i, one in enumerate(program.sums):
        lines.append(f"    s{i} += (double){operand(one)};")
    for name, one in program.outputs.items():
        dtype = dtypes.get(name, state)
        value = f"({C_TYPES[dtype]}){operand(one)}"
        if dtype == "bfloat16":
            value = f"store_bfloat16({operand(one)})"
            if program.stochastic:
                value = f"store_bfloat16_stochastic({operand(one)}, first + (uint32_t)i)"
        lines.append(f"    v{vectors.index(name)}[i] = {value};")
    return lines
