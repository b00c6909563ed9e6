"""Averaging in bfloat16: half of the bytes, with the range of float32 and three digits.

    q_i = bfloat16(v_i / s),   v = s * (1 / n) sum_i q_i,   s = max |v| of the exchange before

Use it when gradients span so many orders of magnitude that float16 loses the small ones.

Leave it when they do not: float16 has eight times its precision.

It costs half the bytes of a gradient per step on the wire; no state but the scale; no pass.

Textbook; torch's `bf16_compress_hook` refuses CPUs, this one does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sooner.communication._half import Half


@dataclass(frozen=True)
class BF16(Half):
    """Sends vectors as bfloat16, in one all-reduce."""

    kind: ClassVar[torch.dtype] = torch.bfloat16
