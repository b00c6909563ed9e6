"""Encoding and decoding of `low_bits` as loops in C, for float32 on a CPU: the same bits in a part of the time."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from sooner.execute.compiler import NoCompilerError, load

ELEMENTS_PER_THREAD = 32_768
"""As for the loops of rules, see `native`."""

SOURCE = """#include <stdint.h>
#include <string.h>
#include <math.h>

static uint32_t mixed(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7FEB352Du;
  x = (x ^ (x >> 15)) * 0x846CA68Bu;
  return x ^ (x >> 16);
}

void encode(const float *x, long count, int bits, long block, const float *levels, const float *middles,
            const int32_t *first, const uint8_t *code_of, float lowest, float smallest, float lift, int random,
            uint64_t noise, uint8_t *codes, float *scales, int threads) {
  const long blocks = (count + block - 1) / block;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (long b = 0; b < blocks; b++) {
    const float *own = x + b * block;
    const long n = count - b * block < block ? count - b * block : block;
    float low = own[0], high = own[0], y[256];
    uint8_t found[256];
    int finite = 1;
#pragma omp simd reduction(min : low) reduction(max : high) reduction(& : finite)
    for (long i = 0; i < n; i++) {
      low = own[i] < low ? own[i] : low;
      high = own[i] > high ? own[i] : high;
      finite &= own[i] - own[i] == 0.0f;
    }
    const int positive = low >= 0.0f;
    float scale = -low > high ? low : high;
    if (scale != 0.0f) {
      int32_t as_bits;
      memcpy(&as_bits, &scale, 4);
      as_bits = (as_bits & -2) | positive;
      memcpy(&scale, &as_bits, 4);
    }
    const float divisor = scale == 0.0f ? 1.0f : scale;
#pragma omp simd
    for (long i = 0; i < n; i++) {
      float one = own[i] / divisor;
      one = one < lowest ? lowest : one;
      one = one > 1.0f ? 1.0f : one;
      const float lifted = one * lift < smallest ? smallest : one * lift;
      y[i] = positive && one > 0.0f ? lifted : one;
    }
    for (long i = 0; i < n; i++) {
      uint32_t upper;
      memcpy(&upper, y + i, 4);
      int32_t place = finite ? first[upper >> 16] : 0;
      place += y[i] > middles[place];
      if (random) {
        place -= levels[place] > y[i];
        const uint32_t drawn = mixed((uint32_t)(noise + (uint64_t)(b * block + i)));
        place += y[i] - levels[place] > (float)(drawn >> 8) / 16777216.0f * (levels[place + 1] - levels[place]);
      }
      found[i] = code_of[place];
    }
    if (bits == 8) {
      memcpy(codes + b * block, found, n);
    } else {
      if (n & 1) found[n] = 0;
      for (long i = 0; i < n; i += 2) codes[(b * block + i) / 2] = found[i] | found[i + 1] << 4;
    }
    scales[b] = finite && isfinite(scale) ? scale : NAN;
  }
}

void decode(const uint8_t *codes, const float *scales, long count, int bits, long block, const float *values,
            float *out, int threads) {
  const long blocks = (count + block - 1) / block;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (long b = 0; b < blocks; b++) {
    const long start = b * block, n = count - start < block ? count - start : block;
    const float scale = scales[b];
    int32_t as_bits;
    memcpy(&as_bits, &scale, 4);
    const float *own = values + ((as_bits & 1) << bits);
    if (bits == 8)
      for (long i = 0; i < n; i++) out[start + i] = own[codes[start + i]] * scale;
    else
      for (long i = 0; i < n; i++) out[start + i] = own[codes[(start + i) / 2] >> ((i & 1) * 4) & 15] * scale;
  }
}
"""


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled loops; None where nothing compiles, which the compiler's log says."""
    try:
        loaded = load(SOURCE)
    except NoCompilerError:
        return None
    pointer, whole, real, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_float, ctypes.c_long
    loaded.encode.argtypes = [pointer, long, whole, long, *[pointer] * 4, *[real] * 3, whole, ctypes.c_uint64,
                              pointer, pointer, whole]  # fmt: skip
    loaded.decode.argtypes = [pointer, pointer, long, whole, long, pointer, pointer, whole]
    loaded.encode.restype = loaded.decode.restype = None
    return loaded


def suits(*tensors: Tensor) -> bool:
    """Whether these lie plainly in the CPU's memory, numbers in float32."""
    return all(
        t.device.type == "cpu" and t.dtype in (torch.float32, torch.uint8) and t.is_contiguous() and not t.is_neg()
        for t in tensors
    )


def encode(
    x: Tensor,
    form: tuple[int, int],
    tables: Sequence[Tensor],
    limits: tuple[float, float, float],
    noise: tuple[int, int] | None,
) -> tuple[Tensor, Tensor] | None:
    """Return bytes and scales of a vector ``[n]`` that `suits`, as `LowBits.encode`; None where nothing compiles.

    Args:
        x: the vector.
        form: bits and numbers of a block, 256 at most.
        tables: levels, middles, first and codes of the table.
        limits: lowest level, smallest level and lift.
        noise: number of the first element and salt.
    """
    loops = library()
    if loops is None:
        return None
    (bits, block), count = form, len(x)
    codes, scales = torch.empty(-(-count * bits // 8), dtype=torch.uint8), torch.empty(-(-count // block))
    start = 0 if noise is None else (noise[0] + noise[1]) & (2**64 - 1)
    places = [t.data_ptr() for t in tables]
    loops.encode(x.data_ptr(), count, bits, block, *places, *limits, noise is not None, start, codes.data_ptr(),
                 scales.data_ptr(), _threads(count))  # fmt: skip
    return codes, scales


def decode(codes: Tensor, scale: Tensor, count: int, form: tuple[int, int], values: Tensor) -> Tensor | None:
    """Return the vector ``[count]`` of bytes and scales that `suits`; None where nothing compiles."""
    loops = library()
    if loops is None:
        return None
    out = torch.empty(count)
    loops.decode(codes.data_ptr(), scale.data_ptr(), count, *form, values.data_ptr(), out.data_ptr(), _threads(count))
    return out


def _threads(count: int) -> int:
    return max(1, min(torch.get_num_threads(), count // ELEMENTS_PER_THREAD))
