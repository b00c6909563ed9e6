"""DiLoCo in fragments is as good, with a fraction of its largest message."""

from sooner.claims._claim import Claim, Criterion, Measured
from sooner.claims._clusters import ARMS, DILOCO, FP16, LOCAL, SILENT, SNOO, WINDOW, workers
from sooner.claims._findings import Findings

STREAMING = f"adamw + streaming_diloco(every={WINDOW}, fragments=4, delay=2)"


def _message(f: Findings) -> Measured:
    """Return the bytes of one message over those of DiLoCo."""
    sent = f.communicated("race", STREAMING, "payload_bytes_per_step", DILOCO)
    often = f.communicated("race", STREAMING, "messages_per_step", DILOCO)
    return Measured(sent.value / often.value, unit="x", undecided=sent.undecided or often.undecided)


CLAIM = Claim(
    part="streaming_diloco",
    paper="",
    headline="Fragments that are averaged at their own times, behind training, reach DiLoCo's quality at a lower peak.",
    source="Douillard et al., 2025, arXiv 2501.18512, abstract",
    experiment=(
        "A language model is trained on text by four workers with DiLoCo every 12 steps, and the same in four "
        "fragments that arrive two steps late: steps to the loss that the tuned baseline reaches, and bytes of "
        "a message."
    ),
    baseline="DiLoCo at the same interval; all learning rates tuned alike, AdamW with averaged gradients beside it.",
    experiments={"race": workers(ARMS, DILOCO, STREAMING)},
    criteria=[
        Criterion(
            "at most 1.1x of the steps of DiLoCo to the middle target",
            lambda f: f.steps_ratio("race", STREAMING, against=DILOCO),
            at_most=1.1,
            paper="1x",
        ),
        Criterion("a message has at most 0.3x of the bytes of DiLoCo's", _message, at_most=0.3, paper="1/fragments"),
        Criterion(
            "it ends at most 0.8x as high as workers that never communicate",
            lambda f: f.final_ratio("race", STREAMING, against=SILENT),
            at_most=0.8,
            gain=True,
            control=True,
        ),
    ],
    trend={
        "over averaged gradients, steps": lambda f: f.steps_ratio("race", STREAMING),
        "over local SGD, steps": lambda f: f.steps_ratio("race", STREAMING, against=LOCAL),
        "bytes to the target": lambda f: f.bytes_ratio("race", STREAMING),
        "float16, bytes to the target": lambda f: f.bytes_ratio("race", FP16),
        "outer momentum without local steps": lambda f: f.steps_ratio("race", SNOO),
    },
    minutes=4,
    limits="50 outer steps per fragment, of 12 steps each.",
)
