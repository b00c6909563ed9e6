"""Optimizer state in 8 bits trains as well as in 32, with a quarter of its bytes; 4 bits are tried beside it."""

from typing import Any

import torch
from torch import nn

from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import ADAMW
from sooner.memory.low_bit_state import LowBitState
from sooner.update.adamw import AdamW

EIGHT, FOUR = "adamw + low_bit_state", "adamw + low_bit_state(bits=4)"
RECIPES = f"adamw; {EIGHT}; {FOUR}"


def state(bits: int, width: int) -> dict[str, Any]:
    """Return the bytes of AdamW's state for a matrix of this width, as a share of what float32 takes."""
    model = nn.Linear(width, width, bias=False)
    optimizer = AdamW(model)
    LowBitState(optimizer, bits=bits)
    model(torch.ones(1, width)).sum().backward()
    optimizer.step()
    found = sum(t.numel() * t.element_size() for t in optimizer.state[model.weight].values() if t.ndim)
    return {"share": found / (8 * width * width)}


CLAIM = Claim(
    part="low_bit_state",
    paper="",
    headline="8-bit state keeps the quality of 32-bit state at a quarter of its memory, with the same settings.",
    source="Dettmers et al., 2021, arXiv 2110.02861, abstract; 4 bits: Li et al., 2023, arXiv 2309.01507",
    experiment=(
        "A character GPT is trained by AdamW with whole state, with 8 bits and with 4: loss after the same steps, each "
        "tuned with as many trials, and bytes of state counted on a matrix."
    ),
    baseline=ADAMW,
    experiments={
        "state": Measurement(
            state,
            [{"bits": bits, "width": width} for bits in (8, 4) for width in (256, 1024)],
            [{"bits": bits, "width": 64} for bits in (8, 4)],
        ),
        "short": Race(RECIPES, "charlm", steps=250),
        "long": Race(RECIPES, "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "8 bits take at most 0.26x of the bytes",
            lambda f: f.largest("state", "share", bits=8),
            at_most=0.26,
            paper="0.25x",
        ),
        Criterion(
            "with 8 bits the loss after 1,000 steps is at most 1.01x",
            lambda f: f.final_ratio("long", EIGHT),
            at_most=1.01,
            paper="equal",
        ),
        Criterion(
            "with 4 bits at most 0.14x of the bytes",
            lambda f: f.largest("state", "share", bits=4),
            at_most=0.14,
            paper="0.13x",
        ),
        Criterion(
            "with 4 bits the loss after 1,000 steps is at most 1.02x",
            lambda f: f.final_ratio("long", FOUR),
            at_most=1.02,
            paper="comparable",
        ),
    ],
    trend={
        "8 bits, final loss, 250 steps": lambda f: f.final_ratio("short", EIGHT),
        "4 bits, final loss, 250 steps": lambda f: f.final_ratio("short", FOUR),
        "state over all parameters, 8 bits": lambda f: f.state_ratio("long", EIGHT),
        "state over all parameters, 4 bits": lambda f: f.state_ratio("long", FOUR),
    },
    regime=text_regime(
        "language models of up to 1.5B parameters, translation and images, to the end, with their usual schedules",
        "pre-training from random weights, as there; a small model, for which a block is a large part of a matrix",
    ),
    known=ON_TEXT,
    minutes=12,
    limits="One small model and short training; slow means have little time to stall.",
)
