"""Harmonising two losses' gradients, and dropping samples that conflict, helps where labels are noisy."""

from sooner.claims._claim import Claim, Criterion, Race, Regime
from sooner.claims._findings import times
from sooner.claims._regimes import oracle, oracle_shows

BACKWARD = 5 / 3
"""Cost of a step: one forward and two backward passes instead of one, a backward pass costing two forward passes."""

OURS = "cma_harmony + adamw"

CLAIM = Claim(
    part="cma_harmony",
    paper="cma-harmony",
    headline="Better audio, video and text representations, and a noisier data set becomes usable.",
    source="Wu et al., 2022, arXiv 2211.02077, abstract",
    experiment=(
        "Encoders with a shared trunk learn synthetic triplets of which two in five have a wrong text: steps until "
        "clean held-out videos find their texts as well as with the plain sum of the losses, charged with the second "
        "backward pass."
    ),
    baseline="AdamW on the plain sum of the two losses, tuned with as many trials.",
    experiments={
        "triplets": Race(
            f"adamw; {OURS}; cma_harmony(realign=False) + adamw; {oracle('adamw')}", "triplets", steps=1000, seeds=16
        ),
    },
    criteria=[
        Criterion(
            "steps to the middle target at most 0.85x of the plain sum's",
            lambda f: f.steps_ratio("triplets", OURS),
            at_most=0.85,
            gain=True,
        ),
        Criterion(
            "cost to the middle target, the second backward pass counted, at most 1.0x",
            lambda f: times(f.steps_ratio("triplets", OURS), BACKWARD),
            at_most=1.0,
        ),
        Criterion(
            "final error of retrieval lower than with the plain sum",
            lambda f: f.final_ratio("triplets", OURS),
            at_most=1.0,
            gain=True,
        ),
        oracle_shows("triplets", "adamw"),
    ],
    trend={
        "dropping samples without realignment": lambda f: f.steps_ratio(
            "triplets", "cma_harmony(realign=False) + adamw"
        )
    },
    regime=Regime(
        "encoders of video, audio and text on millions of clips, AdamW with warm-up and cosine",
        "AdamW",
        "constant, from the first step on",
        "batches of synthetic triplets, two in five with a wrong text",
        "noisy labels between modalities, as there; synthetic, and small encoders",
    ),
    minutes=4,
    limits="Synthetic data; samples are dropped by micro-batch, as the loop offers gradients of whole batches only.",
)
