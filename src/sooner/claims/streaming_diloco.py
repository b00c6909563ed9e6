"""DiLoCo in fragments is as good, with a fraction of its largest message."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._outer import arms, averaging_matters, over, regime

CLAIM = Claim(
    part="streaming_diloco",
    paper="",
    headline="Fragments that are averaged at their own times, behind training, reach DiLoCo's quality at a lower peak.",
    source="Douillard et al., 2025, arXiv 2501.18512, abstract",
    experiment=(
        "A language model that one worker has trained for 600 steps is trained on by four workers with DiLoCo every 20 "
        "of 2,000 steps, and the same in four fragments that arrive two steps late: loss at the end, and bytes of a "
        "message."
    ),
    baseline="DiLoCo at the same interval; inner and outer rates tuned on a seed of their own.",
    experiments={"workers": arms(("dense", "local", "silent", "diloco", "streaming"))},
    criteria=[
        Criterion(
            "it ends at most 1.01x as high as DiLoCo",
            lambda f: over(f, "loss", "streaming", "diloco"),
            at_most=1.01,
            paper="1x",
        ),
        Criterion(
            "a message has at most 0.3x of the bytes of DiLoCo's",
            lambda f: over(f, "message", "streaming", "diloco"),
            at_most=0.3,
            paper="1/fragments",
        ),
        averaging_matters(),
    ],
    trend={
        "loss over averaged gradients": lambda f: over(f, "loss", "streaming", "dense"),
        "loss over averages of weights": lambda f: over(f, "loss", "streaming", "local"),
        "bytes over averaged gradients": lambda f: over(f, "bytes", "streaming", "dense"),
    },
    regime=regime(
        "GPTs of 35M to 4B parameters on C4 and Dolma, AdamW with warm-up and cosine inside, Nesterov outside, windows "
        "of 30 to 100 steps",
        "AdamW with cosine inside and Nesterov outside, as there; windows of 20, four workers, a pretrained start",
    ),
    minutes=10,
    limits="A hundred outer steps per fragment, of 20 steps each; a network of four layers.",
)
