"""bfloat16 on the wire keeps what is many orders of magnitude smaller than the rest, and costs no steps."""

from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._clusters import CODECS, FP16, LOCAL, SILENT
from sooner.claims._quadratics import exchange_of
from sooner.claims._regimes import averaging_shows, workers_regime
from sooner.claims._shape import DENSE_ADAMW

BF16 = "adamw + bf16"


def wide(arm: str) -> dict[str, Any]:
    """Return the largest relative error of single numbers between 1e-12 and 1, the same on four workers."""
    generator = torch.Generator().manual_seed(0)
    v = 10 ** (-12 * torch.rand(1000, generator=generator))
    exchange = exchange_of(arm, 4, 1000)
    for _ in range(3):
        arrived = exchange(v.expand(4, -1))
    return {"error": float(((arrived - v) / v).abs().max())}


CLAIM = Claim(
    part="bf16",
    paper="",
    headline="bfloat16 has the range of float32, so that no gradient vanishes, and training is as good as in float32.",
    source="Kalamkar et al., 2019, arXiv 1905.12322, abstract, for gradients on the wire",
    experiment=(
        "A language model is trained on text by four workers that average their gradients as float32 and as bfloat16: "
        "steps to the loss that the tuned baseline reaches, and bytes. Beside it, one exchange of numbers that span "
        "twelve orders of magnitude."
    ),
    baseline=DENSE_ADAMW,
    experiments={
        "race": CODECS,
        "wide": Measurement(wide, [{"arm": "bf16"}, {"arm": "fp16"}], [{"arm": "bf16"}, {"arm": "fp16"}]),
    },
    criteria=[
        Criterion(
            "at most 1.05x of the steps to the middle target",
            lambda f: f.steps_ratio("race", BF16),
            at_most=1.05,
            paper="1x",
        ),
        Criterion(
            "at most 0.51x of the bytes per step",
            lambda f: f.communicated("race", BF16, "wire_bytes_per_step"),
            at_most=0.51,
            paper="0.5x",
        ),
        Criterion(
            "every number between 1e-12 and 1 arrives with a relative error of at most 1 %",
            lambda f: f.largest("wide", "error", arm="bf16"),
            at_most=0.01,
        ),
        Criterion(
            "float16 loses some of them (largest relative error)",
            lambda f: f.largest("wide", "error", arm="fp16"),
            at_least=0.99,
            control=True,
        ),
        averaging_shows("race", LOCAL, SILENT),
    ],
    trend={
        "float16, steps": lambda f: f.steps_ratio("race", FP16),
        "local SGD, bytes to the target": lambda f: f.bytes_ratio("race", LOCAL),
        "no communication, final loss": lambda f: f.final_ratio("race", SILENT),
    },
    regime=workers_regime(
        "convolutional and recurrent networks and a Transformer, all tensors in bfloat16, whole schedules",
        "gradients on the wire only, and a small language model",
    ),
    minutes=3,
)
