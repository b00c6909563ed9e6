"""Half-precision averaging halves the bytes and costs no steps."""

from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._clusters import CODECS, FP16, LOCAL, SILENT
from sooner.claims._quadratics import exchange_of
from sooner.claims._regimes import averaging_shows, workers_regime
from sooner.claims._shape import DENSE_ADAMW


def small_numbers(arm: str, size: float) -> dict[str, Any]:
    """Return the relative error of the third exchange of numbers of this size, and that of a plain cast."""
    generator = torch.Generator().manual_seed(0)
    exchange, error = exchange_of(arm, 4, 1000), 0.0
    for _ in range(3):
        v = size * torch.randn(4, 1000, generator=generator)
        error = float((exchange(v) - v.mean(0)).norm() / v.mean(0).norm())
    cast = v.half().float().mean(0)
    return {"error": error, "cast": float((cast - v.mean(0)).norm() / v.mean(0).norm())}


CLAIM = Claim(
    part="fp16",
    paper="",
    headline="Gradients can be averaged in half precision without loss, if they are scaled so that none vanish.",
    source="Micikevicius et al., 2017, arXiv 1710.03740, section 3.2 (scaling), for gradients on the wire",
    experiment=(
        "A language model is trained on text by four workers that average their gradients as float32 and as float16: "
        "steps to the loss that the tuned baseline reaches, and bytes. Beside it, one exchange of numbers of size 1e-9."
    ),
    baseline=DENSE_ADAMW,
    experiments={
        "race": CODECS,
        "small numbers": Measurement(small_numbers, [{"arm": "fp16", "size": 1e-9}], [{"arm": "fp16", "size": 1e-9}]),
    },
    criteria=[
        Criterion(
            "at most 1.05x of the steps to the middle target",
            lambda f: f.steps_ratio("race", FP16),
            at_most=1.05,
            paper="1x",
        ),
        Criterion(
            "at most 0.51x of the bytes per step",
            lambda f: f.communicated("race", FP16, "wire_bytes_per_step"),
            at_most=0.51,
            paper="0.5x",
        ),
        Criterion(
            "numbers of size 1e-9 arrive with a relative error of at most 1e-3",
            lambda f: f.largest("small numbers", "error"),
            at_most=1e-3,
        ),
        Criterion(
            "a cast without the scale loses all of them (relative error)",
            lambda f: f.smallest("small numbers", "cast"),
            at_least=0.99,
            control=True,
        ),
        averaging_shows("race", LOCAL, SILENT),
    ],
    trend={
        "bytes to the target": lambda f: f.bytes_ratio("race", FP16),
        "local SGD, bytes to the target": lambda f: f.bytes_ratio("race", LOCAL),
        "no communication, final loss": lambda f: f.final_ratio("race", SILENT),
    },
    regime=workers_regime(
        "networks of all kinds in half precision with loss scaling, whole schedules",
        "gradients on the wire only, and a small language model",
    ),
    minutes=3,
)
