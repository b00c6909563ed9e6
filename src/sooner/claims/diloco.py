"""An outer optimizer on the workers' mean movement makes up for rare communication."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._outer import arms, averaging_matters, over, regime

CLAIM = Claim(
    part="diloco",
    paper="",
    headline="DiLoCo on eight workers performs as well as synchronous training and communicates 500 times less.",
    source="Douillard et al., 2023, arXiv 2311.08105, abstract",
    experiment=(
        "A language model that one worker has trained for 600 steps is trained on by four workers, AdamW with cosine "
        "inside and outer steps every 20 of 2,000 steps: loss at the end, and bytes, beside averaged gradients, "
        "averages of weights, and workers that never communicate."
    ),
    baseline="AdamW with cosine and averaged float32 gradients; inner and outer rates tuned on a seed of their own.",
    experiments={"workers": arms(("dense", "local", "silent", "diloco"))},
    criteria=[
        Criterion(
            "it ends at most 1.01x as high as averaged gradients",
            lambda f: over(f, "loss", "diloco", "dense"),
            at_most=1.01,
            paper="1x",
        ),
        Criterion(
            "at most 0.06x of the bytes",
            lambda f: over(f, "bytes", "diloco", "dense"),
            at_most=0.06,
            paper="0.002x",
        ),
        Criterion(
            "lower than averages of weights at the same interval",
            lambda f: over(f, "loss", "diloco", "local"),
            at_most=1.0,
            gain=True,
            control=True,
        ),
        averaging_matters(),
    ],
    trend={
        "averages of weights, loss over averaged gradients": lambda f: over(f, "loss", "local", "dense"),
        "no communication, loss over averaged gradients": lambda f: over(f, "loss", "silent", "dense"),
    },
    regime=regime(
        "GPTs of 60M to 400M parameters on C4, pretrained for 24,000 steps; AdamW with warm-up and cosine inside, "
        "Nesterov outside, 64,000 steps in windows of 500",
        "pretrained start, AdamW with cosine inside and Nesterov outside, as there; windows of 20 and four workers",
    ),
    minutes=7,
    limits="Windows of 20 steps, where the paper takes 500; all workers draw from the same text.",
)
