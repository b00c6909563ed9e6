"""Eight bits per number and a scale per block are enough for gradients."""

from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._clusters import CODECS, FP16, LOCAL, SILENT
from sooner.claims._quadratics import exchange_of
from sooner.claims._regimes import averaging_shows, workers_regime
from sooner.claims._shape import DENSE_ADAMW

INT8 = "adamw + int8(block=256)"


def sent(workers: int) -> dict[str, Any]:
    """Return the bytes that leave a worker in one exchange of 25,600 numbers, over those of float16."""
    counts = {}
    for arm in ("int8", "fp16"):
        exchange = exchange_of(arm, workers, 25_600)
        exchange(torch.ones(workers, 25_600))
        counts[arm] = exchange.wire.traffic.wire_bytes
    return {"ratio": counts["int8"] / counts["fp16"]}


CLAIM = Claim(
    part="int8",
    paper="",
    headline="Eight-bit numbers behind a scale per block lose nothing in training.",
    source="Dettmers et al., 2021, arXiv 2110.02861, abstract, there for optimizer states; here on the wire",
    experiment=(
        "A language model is trained on text by four workers that average their gradients as float32 and as eight-bit "
        "numbers in blocks of 256, without a memory: steps to the loss that the tuned baseline reaches, and bytes."
    ),
    baseline=DENSE_ADAMW,
    experiments={
        "race": CODECS,
        "bytes": Measurement(sent, [{"workers": n} for n in (2, 4, 8)], [{"workers": 2}]),
    },
    criteria=[
        Criterion(
            "at most 1.05x of the steps to the middle target",
            lambda f: f.steps_ratio("race", INT8),
            at_most=1.05,
            paper="1x",
        ),
        Criterion(
            "payload at most 0.26x of float32",
            lambda f: f.communicated("race", INT8, "payload_bytes_per_step"),
            at_most=0.26,
            paper="0.25x",
        ),
        Criterion(
            "with four workers at most 1.02x of the bytes of float16 on the wire",
            lambda f: f.mean("bytes", "ratio", "x", workers=4),
            at_most=1.02,
            control=True,
        ),
        averaging_shows("race", LOCAL, SILENT),
    ],
    trend={
        "on the wire over float16, 2 workers": lambda f: f.mean("bytes", "ratio", "x", workers=2),
        "the same, 8 workers": lambda f: f.mean("bytes", "ratio", "x", workers=8),
        "float16, steps": lambda f: f.steps_ratio("race", FP16),
        "local SGD, bytes to the target": lambda f: f.bytes_ratio("race", LOCAL),
        "no communication, final loss": lambda f: f.final_ratio("race", SILENT),
    },
    regime=workers_regime(
        "optimizer states of language models up to 1.5B parameters in eight bits",
        "the same code for gradients on the wire, and a small language model",
    ),
    minutes=3,
    limits="Numbers of eight bits do not add up, so every worker sends its own to all others.",
)
